//! A worker that has a process: one loop that only selects; the [`Machine`]
//! decides, and [`Actor::apply`] carries it out. It ends when the process has
//! been waited for.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hookd_protocol::{ImportedModule, LineDecoder, Message, ShadowedModule};
use tokio::net::unix::pipe;
use tokio::time::{Instant, MissedTickBehavior};

use super::freshness::WorkerFreshness;
use super::life::{Reporter, WorkerContext};
use super::log_tail::LogTail;
use super::machine::{Effect, Machine};
use super::memory;
use super::message::{Acknowledgement, Ending, Finished, Lease, WorkerCommand, WorkerEvent};
use super::output::{CaptureFiles, EmptyCaptures};
use super::pipes::{Input, Output};
use super::process::WorkerProcess;
use super::running::Answer;
use super::start::StartedWorker;
use crate::error::ExitReason;
use crate::event::{Event, StopReason, WorkerId};
use crate::response::{Isolation, StartMethod};

/// A worker that has a process.
pub(super) struct Actor {
    context: WorkerContext,
    reporter: Reporter,
    machine: Machine,
    started_at: Instant,
    tree: PathBuf,
    process: WorkerProcess,
    freshness: WorkerFreshness,
    /// No hook has run here yet: everything was compared at the start.
    is_new: bool,
    /// When the last lease came.
    leased_at: SystemTime,
    exit: Option<ExitReason>,
    input: Input,
    output: Output<pipe::Receiver>,
    log: Output<pipe::Receiver>,
    lines: LineDecoder,
    log_tail: LogTail,
    commands_ended: bool,
    /// Dropped once everything is written.
    told: Option<Acknowledgement>,
    /// Whether a hook runs whose memory is limited.
    watch_memory: bool,
    /// An answer that waits until it is known what its hook has left in the
    /// worker. Whoever has the answer may change files, which would be taken
    /// for what the hook has seen.
    held: Option<Answer>,
    /// For the next hook.
    empty_captures: EmptyCaptures,
}

/// What an iteration of the loop found.
enum Happening {
    Command(Option<WorkerCommand>),
    Output(Vec<u8>),
    Log(Vec<u8>),
    Exited(ExitReason),
    Memory(u64),
    Tick,
    Wrote,
}

impl Actor {
    const MEMORY_INTERVAL: Duration = Duration::from_millis(200);

    pub fn new(
        context: WorkerContext,
        reporter: Reporter,
        id: WorkerId,
        worker: StartedWorker,
        tree: PathBuf,
        started_at: Instant,
    ) -> Self {
        let machine = Machine::new(id, context.settings.isolation, context.limits.clone(), Instant::now());
        Self {
            reporter,
            machine,
            started_at,
            tree,
            process: worker.process,
            freshness: worker.freshness,
            is_new: true,
            leased_at: SystemTime::now(),
            exit: None,
            input: Input::new(worker.input),
            output: Output::new(worker.output, 8 * 1024),
            log: Output::new(worker.log, 1024),
            lines: LineDecoder::new(),
            log_tail: LogTail::default(),
            commands_ended: false,
            told: None,
            watch_memory: false,
            held: None,
            empty_captures: EmptyCaptures::default(),
            context,
        }
    }

    /// Nothing runs yet that there would be to stop.
    pub fn begin_suspended(&mut self) {
        self.machine.suspend(Instant::now());
    }

    pub async fn run(mut self, commands: async_channel::Receiver<WorkerCommand>) {
        let mut sampling = tokio::time::interval(Self::MEMORY_INTERVAL);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = self.next_input(&commands, &mut sampling).await;
            let effects = self.decide(input).await;
            for effect in effects {
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

    /// Waits for whatever comes first. Every future here is cancel-safe: what
    /// loses the race has taken nothing.
    async fn next_input(
        &mut self,
        commands: &async_channel::Receiver<WorkerCommand>,
        sampling: &mut tokio::time::Interval,
    ) -> Happening {
        let next_at = self.machine.next_at();
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = commands.recv(), if !self.commands_ended => Happening::Command(command.ok()),
            bytes = self.output.next() => Happening::Output(bytes.to_vec()),
            bytes = self.log.next() => Happening::Log(bytes.to_vec()),
            exit = self.process.wait() => Happening::Exited(exit),
            () = self.input.make_progress() => Happening::Wrote,
            _ = sampling.tick(), if self.watch_memory => Happening::Memory(self.memory_used().await),
            () = timer => Happening::Tick,
        }
    }

    async fn decide(&mut self, input: Happening) -> Vec<Effect> {
        let now = Instant::now();
        match input {
            Happening::Command(Some(WorkerCommand::Lease(lease))) => self.lease(lease).await,
            Happening::Command(Some(command)) => self.obey(command, now),
            // The dispatcher is gone: nobody will ask for anything again.
            Happening::Command(None) => {
                self.commands_ended = true;
                self.machine.terminate(Ending::Planned, now)
            }
            Happening::Output(bytes) if bytes.is_empty() => self.output_ended(now),
            Happening::Output(bytes) => self.read(&bytes, now),
            Happening::Log(bytes) => self.log_tail.push(&bytes, self.reporter.worker),
            Happening::Exited(exit) => {
                self.exit = Some(exit.clone());
                self.machine.exited(exit, now)
            }
            Happening::Memory(bytes) => match self.context.limits.hook_memory_limit {
                Some(limit) if bytes > limit.get() => self.machine.memory_exceeded(bytes, now),
                _ => Vec::new(),
            },
            Happening::Tick => self.machine.tick(now),
            Happening::Wrote => Vec::new(),
        }
    }

    /// Takes the request, if nothing that the worker holds is out of date.
    async fn lease(&mut self, lease: Lease) -> Vec<Effect> {
        let reason = if self.is_new { None } else { self.reason_to_recycle(&lease).await };
        if let Some(reason) = reason {
            self.reporter.report(WorkerEvent::Stale { lease, reason }).await;
            return Vec::new();
        }
        self.is_new = false;
        self.leased_at = SystemTime::now();
        self.machine.lease(lease, Instant::now())
    }

    async fn reason_to_recycle(&self, lease: &Lease) -> Option<StopReason> {
        let (settings, templates) = (&self.context.settings, &self.context.templates);
        self.freshness.reason_to_recycle(&self.process, settings, templates, &lease.prepared.imports).await
    }

    /// A hook imported these: into the worker itself, with isolation `none`,
    /// and otherwise into a process that is gone, which templates learn from.
    async fn imported(&self, modules: &[ImportedModule]) {
        let settings = &self.context.settings;
        if settings.isolation == Isolation::None {
            self.freshness.imported(modules, self.leased_at).await;
        }
        if settings.start_method == StartMethod::Forkserver {
            self.context.templates.learn(self.freshness.key(), modules, &self.tree);
        }
    }

    async fn shadowed(&self, modules: Vec<ShadowedModule>) {
        for ShadowedModule { name, loaded, found } in modules {
            let event = Event::PreloadShadowed { tree: self.tree.clone(), module: name, loaded, found };
            self.reporter.report(WorkerEvent::Observed(event)).await;
        }
    }

    fn obey(&mut self, command: WorkerCommand, now: Instant) -> Vec<Effect> {
        match command {
            WorkerCommand::Lease(_) => unreachable!("a lease is looked at before"),
            WorkerCommand::Cancel(request) => self.machine.cancel(request, now),
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
            return self.log_tail.noise(line, self.reporter.worker);
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
                vec![Effect::Observe(Event::WorkerLog { worker: self.reporter.worker, line })]
            }
        };
        effects.extend(self.machine.output_ended(now));
        effects
    }

    async fn apply(&mut self, effect: Effect) {
        let event = match effect {
            Effect::Write(bytes) => return self.input.push(&bytes),
            Effect::CloseInput => return self.input.close(),
            Effect::SignalWorker(signal) => return self.process.signal(signal),
            Effect::SignalGroup(signal) => return self.process.signal_group(signal),
            Effect::Imported(modules) => {
                self.imported(&modules).await;
                return self.let_go().await;
            }
            Effect::Shadowed(modules) => return self.shadowed(modules).await,
            Effect::HookStarted => {
                self.watch_memory = self.context.limits.hook_memory_limit.is_some();
                return;
            }
            Effect::Answered(answer) if self.keeps_imports() => {
                self.held = Some(*answer);
                return;
            }
            Effect::Answered(answer) => return self.answer(*answer).await,
            Effect::Ready => WorkerEvent::Ready {
                pid: self.process.id(),
                start_method: self.process.start_method(),
                after: self.started_at.elapsed(),
            },
            Effect::Accepted(request) => {
                // With isolation `none` no hook process is told of.
                self.watch_memory = self.context.limits.hook_memory_limit.is_some()
                    && self.context.settings.isolation == Isolation::None;
                WorkerEvent::Accepted { request }
            }
            Effect::Idle => {
                // Its hook came to no end of which imports could be told.
                self.let_go().await;
                WorkerEvent::Idle
            }
            Effect::Lingers => WorkerEvent::Lingers,
            Effect::Observe(event) => WorkerEvent::Observed(event),
            Effect::Gone(_) => unreachable!("the loop ends with it"),
        };
        self.reporter.report(event).await;
    }

    /// Whether what hooks import is there for the next one, and watched.
    fn keeps_imports(&self) -> bool {
        let settings = &self.context.settings;
        settings.isolation == Isolation::None && settings.check_freshness
    }

    async fn let_go(&mut self) {
        if let Some(answer) = self.held.take() {
            self.answer(answer).await;
        }
    }

    async fn answer(&mut self, answer: Answer) {
        self.watch_memory = false;
        let accepted_at = answer.accepted_at;
        let keep_whole = self.context.settings.keep_output;
        let files = CaptureFiles::of(answer.stdout, answer.stderr, keep_whole, &mut self.empty_captures);
        let finished = Finished {
            request: answer.request,
            outcome: answer.outcome,
            start: accepted_at.map(|at| at.saturating_duration_since(answer.leased_at)),
            hook: accepted_at.map(|at| answer.finished_at.saturating_duration_since(at)),
            files,
        };
        self.reporter.report(WorkerEvent::Finished(Box::new(finished))).await;
    }

    async fn finish(mut self, ending: Ending) {
        for effect in self.log_tail.push(&self.log.rest(), self.reporter.worker) {
            self.apply(effect).await;
        }
        self.let_go().await;
        let pid = self.process.id();
        self.context.spawner.forget(pid).await;
        let ending = match ending {
            Ending::StartFailed { reason, lasting } => {
                Ending::StartFailed { reason: self.log_tail.explain(reason), lasting }
            }
            Ending::Crashed(reason) => Ending::Crashed(self.log_tail.explain(reason)),
            other => other,
        };
        self.reporter.report(WorkerEvent::Gone { pid: Some(pid), exit: self.exit.take(), ending }).await;
    }

    async fn memory_used(&self) -> u64 {
        let (pid, with_worker) = (self.process.id(), self.context.settings.isolation == Isolation::None);
        tokio::task::spawn_blocking(move || memory::used(pid, with_worker)).await.unwrap_or(0)
    }
}
