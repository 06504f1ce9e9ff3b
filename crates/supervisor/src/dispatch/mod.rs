//! The one task that decides: fed by callers, workers, visits and time.
//!
//! Its loop only selects; the [`scheduler`] decides; [`Dispatcher::carry_out`]
//! acts. It never waits for a worker or a caller, so that both may wait for it.

mod gate;
pub(crate) mod message;
mod restart;
mod scheduler;
mod slots;
mod trees;
mod workers;

pub use slots::{JobSlot, ReturnedSlot};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::gate::{Arrival, Gate};
use self::message::{Action, Command};
use self::scheduler::Scheduler;
use crate::error::ExitReason;
use crate::event::{Event, Observer, WorkerId};
use crate::request::RequestId;
use crate::template::Pace;
use crate::worker::{
    self, Ending, WorkerCommand, WorkerContext, WorkerEvent, WorkerFreshness, WorkerPlan, WorkerReport,
};

/// The channels that a dispatcher reads.
pub(crate) struct Inboxes {
    pub commands: async_channel::Receiver<Command>,
    /// Requests whose tickets were dropped or cancelled: no more than there are
    /// places for requests.
    pub cancellations: mpsc::UnboundedReceiver<RequestId>,
    pub reports: async_channel::Receiver<WorkerReport>,
    /// What templates tell observers.
    pub notices: async_channel::Receiver<Event>,
}

pub(crate) struct Dispatcher {
    scheduler: Scheduler,
    context: WorkerContext,
    observers: Vec<Box<dyn Observer>>,
    inboxes: Inboxes,
    gate: Gate,
    workers: HashMap<WorkerId, Worker>,
    finished: watch::Sender<bool>,
}

/// The dispatcher's end of a worker.
struct Worker {
    /// Unbounded: a lease, a cancellation, an end, and a suspension for each
    /// time that the user stops the program. None of them may be lost.
    commands: mpsc::UnboundedSender<WorkerCommand>,
    /// From READY on.
    freshness: Option<Arc<WorkerFreshness>>,
}

enum Incoming {
    Command(Option<Command>),
    Cancellation(RequestId),
    Report(WorkerReport),
    Notice(Event),
    Arrival(Arrival),
    SlotFreed,
    Tick,
}

impl Dispatcher {
    /// How long installers may take to be killed and reaped after their grace
    /// period.
    const KILL_TIME: Duration = Duration::from_secs(8);

    pub fn new(
        context: WorkerContext,
        default_python: PathBuf,
        observers: Vec<Box<dyn Observer>>,
        inboxes: Inboxes,
        fallback_lock_folder: PathBuf,
        notices: async_channel::Sender<Event>,
        finished: watch::Sender<bool>,
    ) -> Self {
        let (start_method, lock_timeout) = (context.settings.start_method, context.limits.lock_timeout);
        Self {
            scheduler: Scheduler::new(context.limits.clone(), default_python, start_method, random_fraction),
            gate: Gate::new(context.pool.clone(), fallback_lock_folder, start_method, lock_timeout, notices),
            context,
            observers,
            inboxes,
            workers: HashMap::new(),
            finished,
        }
    }

    /// Runs until everything is answered and every process gone.
    pub async fn run(mut self) {
        while !self.scheduler.is_finished() {
            let incoming = self.next().await;
            self.decide(incoming).await;
            self.carry_out();
        }
        self.end_templates().await;
        self.sweep().await;
        self.finished.send_replace(true);
    }

    /// Their workers are gone. What they say meanwhile is still heard.
    async fn end_templates(&self) {
        let templates = self.context.templates.clone();
        let end = templates.end();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Ok(event) = self.inboxes.notices.recv() => self.observe(&event),
            }
        }
        while let Ok(event) = self.inboxes.notices.try_recv() {
            self.observe(&event);
        }
    }

    /// Waits for whatever comes first. All futures here are cancel-safe:
    /// channels, join sets and sleeps take nothing when they lose the race.
    async fn next(&mut self) -> Incoming {
        let next_at = self.scheduler.next_at();
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let commands = &self.inboxes.commands;
        // Without handles nothing more is said, once all was heard.
        let hears = !(self.scheduler.is_closed() && commands.is_closed() && commands.is_empty());
        // In this order: a cancellation must not overtake its request. Nobody
        // starves: what comes first is bounded by the requests that are open.
        tokio::select! {
            biased;
            command = commands.recv(), if hears => Incoming::Command(command.ok()),
            report = self.inboxes.reports.recv() => {
                Incoming::Report(report.expect("the context holds a sender"))
            }
            Ok(event) = self.inboxes.notices.recv() => Incoming::Notice(event),
            Some(request) = self.inboxes.cancellations.recv() => Incoming::Cancellation(request),
            arrival = self.gate.next() => Incoming::Arrival(arrival),
            () = self.scheduler.slot_freed() => Incoming::SlotFreed,
            () = timer => Incoming::Tick,
        }
    }

    async fn decide(&mut self, incoming: Incoming) {
        let now = Instant::now();
        match incoming {
            Incoming::Command(command) => self.obey(command, now),
            Incoming::Cancellation(request) => {
                // The request may have come between the look at the one channel
                // and the look at the other.
                while let Ok(command) = self.inboxes.commands.try_recv() {
                    self.obey(Some(command), now);
                }
                self.scheduler.cancel(request, now);
            }
            Incoming::Report(report) => self.worker_reported(report, now).await,
            Incoming::Notice(event) => self.observe(&event),
            Incoming::Arrival(arrival) => self.arrived(arrival, now),
            Incoming::SlotFreed => self.scheduler.fill(),
            Incoming::Tick => self.scheduler.tick(now),
        }
    }

    fn obey(&mut self, command: Option<Command>, now: Instant) {
        match command {
            Some(Command::Submit(submission)) => self.scheduler.submit(*submission, now),
            Some(Command::Recycle) => {
                self.context.interpreters.forget_all();
                self.context.templates.recycle();
                self.scheduler.recycle();
            }
            Some(Command::Suspend { told }) => {
                self.context.templates.set_pace(Pace::Suspended);
                self.scheduler.suspend(&told);
            }
            Some(Command::Resume) => {
                self.context.templates.set_pace(Pace::Normal);
                self.scheduler.resume(now);
            }
            // Without a handle nobody can ask for anything more.
            Some(Command::Drain) | None => self.scheduler.drain(),
            Some(Command::Interrupt(signal)) => {
                self.context.templates.set_pace(Pace::Hurried);
                let grace = self.context.limits.grace_period.map_or(Duration::ZERO, crate::limits::Timeout::get);
                self.gate.end_by(now + grace + Self::KILL_TIME);
                self.scheduler.interrupt(signal, now);
            }
            Some(Command::Terminate) => {
                self.context.templates.set_pace(Pace::AtOnce);
                self.gate.end_by(now);
                self.scheduler.terminate(now);
            }
        }
    }

    async fn worker_reported(&mut self, report: WorkerReport, now: Instant) {
        if let WorkerEvent::Ready { freshness, .. } = &report.event
            && let Some(worker) = self.workers.get_mut(&report.worker)
        {
            worker.freshness.clone_from(freshness);
        }
        if let WorkerEvent::Gone { exit, ending, .. } = &report.event {
            self.workers.remove(&report.worker);
            // Before its tree's next hook starts. A worker that ended as it was
            // told has killed what it started.
            let in_order = *ending == Ending::Planned && *exit == Some(ExitReason::ExitCode(0));
            if exit.is_some() && !in_order {
                self.sweep().await;
            }
        }
        self.scheduler.worker_reported(report, now);
    }

    fn arrived(&mut self, arrival: Arrival, now: Instant) {
        match arrival {
            Arrival::Visited { request, path, found, is_locked } => {
                self.scheduler.visited(request, &path, found, is_locked, now);
            }
            Arrival::LockAwaited(path, outcome) => self.scheduler.lock_awaited(&path, outcome, now),
            Arrival::Prepared(wanted, outcome) => self.scheduler.prepared(&wanted, outcome, now),
        }
    }

    fn carry_out(&mut self) {
        for action in self.scheduler.take_actions() {
            match action {
                Action::Visit { request, details, path, named, made, worker } => {
                    let freshness = |worker: WorkerId| self.workers.get(&worker)?.freshness.clone();
                    let worker = worker.and_then(|worker| Some((worker, freshness(worker)?)));
                    self.gate.visit(request, details, path, named, made, worker);
                }
                Action::AwaitLock { path } => self.gate.await_lock(path),
                Action::GiveUpLock { path } => self.gate.give_up_lock(&path),
                Action::Unlock { path } => self.gate.unlock(&path),
                Action::Prepare { wanted, slot } => self.gate.prepare(wanted, slot),
                Action::GiveUpEnvironment { wanted } => self.gate.give_up_environment(&wanted),
                Action::Start { worker, plan } => self.start(worker, plan),
                Action::Tell { worker, command } => self.tell(worker, command),
                Action::Answer { reply, response } => {
                    // A caller that dropped its ticket wants no answer.
                    let _ = reply.send(*response);
                }
                Action::Observe(event) => self.observe(&event),
            }
        }
    }

    fn start(&mut self, worker: WorkerId, plan: WorkerPlan) {
        let (commands, inbox) = mpsc::unbounded_channel();
        self.workers.insert(worker, Worker { commands, freshness: None });
        tokio::spawn(worker::run(self.context.clone(), worker, plan, inbox));
    }

    fn tell(&self, worker: WorkerId, command: WorkerCommand) {
        if let Some(worker) = self.workers.get(&worker) {
            // One that has ended needs no word.
            let _ = worker.commands.send(command);
        }
    }

    fn observe(&self, event: &Event) {
        for observer in &self.observers {
            observer.observe(event);
        }
    }

    /// Kills what dead workers left behind.
    async fn sweep(&mut self) {
        for pid in self.context.spawner.sweep().await {
            self.observe(&Event::OrphanKilled { pid });
        }
    }
}

/// A number from 0 to 1 that differs from call to call; good enough to spread
/// restarts, and for nothing else.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    let fraction = bits as f64 / f64::from(u32::MAX);
    fraction
}
