//! The task that makes all decisions of a supervisor.
//!
//! Its loop only receives events of callers, workers, visits and timers. The
//! [`scheduler`] decides, and [`Dispatcher::carry_out`] acts. It never waits for
//! a worker or a caller, so that they can wait for it.

mod gate;
pub(crate) mod message;
mod restart;
mod scheduler;
mod slots;
mod templates;
mod trees;
mod workers;

pub use slots::{JobSlot, ReturnedSlot};

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::gate::{Arrival, Gate};
use self::message::{Action, Command};
use self::scheduler::Scheduler;
use self::templates::LiveTemplates;
use crate::error::{Canceller, ExitReason};
use crate::event::Event;
use crate::ids::{RequestId, WorkerId};
use crate::limits::{Limits, LimitsChange, LimitsError};
use crate::process::open_files::Capacity;
use crate::selection::{Restarted, Selection};
use crate::semaphore::ResizableSemaphore;
use crate::subscription::Subscribers;
use crate::template::Pace;
use crate::worker::{
    self, Ending, WorkerCommand, WorkerContext, WorkerEvent, WorkerFreshness, WorkerPlan, WorkerReport,
};

/// The channels that a dispatcher receives from.
pub(crate) struct Inboxes {
    pub commands: async_channel::Receiver<Command>,
    /// Requests whose tickets were dropped or cancelled, bounded by the number of
    /// tickets.
    pub cancellations: mpsc::UnboundedReceiver<RequestId>,
    pub reports: async_channel::Receiver<WorkerReport>,
    /// Events for subscribers, from templates and lock waits.
    pub notices: async_channel::Receiver<Event>,
}

/// What a dispatcher tells everybody.
pub(crate) struct Outlets {
    pub subscribers: Arc<Subscribers>,
    /// The limits in force.
    pub limits: watch::Sender<Limits>,
    /// The places of unanswered requests, whose number is one of the limits.
    pub places: Arc<ResizableSemaphore>,
    /// Whether it has ended.
    pub finished: watch::Sender<bool>,
}

impl Drop for Outlets {
    fn drop(&mut self) {
        // Handles of the supervisor may live on.
        self.subscribers.end();
    }
}

pub(crate) struct Dispatcher {
    scheduler: Scheduler,
    context: WorkerContext,
    inboxes: Inboxes,
    outlets: Outlets,
    gate: Gate,
    templates: LiveTemplates,
    workers: HashMap<WorkerId, Worker>,
}

/// What the dispatcher has of a worker.
struct Worker {
    /// Unbounded, since no command may be lost: a lease, a cancellation, an end,
    /// and a suspension for each time that the user stops the program.
    commands: mpsc::UnboundedSender<WorkerCommand>,
    /// `None` before the worker is ready.
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
    /// How long it may take to kill and reap installers after the grace period.
    const KILL_TIME: Duration = Duration::from_secs(8);

    pub fn new(
        context: WorkerContext,
        default_python: PathBuf,
        inboxes: Inboxes,
        outlets: Outlets,
        fallback_lock_folder: PathBuf,
        notices: async_channel::Sender<Event>,
    ) -> Self {
        let (start_method, in_force) = (context.settings.start_method, outlets.limits.borrow().clone());
        let lock_timeout = in_force.lock_timeout;
        Self {
            scheduler: Scheduler::new(
                in_force,
                default_python,
                start_method,
                context.settings.isolation,
                random_fraction,
            ),
            gate: Gate::new(context.pool.clone(), fallback_lock_folder, start_method, lock_timeout, notices),
            context,
            inboxes,
            outlets,
            templates: LiveTemplates::default(),
            workers: HashMap::new(),
        }
    }

    /// Runs until all requests are answered and all processes have ended.
    pub async fn run(mut self) {
        while !self.scheduler.is_finished() {
            let incoming = self.next().await;
            self.decide(incoming).await;
            self.carry_out();
        }
        self.end_templates().await;
        self.sweep().await;
        self.outlets.finished.send_replace(true);
    }

    /// Ends the templates, whose workers have ended, and passes on their events
    /// meanwhile.
    async fn end_templates(&self) {
        let templates = self.context.templates.clone();
        let end = templates.end();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Ok(event) = self.inboxes.notices.recv() => self.observe(event),
            }
        }
        while let Ok(event) = self.inboxes.notices.try_recv() {
            self.observe(event);
        }
    }

    /// Waits for the first event. All futures here are cancel-safe: channels, join
    /// sets and sleeps.
    async fn next(&mut self) -> Incoming {
        let next_at = self.scheduler.next_at();
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let commands = &self.inboxes.commands;
        // Without handles of the supervisor there will be no more commands.
        let has_commands = !(self.scheduler.is_closed() && commands.is_closed() && commands.is_empty());
        // In this order, so that a cancellation does not overtake its request.
        // The later channels do not starve: what the earlier ones receive is
        // bounded by the number of unanswered requests.
        tokio::select! {
            biased;
            command = commands.recv(), if has_commands => Incoming::Command(command.ok()),
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
                // Its request may have come after `commands` was polled.
                while let Ok(command) = self.inboxes.commands.try_recv() {
                    self.obey(Some(command), now);
                }
                self.scheduler.cancel(request, Canceller::Caller, now);
            }
            Incoming::Report(report) => self.worker_reported(report, now).await,
            Incoming::Notice(event) => {
                self.templates.note(&event, now);
                self.observe(event);
            }
            Incoming::Arrival(arrival) => self.arrived(arrival, now),
            Incoming::SlotFreed => self.scheduler.fill(),
            Incoming::Tick => self.scheduler.tick(now),
        }
    }

    fn obey(&mut self, command: Option<Command>, now: Instant) {
        match command {
            Some(Command::Submit(submission)) => self.scheduler.submit(*submission, now),
            Some(Command::Snapshot(reply)) => {
                let templates = self.templates.snapshot(&self.context.templates.in_use(), now);
                // An error means that the caller does not wait any more.
                let _ = reply.send(Box::new(self.scheduler.snapshot(templates, now)));
            }
            Some(Command::ChangeLimits { change, reply }) => {
                let _ = reply.send(self.change_limits(&change, now));
            }
            Some(Command::Restart { selection, reply }) => {
                let _ = reply.send(self.restart(&selection, now));
            }
            Some(Command::Retire(python)) => self.retire(&python, now),
            Some(Command::Cancel { request, reply }) => {
                let _ = reply.send(self.scheduler.cancel(request, Canceller::Operator, now));
            }
            Some(Command::Suspend { told }) => {
                self.context.templates.set_pace(Pace::Suspended);
                self.scheduler.suspend(&told);
            }
            Some(Command::Resume) => {
                self.context.templates.set_pace(Pace::Normal);
                self.scheduler.resume(now);
            }
            // `None`: the last handle was dropped.
            Some(Command::Drain) | None => self.scheduler.drain(),
            Some(Command::Interrupt(signal)) => {
                self.context.templates.set_pace(Pace::Hurried);
                let grace =
                    self.outlets.limits.borrow().grace_period.map_or(Duration::ZERO, crate::limits::Timeout::get);
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

    fn restart(&mut self, selection: &Selection, now: Instant) -> Restarted {
        let mut interpreters = HashSet::new();
        let mut template = None;
        match selection {
            Selection::All => self.context.interpreters.forget_all(),
            Selection::Tree(_) => {}
            Selection::Environment(python) => {
                self.context.interpreters.forget_all();
                interpreters = self.names_of(python);
            }
            Selection::Template(id) => template = Some(*id),
        }
        let everything = *selection == Selection::All;
        let templates = self.context.templates.restart(|executable, id| {
            everything || interpreters.contains(executable) || id.is_some() && id == template
        });
        let (workers, pools) = self.scheduler.restart(selection, &interpreters, now);
        Restarted { workers, templates, pools }
    }

    fn retire(&mut self, python: &Path, now: Instant) {
        let interpreters = self.names_of(python);
        self.context.templates.retire(&interpreters);
        self.scheduler.retire(&interpreters, now);
    }

    fn names_of(&self, python: &Path) -> HashSet<PathBuf> {
        let names = self.scheduler.interpreters();
        all_names(python, names.filter_map(|(name, template)| Some((name, self.templates.interpreter(template)?))))
    }

    fn change_limits(&mut self, change: &LimitsChange, now: Instant) -> Result<Limits, LimitsError> {
        // Where the limit of open files cannot be read, the start of a worker will
        // fail.
        let capacity = |limits: &Limits| Capacity::of_this_process(limits.jobs.get(), limits.max_templates.get()).ok();
        let limits = self.scheduler.change_limits(change, capacity, now)?;
        self.outlets.places.resize(limits.queue_size.get());
        self.context.templates.set_max(limits.max_templates.get());
        self.outlets.limits.send_replace(limits.clone());
        Ok(limits)
    }

    async fn worker_reported(&mut self, report: WorkerReport, now: Instant) {
        if let WorkerEvent::Ready { freshness, .. } = &report.event
            && let Some(worker) = self.workers.get_mut(&report.worker)
        {
            worker.freshness.clone_from(freshness);
            if let Some(template) = freshness.as_ref().and_then(|freshness| freshness.template()) {
                self.templates.has_forked(template);
            }
        }
        if let WorkerEvent::Gone { exit, ending, .. } = &report.event {
            self.workers.remove(&report.worker);
            // Before the next hook of its tree starts. A worker that ended as
            // planned has killed its processes itself.
            let in_order = *ending == Ending::Planned && *exit == Some(ExitReason::ExitCode(0));
            if exit.is_some() && !in_order {
                self.sweep().await;
            }
        }
        self.scheduler.worker_reported(report, now);
    }

    fn arrived(&mut self, arrival: Arrival, now: Instant) {
        match arrival {
            Arrival::Visited { request, path, outcome, is_locked } => {
                self.scheduler.visited(request, &path, outcome, is_locked, now);
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
                    let worker = worker.and_then(|candidate| Some((freshness(candidate.worker)?, candidate)));
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
                    // An error means that the ticket was dropped.
                    let _ = reply.send(*response);
                }
                Action::Observe(event) => self.observe(event),
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
            // An error means that it has ended.
            let _ = worker.commands.send(command);
        }
    }

    fn observe(&self, event: Event) {
        self.outlets.subscribers.send(event);
    }

    /// Kills the processes that dead workers left behind.
    async fn sweep(&mut self) {
        for pid in self.context.spawner.sweep().await {
            self.observe(Event::OrphanKilled { pid });
        }
    }
}

/// The names of an interpreter: requests and environments name it by one path, and
/// templates by another. `pairs` has both names of the interpreters of workers.
fn all_names<'a>(python: &Path, pairs: impl Iterator<Item = (&'a PathBuf, &'a PathBuf)>) -> HashSet<PathBuf> {
    let mut names = HashSet::from([python.to_owned()]);
    for (named, executable) in pairs.filter(|(named, executable)| *named == python || *executable == python) {
        names.extend([named.clone(), executable.clone()]);
    }
    names
}

/// A random number from 0 to 1, good enough to spread restarts.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    let fraction = bits as f64 / f64::from(u32::MAX);
    fraction
}
