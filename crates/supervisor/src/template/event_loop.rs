//! A template that has a process. The loop sends orders, receives reports and
//! carries out what follows from them, until the process has ended.
//!
//! Every order that has an answer has a deadline. A template that misses one is
//! killed, and all pending orders fail.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::forked_process::ForkedProcess;
use super::protocol::{
    Imported, LoadedModule, Preload, Refused, Started, TemplateOrder, TemplateReport, learned_orders, watched_folders,
};
use super::socket::{Packet, Received};
use super::task::{TemplateContext, fail};
use super::{NotForked, Pace, TemplateCommand, Tempo};
use crate::error::ExitReason;
use crate::event::Event;
use crate::interpreter::Watched;
use crate::worker::Output;

/// An order that the template has not answered yet.
struct PendingOrder<T> {
    reply: oneshot::Sender<T>,
    due_at: Instant,
    /// What the template was told to learn before it got the order.
    learned_version: u64,
}

/// The state of a template that has a process.
pub(super) struct EventLoop {
    context: TemplateContext,
    child: Child,
    pid: Option<u32>,
    /// Carries only what the interpreter prints when it starts. Hooks have an
    /// output of their own.
    stdout: Output<ChildStdout>,
    log: Output<ChildStderr>,
    started_at: Instant,
    /// The backend is imported, or was refused.
    ready: bool,
    ready_due_at: Instant,
    /// For how long the supervisor was suspended, as far as deadlines allow for it.
    suspended: Duration,
    /// Orders that are not sent yet.
    unsent: VecDeque<Packet>,
    /// By the numbers of the forks.
    forks: HashMap<u64, PendingOrder<Result<ForkedProcess, NotForked>>>,
    next_fork: u64,
    /// By the pids of the dead workers.
    reaps: HashMap<u32, PendingOrder<Option<i32>>>,
    /// What the template imports now. If it dies meanwhile, these imports are the
    /// probable cause.
    importing: Option<Preload>,
    /// The number of modules that it has loaded.
    modules: usize,
    /// It was told to end, or must be replaced. Its end does not count as a
    /// failure.
    retired: bool,
}

/// What the loop waits for.
enum LoopEvent {
    Command(Option<TemplateCommand>),
    Received(Received),
    Log(Vec<u8>),
    Sent(std::io::Result<()>),
    Tempo(Tempo),
    /// A deadline has passed.
    Overdue,
}

impl EventLoop {
    /// How long a supervisor that is shutting down waits for an answer.
    const HURRY: Duration = Duration::from_secs(1);

    /// For how long a template may import learned modules before it forks.
    const LEARNING: Duration = Duration::from_secs(1);

    pub fn new(mut context: TemplateContext, mut child: Child) -> Self {
        let now = Instant::now();
        let suspended = context.tempo.borrow().suspended_until(now);
        let mut unsent: VecDeque<Packet> = context.orders.iter().map(Packet::new).collect();
        if let Some(variables) = context.variables.take() {
            // Before all imports.
            unsent.push_front(Packet::new(&TemplateOrder::Variables { variables: true }).with(variables));
        }
        Self {
            pid: child.id(),
            stdout: Output::new(child.stdout.take().expect("it is a pipe"), 1024),
            log: Output::new(child.stderr.take().expect("it is a pipe"), 1024),
            child,
            started_at: now,
            ready: false,
            ready_due_at: now + context.templates.settings.startup_timeout,
            suspended,
            unsent,
            forks: HashMap::new(),
            next_fork: 1,
            reaps: HashMap::new(),
            importing: None,
            modules: 0,
            retired: false,
            context,
        }
    }

    pub async fn run(mut self) {
        let end = loop {
            let event = self.next().await;
            if let Some(end) = self.decide(event).await {
                break end;
            }
        };
        self.finish(&end).await;
    }

    /// Waits for the first event. All futures here are cancel-safe.
    async fn next(&mut self) -> LoopEvent {
        let deadline = self.deadline();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // The socket is read and written at the same time.
        let TemplateContext { socket, inbox, tempo, .. } = &mut self.context;
        let (sender, receiver) = socket.halves();
        let send = async {
            match self.unsent.front() {
                Some(packet) => sender.send(packet).await,
                None => std::future::pending().await,
            }
        };
        // Reports come before the timer: when this process was stopped and
        // continues, both can be ready, and the answer is not late then.
        tokio::select! {
            biased;
            received = receiver.receive() => LoopEvent::Received(received),
            // The sender belongs to the `Templates`, which this task holds.
            _ = tempo.changed() => LoopEvent::Tempo(*tempo.borrow_and_update()),
            sent = send => LoopEvent::Sent(sent),
            command = inbox.recv() => LoopEvent::Command(command),
            bytes = self.log.next() => LoopEvent::Log(bytes.to_vec()),
            bytes = self.stdout.next() => LoopEvent::Log(bytes.to_vec()),
            () = timer => LoopEvent::Overdue,
        }
    }

    /// The first deadline of all pending orders and of the start.
    fn deadline(&self) -> Option<Instant> {
        if self.context.tempo.borrow().pace == Pace::Suspended {
            return None;
        }
        let ready = (!self.ready).then_some(self.ready_due_at);
        let forks = self.forks.values().map(|fork| fork.due_at);
        let reaps = self.reaps.values().map(|reap| reap.due_at);
        forks.chain(reaps).chain(ready).min()
    }

    /// Handles an event. Returns a reason if the template is to end, or has
    /// ended.
    async fn decide(&mut self, event: LoopEvent) -> Option<String> {
        match event {
            LoopEvent::Command(Some(command)) => self.obey(command),
            LoopEvent::Command(None) => return Some("it is not needed any more".into()),
            LoopEvent::Received(Received::Report(report)) => self.report(report).await,
            LoopEvent::Received(Received::Invalid(text)) => self.log_line(&format!("unexpected report: {text}")).await,
            LoopEvent::Received(Received::End) => return Some("it ended".into()),
            LoopEvent::Log(bytes) => self.log(&bytes).await,
            LoopEvent::Sent(Ok(())) => drop(self.unsent.pop_front()),
            LoopEvent::Sent(Err(error)) => return Some(format!("an order cannot be sent to it: {error}")),
            LoopEvent::Tempo(Tempo { pace: Pace::AtOnce, .. }) => {
                self.retired = true;
                return Some("the supervisor ends".into());
            }
            LoopEvent::Tempo(tempo) => self.set_tempo(tempo),
            LoopEvent::Overdue => {
                let backend = self.context.key.backend.as_deref().unwrap_or_default();
                let imports = match self.importing {
                    None => String::new(),
                    Some(Preload::Backend) => format!(" (it imports {backend})"),
                    Some(Preload::Learned) => " (it imports learned modules)".to_owned(),
                };
                return Some(format!("it did not answer in time{imports}"));
            }
        }
        None
    }

    fn set_tempo(&mut self, tempo: Tempo) {
        let now = Instant::now();
        if tempo.pace != Pace::Suspended {
            let suspended = tempo.suspended_until(now);
            self.postpone(suspended - self.suspended);
            self.suspended = suspended;
        }
        if tempo.pace == Pace::Hurried {
            self.reaps.values_mut().for_each(|reap| reap.due_at = reap.due_at.min(now + Self::HURRY));
        }
    }

    fn postpone(&mut self, by: Duration) {
        self.ready_due_at += by;
        self.forks.values_mut().for_each(|fork| fork.due_at += by);
        self.reaps.values_mut().for_each(|reap| reap.due_at += by);
    }

    fn obey(&mut self, command: TemplateCommand) {
        match command {
            TemplateCommand::Fork { arguments, descriptors, has_variables: variables, caller, reply } => {
                let fork = self.next_fork;
                self.next_fork += 1;
                let mut order = self.pending(reply);
                if *self.context.template.is_learning.borrow() {
                    order.due_at += Self::LEARNING;
                }
                self.forks.insert(fork, order);
                let umask = caller.as_ref().map(|caller| caller.umask);
                let limits = caller.iter().flat_map(|caller| &caller.limits);
                let limits = limits.map(|limit| (limit.resource.clone(), limit.soft, limit.hard)).collect();
                let order = TemplateOrder::Fork { fork, arguments, variables, umask, limits };
                self.unsent.push_back(Packet::new(&order).with(descriptors));
            }
            TemplateCommand::Reap { pid, reply } => {
                let order = self.pending(reply);
                self.reaps.insert(pid, order);
                self.unsent.push_back(Packet::new(&TemplateOrder::Reap { reap: pid }));
            }
            TemplateCommand::Learn(names) => {
                if !self.retired {
                    self.unsent.extend(learned_orders(&names).map(|order| Packet::new(&order)));
                    self.context.template.learned_version.fetch_add(1, Ordering::Relaxed);
                }
            }
            TemplateCommand::Retire => {
                self.retired = true;
                self.context.template.is_learning.send_replace(false);
                self.unsent.push_back(Packet::new(&TemplateOrder::Retire { retire: true }));
            }
        }
    }

    /// An order that is given now.
    fn pending<T>(&self, reply: oneshot::Sender<T>) -> PendingOrder<T> {
        let learned_version = self.context.template.learned_version();
        PendingOrder { reply, due_at: self.new_deadline(), learned_version }
    }

    /// The deadline of an order that is given now.
    fn new_deadline(&self) -> Instant {
        let now = Instant::now();
        if self.context.tempo.borrow().pace == Pace::Hurried {
            return now + Self::HURRY;
        }
        let due_at = now + self.context.templates.settings.answer_timeout;
        if self.ready { due_at } else { due_at.max(self.ready_due_at) }
    }

    async fn report(&mut self, report: TemplateReport) {
        match report {
            TemplateReport::Started { started } => self.started(started).await,
            TemplateReport::Importing { importing } => self.importing = Some(importing),
            TemplateReport::Imported(imported) => self.imported(imported).await,
            TemplateReport::Refused(refused) => self.refused(refused).await,
            TemplateReport::Forked { forked, pid } => self.forked(forked, pid).await,
            TemplateReport::NotForked { not_forked, reason, differs } => {
                if let Some(fork) = self.forks.remove(&not_forked) {
                    let _ = fork.reply.send(Err(if differs { NotForked::Differs } else { NotForked::Failed(reason) }));
                }
            }
            TemplateReport::Read { read } => {
                self.context.templates.selector().add_read(&self.context.key, &read);
            }
            TemplateReport::Reaped { reaped, status } => {
                if let Some(reap) = self.reaps.remove(&reaped)
                    && reap.reply.send(status).is_err()
                {
                    // The handle of the worker was dropped.
                    self.context.templates.spawner.forget(reaped).await;
                }
            }
            TemplateReport::Killed { killed } => {
                for pid in killed {
                    self.notify(Event::OrphanKilled { pid }).await;
                }
            }
            TemplateReport::Idle { idle } => {
                self.context.template.is_learning.send_replace(false);
                self.context.templates.save().await;
                self.notify(Event::TemplateLearned { template: self.context.template.id, modules: idle }).await;
            }
        }
    }

    async fn started(&mut self, started: Started) {
        self.modules += started.modules.len();
        self.watch(&started.modules, &started.folders).await;
        if !self.context.has_backend() && !started.more {
            self.backend_finished().await;
        }
    }

    async fn watch(&self, modules: &[LoadedModule], folders: &[(PathBuf, Option<i64>)]) {
        let (place, folders) = (&self.context.key.executable, folders.to_owned());
        let look = move |_: &_| watched_folders(&folders);
        let looked = self.context.templates.pool.run(&[place], look).await;
        // A folder that cannot be read now is checked again before the next
        // hook.
        let (archives, folders): (Vec<_>, Vec<_>) = looked.unwrap_or_default().into_iter().partition(Watched::is_file);
        let freshness = &self.context.template.freshness;
        let files = modules.iter().map(LoadedModule::watched).chain(archives);
        freshness.watch(files.collect(), self.context.asked_at);
        // The modification time of a folder also changes when the first import
        // writes bytecode to it, so it is not compared with `asked_at`.
        freshness.watch_as_it_is(folders);
    }

    async fn imported(&mut self, imported: Imported) {
        self.modules += imported.modules.len();
        self.watch(&imported.modules, &imported.folders).await;
        if imported.more {
            return;
        }
        self.importing = None;
        if imported.imported == Preload::Backend {
            self.backend_finished().await;
        }
    }

    async fn refused(&mut self, refused: Refused) {
        self.importing = None;
        let Refused { refused: what, reason, spoilt } = refused;
        if spoilt {
            // Its workers continue. Later ones are forked from another template.
            self.retired = true;
            self.context.template.is_learning.send_replace(false);
            let mut selector = self.context.templates.selector();
            match what {
                Preload::Backend => selector.refuse_backend(&self.context.key, &self.context.template),
                Preload::Learned => selector.refuse_learned(&self.context.key),
            }
            selector.retire(&self.context.template);
        }
        self.notify_refusal(what, reason).await;
        if what == Preload::Backend {
            self.backend_finished().await;
        }
    }

    async fn backend_finished(&mut self) {
        if !self.ready {
            self.ready = true;
            let (template, modules) = (self.context.template.id, self.modules);
            let after = self.started_at.elapsed();
            self.notify(Event::TemplateReady { template, pid: self.pid.unwrap_or(0), modules, after }).await;
        }
    }

    async fn forked(&mut self, fork: u64, pid: u32) {
        let pending = self.forks.remove(&fork);
        let learned_version = pending.as_ref().map_or(0, |pending| pending.learned_version);
        let template = &self.context.template;
        // Only a template that is alive guarantees that the pid is still the
        // worker's.
        let process = match self.child.try_wait() {
            Ok(None) => ForkedProcess::open(pid, template.clone(), learned_version)
                .map_err(|error| format!("its worker cannot be watched: pidfd_open: {error}")),
            _ => Err("it ended".to_owned()),
        };
        let Some(pending) = pending else { return };
        match process {
            Ok(process) => {
                // Otherwise the sweep would take it for an orphan if its
                // template died.
                self.context.templates.spawner.adopt(pid).await;
                // If the receiver is gone, the process is dropped, and killed
                // thereby.
                let _ = pending.reply.send(Ok(process));
            }
            Err(reason) => {
                // The other end of its input is closed, so it ends by itself.
                self.unsent.push_back(Packet::new(&TemplateOrder::Reap { reap: pid }));
                self.log_line(&reason).await;
                let _ = pending.reply.send(Err(NotForked::Failed(reason)));
            }
        }
    }

    /// Ends the process if it runs, reports its end, and answers all pending
    /// orders.
    async fn finish(mut self, reason: &str) {
        let exit = self.child.try_wait().ok().flatten();
        // SIGKILL at once does no harm: the template has nothing to clean up,
        // and its workers are adopted and continue.
        let _ = self.child.start_kill();
        let exit = match exit {
            Some(exit) => Some(exit),
            None => self.child.wait().await.ok(),
        };
        if let Some(pid) = self.pid {
            self.context.templates.spawner.forget(pid).await;
        }
        let template = self.context.template.clone();
        template.ended.store(true, Ordering::Release);
        let how = exit.map_or_else(String::new, |exit| format!(": the template {}", ExitReason::from(exit)));
        let reason = format!("{reason}{how}");
        if self.retired {
            self.notify(Event::TemplateExited { template: template.id }).await;
        } else {
            self.refuse_imports().await;
            fail(&self.context.templates, &self.context.key, &template, &reason).await;
        }
        for (_, fork) in self.forks.drain() {
            let _ = fork.reply.send(Err(NotForked::Failed(reason.clone())));
        }
        let unwanted = |(pid, reap): (u32, PendingOrder<Option<i32>>)| reap.reply.is_closed().then_some(pid);
        let unwanted: Vec<u32> = self.reaps.drain().filter_map(unwanted).collect();
        for pid in unwanted {
            self.context.templates.spawner.forget(pid).await;
        }
        // Workers that it forked and did not report have become children of
        // this process, and no task owns them.
        for pid in self.context.templates.spawner.sweep().await {
            self.notify(Event::OrphanKilled { pid }).await;
        }
    }

    /// If the template died while it imported learned modules, later templates do
    /// not import them.
    async fn refuse_imports(&mut self) {
        if self.importing == Some(Preload::Learned) {
            self.context.templates.selector().refuse_learned(&self.context.key);
            self.notify_refusal(Preload::Learned, "the template ended while it imported them".to_owned()).await;
        }
    }

    async fn notify_refusal(&self, refused: Preload, reason: String) {
        let backend = self.context.key.backend.clone().filter(|_| refused == Preload::Backend);
        self.notify(Event::PreloadRefused { template: self.context.template.id, backend, reason }).await;
    }

    async fn log(&mut self, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
            self.log_line(line).await;
        }
    }

    async fn log_line(&self, line: &str) {
        self.notify(Event::TemplateLog { template: self.context.template.id, line: line.to_owned() }).await;
    }

    async fn notify(&self, event: Event) {
        self.context.templates.notify(event).await;
    }
}
