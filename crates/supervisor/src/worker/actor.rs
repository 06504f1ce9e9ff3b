//! The task that owns a worker's process.
//!
//! One loop that only selects; the [`Machine`] decides, and [`Actor::apply`]
//! carries it out. The task ends when the process has been waited for, or was
//! never started.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hookd_protocol::{LineDecoder, Message};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::{Instant, MissedTickBehavior};

use super::launch::{self, LaunchSettings, WorkerKey};
use super::log_tail::LogTail;
use super::machine::{Effect, Machine};
use super::memory;
use super::message::{Acknowledgement, Ending, Finished, WorkerCommand, WorkerEvent, WorkerReport};
use super::output::CaptureFiles;
use super::pipes::{Input, Output};
use super::running::Answer;
use crate::environment::Interpreters;
use crate::event::{Event, WorkerId};
use crate::limits::Limits;
use crate::process::{Spawner, status};
use crate::response::Isolation;

/// What every worker of a supervisor needs.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub settings: Arc<LaunchSettings>,
    pub limits: Limits,
    pub spawner: Spawner,
    pub interpreters: Interpreters,
    pub reports: async_channel::Sender<WorkerReport>,
}

/// The whole life of a worker of `tree`; its last report is always that it is
/// gone.
pub(crate) async fn run(
    context: WorkerContext,
    id: WorkerId,
    key: WorkerKey,
    tree: PathBuf,
    commands: async_channel::Receiver<WorkerCommand>,
) {
    let reporter = Reporter { worker: id, reports: context.reports.clone() };
    let life = live(context, reporter.clone(), id, key, tree, commands);
    // A defect in one worker's task must not keep the supervisor waiting for it.
    // The process dies with its handle.
    if AssertUnwindSafe(life).catch_unwind().await.is_err() {
        let ending = Ending::Crashed("the task of the worker panicked, which is a defect of hookpool".into());
        reporter.report(WorkerEvent::Gone { pid: None, exit: None, ending }).await;
    }
}

async fn live(
    context: WorkerContext,
    reporter: Reporter,
    id: WorkerId,
    key: WorkerKey,
    tree: PathBuf,
    commands: async_channel::Receiver<WorkerCommand>,
) {
    let started_at = Instant::now();
    let mut suspended = false;
    let started = tokio::select! {
        started = start(&context, &key, tree) => started,
        // What was begun of the start is dropped, and its process killed.
        () = told_to_end(&commands, &mut suspended) => Err(Ending::Planned),
    };
    match started {
        Ok(child) => {
            let mut actor = Actor::new(context, reporter, id, child, started_at);
            if suspended {
                // Nothing runs that there would be to stop.
                actor.machine.suspend(Instant::now());
            }
            actor.run(commands).await;
        }
        Err(ending) => reporter.report(WorkerEvent::Gone { pid: None, exit: None, ending }).await,
    }
}

/// Waits, while there is no process yet, until there need not be one.
async fn told_to_end(commands: &async_channel::Receiver<WorkerCommand>, suspended: &mut bool) {
    while let Ok(command) = commands.recv().await {
        match command {
            WorkerCommand::Interrupt(_) | WorkerCommand::Stop | WorkerCommand::Terminate => return,
            WorkerCommand::Suspend(_) => *suspended = true,
            WorkerCommand::Resume => *suspended = false,
            // Requests come once the worker is ready.
            WorkerCommand::Lease(_) | WorkerCommand::Cancel(_) => {}
        }
    }
}

async fn start(context: &WorkerContext, key: &WorkerKey, tree: PathBuf) -> Result<Child, Ending> {
    let timeout = context.limits.startup_timeout.get();
    let interpreter = context
        .interpreters
        .get(&context.spawner, &key.python, timeout)
        .await
        .map_err(|error| Ending::StartFailed { lasting: error.is_lasting(), reason: error.to_string() })?;
    let command = launch::command(&context.settings, &interpreter, key, &tree);
    context.spawner.spawn(command).await.map_err(|error| {
        let executable = interpreter.executable.display();
        let reason = format!("cannot start {executable} in {}: {error}", tree.display());
        // Arguments or variables that no process can be given.
        let lasting = error.kind() == io::ErrorKind::InvalidInput;
        Ending::StartFailed { reason, lasting }
    })
}

/// The way to the dispatcher, which always reads: it never waits for a worker.
#[derive(Clone)]
struct Reporter {
    worker: WorkerId,
    reports: async_channel::Sender<WorkerReport>,
}

impl Reporter {
    async fn report(&self, event: WorkerEvent) {
        // A dispatcher that is gone needs no reports.
        let _ = self.reports.send(WorkerReport { worker: self.worker, event }).await;
    }
}

struct Actor {
    context: WorkerContext,
    reporter: Reporter,
    machine: Machine,
    started_at: Instant,
    pid: u32,
    child: Child,
    /// Set once the process was waited for: from then on its pid may be
    /// anybody's, and nothing is sent to it.
    exit: Option<ExitStatus>,
    input: Input,
    output: Output<ChildStdout>,
    log: Output<ChildStderr>,
    lines: LineDecoder,
    log_tail: LogTail,
    commands_ended: bool,
    /// Dropped once everything is written.
    told: Option<Acknowledgement>,
    /// Whether a hook runs whose memory is limited.
    watch_memory: bool,
}

/// What an iteration of the loop found.
enum Happening {
    Command(Option<WorkerCommand>),
    Output(Vec<u8>),
    Log(Vec<u8>),
    Exited(ExitStatus),
    Memory(u64),
    Tick,
    Wrote,
}

impl Actor {
    const MEMORY_INTERVAL: Duration = Duration::from_millis(200);

    fn new(context: WorkerContext, reporter: Reporter, id: WorkerId, mut child: Child, started_at: Instant) -> Self {
        let piped = "all three streams of a worker are pipes";
        let machine = Machine::new(id, context.settings.isolation, context.limits.clone(), Instant::now());
        Self {
            reporter,
            machine,
            started_at,
            pid: child.id().expect("nobody has waited for it"),
            exit: None,
            input: Input::new(child.stdin.take().expect(piped)),
            output: Output::new(child.stdout.take().expect(piped), 8 * 1024),
            log: Output::new(child.stderr.take().expect(piped), 1024),
            lines: LineDecoder::new(),
            log_tail: LogTail::default(),
            commands_ended: false,
            told: None,
            watch_memory: false,
            child,
            context,
        }
    }

    async fn run(mut self, commands: async_channel::Receiver<WorkerCommand>) {
        let mut sampling = tokio::time::interval(Self::MEMORY_INTERVAL);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = self.next_input(&commands, &mut sampling).await;
            let effects = self.decide(input);
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
            status = self.child.wait(), if self.exit.is_none() => Happening::Exited(status.unwrap_or_default()),
            () = self.input.make_progress() => Happening::Wrote,
            _ = sampling.tick(), if self.watch_memory => Happening::Memory(self.memory_used().await),
            () = timer => Happening::Tick,
        }
    }

    fn decide(&mut self, input: Happening) -> Vec<Effect> {
        let now = Instant::now();
        match input {
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
                self.exit = Some(exit);
                self.machine.exited(status::exit_reason(exit), now)
            }
            Happening::Memory(bytes) => match self.context.limits.hook_memory_limit {
                Some(limit) if bytes > limit.get() => self.machine.memory_exceeded(bytes, now),
                _ => Vec::new(),
            },
            Happening::Tick => self.machine.tick(now),
            Happening::Wrote => Vec::new(),
        }
    }

    fn obey(&mut self, command: WorkerCommand, now: Instant) -> Vec<Effect> {
        match command {
            WorkerCommand::Lease(lease) => self.machine.lease(lease, now),
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
            Effect::SignalWorker(signal) => return self.signal(signal),
            Effect::SignalGroup(signal) => return self.signal_group(signal),
            Effect::HookStarted => {
                self.watch_memory = self.context.limits.hook_memory_limit.is_some();
                return;
            }
            Effect::Answered(answer) => return self.answer(*answer).await,
            Effect::Ready => WorkerEvent::Ready { pid: self.pid, after: self.started_at.elapsed() },
            Effect::Accepted(request) => {
                // With isolation `none` no hook process is told of.
                self.watch_memory = self.context.limits.hook_memory_limit.is_some()
                    && self.context.settings.isolation == Isolation::None;
                WorkerEvent::Accepted { request }
            }
            Effect::Idle => WorkerEvent::Idle,
            Effect::Lingers => WorkerEvent::Lingers,
            Effect::Observe(event) => WorkerEvent::Observed(event),
            Effect::Gone(_) => unreachable!("the loop ends with it"),
        };
        self.reporter.report(event).await;
    }

    async fn answer(&mut self, answer: Answer) {
        self.watch_memory = false;
        let since = |from: Option<Instant>, to: Instant| from.map(|from| to.saturating_duration_since(from));
        let finished = Finished {
            request: answer.request,
            outcome: answer.outcome,
            start: answer.accepted_at.map(|accepted| accepted.saturating_duration_since(answer.leased_at)),
            hook: since(answer.accepted_at, answer.finished_at),
            files: CaptureFiles::of(answer.stdout, answer.stderr),
        };
        self.reporter.report(WorkerEvent::Finished(Box::new(finished))).await;
    }

    async fn finish(mut self, ending: Ending) {
        for effect in self.log_tail.push(&self.log.rest(), self.reporter.worker) {
            self.apply(effect).await;
        }
        self.context.spawner.forget(self.pid).await;
        let ending = match ending {
            Ending::StartFailed { reason, lasting } => {
                Ending::StartFailed { reason: self.log_tail.explain(reason), lasting }
            }
            Ending::Crashed(reason) => Ending::Crashed(self.log_tail.explain(reason)),
            other => other,
        };
        let exit = self.exit.map(status::exit_reason);
        self.reporter.report(WorkerEvent::Gone { pid: Some(self.pid), exit, ending }).await;
    }

    async fn memory_used(&self) -> u64 {
        let (pid, with_worker) = (self.pid, self.context.settings.isolation == Isolation::None);
        tokio::task::spawn_blocking(move || memory::used(pid, with_worker)).await.unwrap_or(0)
    }

    /// Signals the worker; only while nobody has waited for it.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.live_pid() {
            let _ = kill(pid, signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.live_pid() {
            let _ = killpg(pid, signal);
        }
    }

    /// The worker's pid, and process group, while it is its own for sure: the
    /// child exists, dead or alive, until it is waited for.
    fn live_pid(&self) -> Option<Pid> {
        let pid = self.child.id().filter(|_| self.exit.is_none())?;
        i32::try_from(pid).ok().map(Pid::from_raw)
    }
}
