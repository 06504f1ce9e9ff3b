//! A worker that has a process. The loop receives events, the [`Machine`]
//! decides, and [`EventLoop::apply`] carries out the effects. It ends when the
//! process was waited for.
//!
//! The effects of the worker's messages are carried out in order. While one of
//! them waits for the disk, no other message is read; commands, signals and the
//! end of the process are not delayed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hookd_protocol::{ImportedModule, LineDecoder, Message, ShadowedModule};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::capture_files::{CaptureFiles, EmptyCaptures};
use super::freshness::WorkerFreshness;
use super::machine::{Effect, Machine};
use super::memory;
use super::message::{Acknowledgement, Ending, Finished, Lease, WorkerCommand, WorkerEvent};
use super::pipes::{Input, LogTail, Output};
use super::process::WorkerProcess;
use super::start::StartedWorker;
use super::task::{Reporter, WorkerContext};
use crate::error::ExitReason;
use crate::event::Event;
use crate::ids::WorkerId;
use crate::interpreter::file_clock;
use crate::response::{Isolation, StartMethod};

/// The state of a worker that has a process.
pub(super) struct EventLoop {
    context: WorkerContext,
    reporter: Reporter,
    machine: Machine,
    started_at: Instant,
    tree: PathBuf,
    process: WorkerProcess,
    freshness: Arc<WorkerFreshness>,
    /// The time of the last lease.
    leased_at: SystemTime,
    exit: Option<ExitReason>,
    input: Input,
    output: Output<pipe::Receiver>,
    log: Output<pipe::Receiver>,
    lines: LineDecoder,
    log_tail: LogTail,
    commands_ended: bool,
    /// Dropped when all input is written.
    told: Option<Acknowledgement>,
    /// An answer that waits until the imports of its hook are watched. The caller
    /// may change files as soon as it has the answer, and such a change must be
    /// noticed.
    held: Option<Box<Finished>>,
    /// An answer whose capture files are being taken from the worker.
    captured: Option<Box<Finished>>,
    /// The worker may use them for the next hook.
    empty_captures: EmptyCaptures,
    /// Effects of the worker's messages that are not carried out yet.
    effects: VecDeque<Effect>,
    /// The work on files that they wait for.
    looking: Option<BoxFuture<'static, Looked>>,
}

/// The result of work on files.
enum Looked {
    /// The modules that the hook imported are watched.
    Imported,
    /// The capture files are taken from the worker.
    Captured(CaptureFiles, EmptyCaptures),
}

/// What the loop waits for.
enum LoopEvent {
    Command(Option<WorkerCommand>),
    Output(Vec<u8>),
    Log(Vec<u8>),
    Exited(ExitReason),
    Memory(u64),
    Looked(Looked),
    Tick,
    Wrote,
}

impl EventLoop {
    const MEMORY_INTERVAL: Duration = Duration::from_millis(200);
    /// How long an answer waits for the output of a worker that has ended.
    const LAST_LOOK: Duration = Duration::from_secs(1);

    pub fn new(
        context: WorkerContext,
        reporter: Reporter,
        id: WorkerId,
        worker: StartedWorker,
        tree: PathBuf,
        started_at: Instant,
    ) -> Self {
        let machine = Machine::new(id, context.settings.isolation, context.limits.borrow().clone(), Instant::now());
        Self {
            reporter,
            machine,
            started_at,
            tree,
            process: worker.process,
            freshness: Arc::new(worker.freshness),
            leased_at: file_clock(),
            exit: None,
            input: Input::new(worker.input),
            output: Output::new(worker.output, 8 * 1024),
            log: Output::new(worker.log, 1024),
            lines: LineDecoder::new(),
            log_tail: LogTail::default(),
            commands_ended: false,
            told: None,
            held: None,
            captured: None,
            empty_captures: EmptyCaptures::default(),
            effects: VecDeque::new(),
            looking: None,
            context,
        }
    }

    /// The supervisor was suspended before the worker had a process.
    pub fn begin_suspended(&mut self) {
        self.machine.suspend(Instant::now());
    }

    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<WorkerCommand>) {
        let mut sampling = tokio::time::interval(Self::MEMORY_INTERVAL);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = self.next(&mut commands, &mut sampling).await;
            for effect in self.decide(event, Instant::now()) {
                if let Effect::Gone(ending) = effect {
                    return self.finish(ending).await;
                }
                self.apply(effect).await;
            }
            while self.looking.is_none()
                && let Some(effect) = self.effects.pop_front()
            {
                if let Effect::Gone(ending) = effect {
                    return self.finish(ending).await;
                }
                self.apply(effect).await;
            }
            if self.input.is_flushed() {
                self.told = None;
            }
        }
    }

    /// Waits for the first event. All futures here are cancel-safe.
    async fn next(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<WorkerCommand>,
        sampling: &mut tokio::time::Interval,
    ) -> LoopEvent {
        let next_at = self.machine.next_at();
        let limits_memory = self.machine.hook_memory_limit().is_some();
        let (pid, with_worker) = (self.process.id(), self.context.settings.isolation == Isolation::None);
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = commands.recv(), if !self.commands_ended => LoopEvent::Command(command),
            Some(looked) = look(&mut self.looking) => LoopEvent::Looked(looked),
            bytes = self.output.next(), if self.looking.is_none() => LoopEvent::Output(bytes.to_vec()),
            bytes = self.log.next() => LoopEvent::Log(bytes.to_vec()),
            exit = self.process.wait() => LoopEvent::Exited(exit),
            () = self.input.make_progress() => LoopEvent::Wrote,
            _ = sampling.tick(), if limits_memory => LoopEvent::Memory(memory_used(pid, with_worker).await),
            () = timer => LoopEvent::Tick,
        }
    }

    /// Returns the effects to carry out at once. Those of the worker's messages
    /// are queued.
    fn decide(&mut self, event: LoopEvent, now: Instant) -> Vec<Effect> {
        match event {
            LoopEvent::Command(Some(command)) => self.obey(command, now),
            // The dispatcher has ended.
            LoopEvent::Command(None) => {
                self.commands_ended = true;
                self.machine.terminate(Ending::Planned, now)
            }
            LoopEvent::Output(bytes) => {
                let effects = if bytes.is_empty() { self.output_ended(now) } else { self.read(&bytes, now) };
                self.effects.extend(effects);
                Vec::new()
            }
            LoopEvent::Log(bytes) => {
                let lines = self.log_tail.push(&bytes);
                self.logged(lines)
            }
            LoopEvent::Exited(exit) => {
                self.exit = Some(exit.clone());
                self.machine.exited(exit, now)
            }
            LoopEvent::Memory(bytes) => match self.machine.hook_memory_limit() {
                Some(limit) if bytes > limit.get() => self.machine.memory_exceeded(bytes, now),
                _ => Vec::new(),
            },
            LoopEvent::Looked(Looked::Imported) => {
                self.let_go();
                Vec::new()
            }
            LoopEvent::Looked(Looked::Captured(files, empty_captures)) => {
                self.empty_captures = empty_captures;
                self.report_finished(files);
                Vec::new()
            }
            LoopEvent::Tick => self.machine.tick(now),
            LoopEvent::Wrote => Vec::new(),
        }
    }

    /// A hook has imported these modules, into the worker itself with isolation
    /// `none`. Templates learn from them.
    fn imported(&mut self, modules: Vec<ImportedModule>) {
        let settings = &self.context.settings;
        if settings.start_method == StartMethod::Forkserver {
            self.context.templates.learn(self.freshness.key(), &modules);
        }
        if settings.isolation == Isolation::Hook || modules.is_empty() {
            return self.let_go();
        }
        let (freshness, pool, since) = (self.freshness.clone(), self.context.pool.clone(), self.leased_at);
        let look = async move {
            freshness.imported(&modules, since, &pool).await;
            Looked::Imported
        };
        self.looking = Some(look.boxed());
    }

    async fn shadowed(&mut self, modules: Vec<ShadowedModule>) {
        for ShadowedModule { name, loaded, found } in modules {
            let event = Event::PreloadShadowed { tree: self.tree.clone(), module: name, loaded, found };
            self.reporter.report(WorkerEvent::Observed(event)).await;
        }
    }

    fn lease(&mut self, lease: Lease, now: Instant) -> Vec<Effect> {
        self.leased_at = file_clock();
        if let Some(tree) = &lease.tree {
            self.tree.clone_from(&tree.path);
        }
        self.machine.set_limits(self.context.limits.borrow().clone());
        self.machine.lease(lease, now)
    }

    fn obey(&mut self, command: WorkerCommand, now: Instant) -> Vec<Effect> {
        match command {
            WorkerCommand::Lease(lease) => self.lease(lease, now),
            WorkerCommand::Cancel { request, canceller } => self.machine.cancel(request, canceller, now),
            WorkerCommand::Interrupt(signal) => self.machine.interrupt(signal, now),
            WorkerCommand::Stop => self.machine.stop(now),
            WorkerCommand::Terminate => self.machine.terminate(Ending::Planned, now),
            WorkerCommand::Suspend(told) => {
                self.told = Some(told);
                self.machine.suspend(now)
            }
            WorkerCommand::Resume => self.machine.resume(now),
        }
    }

    fn read(&mut self, bytes: &[u8], now: Instant) -> Vec<Effect> {
        self.lines.push(bytes);
        let mut effects = Vec::new();
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => effects.extend(self.read_line(&line, now)),
                Ok(None) => return effects,
                Err(error) => {
                    effects.extend(self.machine.violation(&error.to_string(), now));
                    return effects;
                }
            }
        }
    }

    fn read_line(&mut self, line: &[u8], now: Instant) -> Vec<Effect> {
        let parsed = Message::parse(line);
        if self.machine.tolerates_noise() && !matches!(parsed, Ok(Message::Ready | Message::Fatal(_))) {
            let lines = self.log_tail.push_noise(line);
            return self.logged(lines);
        }
        match parsed {
            Ok(message) => self.machine.message(message, now),
            Err(error) => self.machine.violation(&error.to_string(), now),
        }
    }

    fn output_ended(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = match self.lines.finish() {
            Ok(()) => Vec::new(),
            Err(unfinished) => {
                let line = unfinished.to_string();
                self.logged(vec![line])
            }
        };
        effects.extend(self.machine.output_ended(now));
        effects
    }

    fn logged(&self, lines: Vec<String>) -> Vec<Effect> {
        let worker = self.reporter.worker;
        lines.into_iter().map(|line| Effect::observe(Event::WorkerLog { worker, line })).collect()
    }

    async fn apply(&mut self, effect: Effect) {
        let event = match effect {
            Effect::Write(bytes) => return self.input.push(&bytes),
            Effect::CloseInput => return self.input.close(),
            Effect::SignalWorker(signal) => return self.process.signal(signal),
            Effect::SignalGroup(signal) => return self.process.signal_group(signal),
            Effect::Imported(modules) => return self.imported(modules),
            Effect::Shadowed(modules) => return self.shadowed(modules).await,
            Effect::Finished(finished) if self.keeps_imports() => {
                self.held = Some(finished);
                return;
            }
            Effect::Finished(finished) => return self.take_output(finished),
            Effect::Ready => WorkerEvent::Ready {
                pid: self.process.id(),
                start_method: self.process.start_method(),
                after: self.started_at.elapsed(),
                freshness: Some(self.freshness.clone()),
            },
            Effect::Report(event @ WorkerEvent::Idle { .. }) if self.held.is_some() => {
                // The worker has reported no imports of this hook.
                self.effects.push_front(Effect::Report(event));
                return self.let_go();
            }
            Effect::Report(event) => event,
            Effect::Gone(_) => unreachable!("the loop ends with it"),
        };
        self.reporter.report(event).await;
    }

    /// Whether modules that hooks import stay in the worker and are watched.
    fn keeps_imports(&self) -> bool {
        let settings = &self.context.settings;
        settings.isolation == Isolation::None && settings.check_freshness
    }

    fn let_go(&mut self) {
        if let Some(finished) = self.held.take() {
            self.take_output(finished);
        }
    }

    /// Gives an answer, once its capture files are taken from the worker.
    fn take_output(&mut self, mut finished: Box<Finished>) {
        let files = std::mem::take(&mut finished.files);
        self.captured = Some(finished);
        if files.is_empty() {
            files.leave(&mut self.empty_captures);
            return self.report_finished(CaptureFiles::default());
        }
        let (keep_whole, pool) = (self.context.settings.keep_output, self.context.pool.clone());
        let place = self.context.settings.capture_folder.clone();
        let mut empty = std::mem::take(&mut self.empty_captures);
        let look = async move {
            let work = move |_: &_| (files.take(keep_whole, &mut empty), empty);
            // If the disk does not respond, the result is given without output.
            let (files, empty) = pool.run(&[&place], work).await.unwrap_or_default();
            Looked::Captured(files, empty)
        };
        self.looking = Some(look.boxed());
    }

    fn report_finished(&mut self, files: CaptureFiles) {
        if let Some(mut finished) = self.captured.take() {
            finished.files = files;
            self.effects.push_front(Effect::Report(WorkerEvent::Finished(finished)));
        }
    }

    async fn finish(mut self, ending: Ending) {
        let lines = self.log_tail.push(&self.log.rest());
        for effect in self.logged(lines) {
            self.apply(effect).await;
        }
        self.last_words().await;
        let pid = self.process.id();
        self.context.spawner.forget(pid).await;
        // Files that remain on a slow disk are removed with their folder.
        let _ = tokio::time::timeout(Self::LAST_LOOK, std::mem::take(&mut self.empty_captures).delete()).await;
        let ending = match ending {
            Ending::StartFailed { reason, lasting } => {
                Ending::StartFailed { reason: self.log_tail.explain(reason), lasting }
            }
            Ending::Crashed(reason) => Ending::Crashed(self.log_tail.explain(reason)),
            other => other,
        };
        self.reporter.report(WorkerEvent::Gone { pid: Some(pid), exit: self.exit.take(), ending }).await;
    }

    /// Carries out the effects that remain, above all the answer.
    async fn last_words(&mut self) {
        loop {
            if self.looking.is_some() {
                match tokio::time::timeout(Self::LAST_LOOK, look(&mut self.looking)).await {
                    Ok(Some(looked)) => {
                        self.decide(LoopEvent::Looked(looked), Instant::now());
                    }
                    // The disk is slow. The answer is given without output.
                    Ok(None) | Err(_) => {
                        self.looking = None;
                        self.report_finished(CaptureFiles::default());
                    }
                }
            } else if let Some(effect) = self.effects.pop_front() {
                self.apply(effect).await;
            } else if self.held.is_some() {
                self.let_go();
            } else {
                return;
            }
        }
    }
}

async fn memory_used(pid: u32, with_worker: bool) -> u64 {
    tokio::task::spawn_blocking(move || memory::used(pid, with_worker)).await.unwrap_or(0)
}

/// Waits for the end of the work on files. Cancel-safe: the work stays in
/// `looking`.
async fn look(looking: &mut Option<BoxFuture<'static, Looked>>) -> Option<Looked> {
    let looked = looking.as_mut()?.await;
    *looking = None;
    Some(looked)
}
