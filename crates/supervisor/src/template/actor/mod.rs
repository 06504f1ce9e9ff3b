//! The task that owns a template's process.
//!
//! One loop that only selects. Everything that is asked of the template has a
//! time by which it must have answered; one that has not is killed, and those
//! who waited for it are told.

mod reports;

use std::collections::{HashMap, VecDeque};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Template;
use super::book::TemplateKey;
use super::message::{ForkFailure, Pace, TemplateCommand};
use super::process::ForkedProcess;
use super::socket::{Packet, Received, TemplateSocket};
use super::templates::{Templates, learned_orders};
use super::wire::{Order, Preload};
use crate::error::ExitReason;
use crate::event::Event;
use crate::worker::Output;

/// What a template's task is given.
pub(super) struct Life {
    pub templates: Templates,
    pub template: Arc<Template>,
    pub key: TemplateKey,
    pub socket: TemplateSocket,
    /// What it is told at once.
    pub orders: Vec<Order>,
    pub inbox: mpsc::UnboundedReceiver<TemplateCommand>,
    pub pace: watch::Receiver<Pace>,
    /// What was changed later may have been imported before or after.
    pub asked_at: SystemTime,
}

impl Life {
    /// Whether it is told to import a backend.
    fn has_backend(&self) -> bool {
        self.orders.iter().any(|order| matches!(order, Order::Backend { .. }))
    }
}

/// The whole life of a template.
pub(super) async fn run(life: Life, command: Command) {
    let template = life.template.clone();
    let program = life.templates.settings().program.clone();
    let place = program.path().to_owned();
    // Where it cannot be mended, the template's end tells why.
    let _ = life.templates.pool().run(&[&place], move |_| program.mend()).await;
    match life.templates.spawner().spawn(command).await {
        Ok(child) => Actor::new(life, child).run().await,
        Err(error) => {
            let reason = format!("cannot start {}: {error}", life.key.executable.display());
            give_up(&life.templates, &life.key, &template, &reason).await;
        }
    }
    template.ended.store(true, Ordering::Release);
    template.is_learning.send_replace(false);
    // With the inbox goes what was not heard: whoever asked learns that there is
    // no answer.
}

/// The template is of no use any more, and was not told to end.
async fn give_up(templates: &Templates, key: &TemplateKey, template: &Arc<Template>, reason: &str) {
    let fallback = templates.book().failed(key, template, reason);
    templates.notify(Event::TemplateFailed { template: template.id, reason: reason.to_owned() }).await;
    if let Some(reason) = fallback {
        let (interpreter, backend) = (key.executable.clone(), key.backend.clone());
        templates.notify(Event::TemplateFallback { interpreter, backend, reason }).await;
    }
}

/// Something that the template was asked, and by when it must answer.
struct Asked<T> {
    reply: oneshot::Sender<T>,
    due_at: Instant,
}

struct Actor {
    life: Life,
    child: Child,
    pid: Option<u32>,
    /// What the interpreter prints at its start; hooks print elsewhere.
    stdout: Output<ChildStdout>,
    log: Output<ChildStderr>,
    started_at: Instant,
    /// The backend is imported, or will not be.
    ready: bool,
    ready_due_at: Instant,
    /// Since when time does not count.
    suspended_at: Option<Instant>,
    waiting: VecDeque<Packet>,
    /// Forks, by their numbers.
    forks: HashMap<u64, Asked<Result<ForkedProcess, ForkFailure>>>,
    next_fork: u64,
    /// Dead workers to be reaped, by their pids.
    reaps: HashMap<u32, Asked<Option<i32>>>,
    /// What it imports now: to be blamed for its death.
    importing: Option<Preload>,
    modules: usize,
    /// Grows with each learned module that it imports.
    learned: u64,
    /// It was told to end, or must be replaced: nothing of it counts as a
    /// failure.
    retired: bool,
}

/// What an iteration of the loop found.
enum Happening {
    Command(Option<TemplateCommand>),
    Received(Received),
    Log(Vec<u8>),
    Sent(std::io::Result<()>),
    Pace(Pace),
    Due,
}

impl Actor {
    /// How long the end of everything waits for a word about a dead worker.
    const HURRY: Duration = Duration::from_secs(1);

    fn new(life: Life, mut child: Child) -> Self {
        let now = Instant::now();
        let is_suspended = *life.pace.borrow() == Pace::Suspended;
        let waiting: VecDeque<Packet> = life.orders.iter().map(Packet::new).collect();
        Self {
            pid: child.id(),
            stdout: Output::new(child.stdout.take().expect("it is a pipe"), 1024),
            log: Output::new(child.stderr.take().expect("it is a pipe"), 1024),
            child,
            started_at: now,
            ready: false,
            ready_due_at: now + life.templates.settings().startup_timeout,
            suspended_at: is_suspended.then_some(now),
            waiting,
            forks: HashMap::new(),
            next_fork: 1,
            reaps: HashMap::new(),
            importing: None,
            modules: 0,
            learned: 0,
            retired: false,
            life,
        }
    }

    async fn run(mut self) {
        let end = loop {
            let happening = self.next().await;
            if let Some(end) = self.decide(happening).await {
                break end;
            }
        };
        self.finish(&end).await;
    }

    /// Waits for whatever comes first. Every future here is cancel-safe.
    async fn next(&mut self) -> Happening {
        let due_at = self.due_at();
        let timer = async {
            match due_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // Reading and sending need the socket at the same time.
        let Life { socket, inbox, pace, .. } = &mut self.life;
        let (sender, receiver) = socket.halves();
        let send = async {
            match self.waiting.front() {
                Some(packet) => sender.send(packet).await,
                None => std::future::pending().await,
            }
        };
        // What was said counts before what is due: both may be, after a stop of
        // this process.
        tokio::select! {
            biased;
            received = receiver.receive() => Happening::Received(received),
            // The sender lives as long as the templates that this task holds.
            _ = pace.changed() => Happening::Pace(*pace.borrow_and_update()),
            sent = send => Happening::Sent(sent),
            command = inbox.recv() => Happening::Command(command),
            bytes = self.log.next() => Happening::Log(bytes.to_vec()),
            bytes = self.stdout.next() => Happening::Log(bytes.to_vec()),
            () = timer => Happening::Due,
        }
    }

    /// When the template must have done something.
    fn due_at(&self) -> Option<Instant> {
        if self.suspended_at.is_some() {
            return None;
        }
        let ready = (!self.ready).then_some(self.ready_due_at);
        let forks = self.forks.values().map(|fork| fork.due_at);
        let reaps = self.reaps.values().map(|reap| reap.due_at);
        forks.chain(reaps).chain(ready).min()
    }

    /// What follows; a reason if the template's life is over.
    async fn decide(&mut self, happening: Happening) -> Option<String> {
        match happening {
            Happening::Command(Some(command)) => self.obey(command),
            Happening::Command(None) => return Some("nobody needs it".into()),
            Happening::Received(Received::Report(report)) => self.report(report).await,
            Happening::Received(Received::Nonsense(text)) => self.log_line(&format!("unexpected report: {text}")).await,
            Happening::Received(Received::End) => return Some("it ended".into()),
            Happening::Log(bytes) => self.log(&bytes).await,
            Happening::Sent(Ok(())) => drop(self.waiting.pop_front()),
            Happening::Sent(Err(error)) => return Some(format!("it cannot be spoken to: {error}")),
            Happening::Pace(Pace::AtOnce) => {
                self.retired = true;
                return Some("everything ends".into());
            }
            Happening::Pace(pace) => self.set_pace(pace),
            Happening::Due => {
                let backend = self.life.key.backend.as_deref().unwrap_or_default();
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

    fn set_pace(&mut self, pace: Pace) {
        let now = Instant::now();
        match pace {
            Pace::Suspended => {
                self.suspended_at.get_or_insert(now);
            }
            Pace::Normal | Pace::Hurried | Pace::AtOnce => {
                if let Some(since) = self.suspended_at.take() {
                    self.postpone(now - since);
                }
            }
        }
        if pace == Pace::Hurried {
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
            TemplateCommand::Fork { arguments, descriptors, reply } => {
                let fork = self.next_fork;
                self.next_fork += 1;
                let due_at = self.answer_due_at();
                self.forks.insert(fork, Asked { reply, due_at });
                self.waiting.push_back(Packet::new(&Order::Fork { fork, arguments }).with(descriptors));
            }
            TemplateCommand::Reap { pid, reply } => {
                let due_at = self.answer_due_at();
                self.reaps.insert(pid, Asked { reply, due_at });
                self.waiting.push_back(Packet::new(&Order::Reap { reap: pid }));
            }
            TemplateCommand::Learn(names) => {
                if !self.retired {
                    self.waiting.extend(learned_orders(&names).map(|order| Packet::new(&order)));
                }
            }
            TemplateCommand::Retire => {
                self.retired = true;
                self.life.template.is_learning.send_replace(false);
                self.waiting.push_back(Packet::new(&Order::Retire { retire: true }));
            }
        }
    }

    /// By when the template must answer what it is asked now.
    fn answer_due_at(&self) -> Instant {
        let now = Instant::now();
        if *self.life.pace.borrow() == Pace::Hurried {
            return now + Self::HURRY;
        }
        let due_at = now + self.life.templates.settings().answer_timeout;
        if self.ready { due_at } else { due_at.max(self.ready_due_at) }
    }

    /// The end of everything, told to all who wait.
    async fn finish(mut self, reason: &str) {
        let exit = self.child.try_wait().ok().flatten();
        // Its descendants lose nothing by it: workers see the end of their own
        // input, and are adopted.
        let _ = self.child.start_kill();
        let exit = match exit {
            Some(exit) => Some(exit),
            None => self.child.wait().await.ok(),
        };
        if let Some(pid) = self.pid {
            self.life.templates.spawner().forget(pid).await;
        }
        let template = self.life.template.clone();
        template.ended.store(true, Ordering::Release);
        let how = exit.map_or_else(String::new, |exit| format!(": the template {}", ExitReason::from(exit)));
        let reason = format!("{reason}{how}");
        if self.retired {
            self.notify(Event::TemplateExited { template: template.id }).await;
        } else {
            self.blame().await;
            give_up(&self.life.templates, &self.life.key, &template, &reason).await;
        }
        for (_, fork) in self.forks.drain() {
            let _ = fork.reply.send(Err(ForkFailure { reason: reason.clone() }));
        }
        for pid in self.unwanted() {
            self.life.templates.spawner().forget(pid).await;
        }
        // Workers that it forked and could not tell of are ours now, and
        // nobody's.
        for pid in self.life.templates.spawner().sweep().await {
            self.notify(Event::OrphanKilled { pid }).await;
        }
    }

    /// Workers that nobody waits for any more.
    fn unwanted(&mut self) -> Vec<u32> {
        let unwanted = |(pid, reap): (u32, Asked<Option<i32>>)| reap.reply.is_closed().then_some(pid);
        self.reaps.drain().filter_map(unwanted).collect()
    }

    /// When a template died of learned modules, the next go without.
    async fn blame(&mut self) {
        if self.importing == Some(Preload::Learned) {
            self.life.templates.book().refuse_learned(&self.life.key);
            self.refused_event(Preload::Learned, "the template ended while it imported them".to_owned()).await;
        }
    }

    async fn refused_event(&self, refused: Preload, reason: String) {
        let backend = self.life.key.backend.clone().filter(|_| refused == Preload::Backend);
        self.notify(Event::PreloadRefused { template: self.life.template.id, backend, reason }).await;
    }

    async fn log(&mut self, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
            self.log_line(line).await;
        }
    }

    async fn log_line(&self, line: &str) {
        self.notify(Event::TemplateLog { template: self.life.template.id, line: line.to_owned() }).await;
    }

    async fn notify(&self, event: Event) {
        self.life.templates.notify(event).await;
    }
}
