//! A random walk through the scheduler: requests, visits, locks, workers and
//! time in every possible order. After each step the invariants are checked.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use hookd_protocol::Hook;
use nix::sys::signal::Signal;
use serde_json::json;

use super::super::*;
use crate::build_environment::WantedEnvironment;
use crate::build_environment::tests::{Environment, environments};
use crate::build_environment::{EnvironmentRequirements, RequestEnvironment};
use crate::dispatch::message::Submission;
use crate::dispatch::trees::LockState;
use crate::dispatch::workers::Occupation;
use crate::error::{Canceller, ErrorKind, ExitReason};
use crate::event::StopReason;
use crate::limits::{LimitsChange, LimitsError, Timeout};
use crate::selection::Selection;
use crate::tree::{Candidate, CheckedWorker, Fitness, KeptAnswer, Ready, TreeId, VisitOutcome};
use crate::worker::{Ending, Lease, WorkerCommand, WorkerEvent, WorkerReport};

/// xorshift64*: the same walk for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// The state of a worker's task and process.
#[derive(Clone, Debug, PartialEq)]
enum Life {
    Starting,
    Idle,
    Running { request: RequestId, accepted: bool },
    Finishing,
    Stopping,
    Lingering,
    Dying(Ending),
    Gone,
}

/// A worker with the two channels between it and the dispatcher.
struct Actor {
    life: Life,
    /// Of the tree that it serves.
    path: TreePath,
    /// It is the parent of processes that its hooks detached.
    keeps_processes: bool,
    commands: VecDeque<WorkerCommand>,
    reports: VecDeque<WorkerEvent>,
}

/// A visit that has not ended.
struct Visit {
    request: RequestId,
    details: Arc<HookRequest>,
    path: TreePath,
    named: TreePath,
    worker: Option<Candidate>,
}

struct Walk {
    random: Random,
    scheduler: Scheduler,
    now: Instant,
    next_request: u64,
    replies: HashMap<RequestId, oneshot::Receiver<UnreadResponse>>,
    answered: HashSet<RequestId>,
    accepted: HashSet<RequestId>,
    visits: Vec<Visit>,
    preparations: Vec<(WantedEnvironment, Option<JobSlot>)>,
    /// The environments that visits find.
    made: HashSet<WantedEnvironment>,
    locks: HashSet<TreePath>,
    lock_waits: HashSet<TreePath>,
    actors: BTreeMap<u64, Actor>,
    trees: usize,
    /// Whether some visits find kept answers.
    keeps_answers: bool,
    /// How often a worker was moved, how many answers were kept ones, and how often
    /// limits were changed.
    moves: usize,
    kept: usize,
    changes: usize,
    /// The percentage of steps that fail.
    faults: usize,
    /// What is allowed while there is more than the limits allow: as much as there
    /// was when they were changed, and then ever less.
    excess: Cell<Excess>,
}

#[derive(Clone, Copy, Default)]
struct Excess {
    slots: usize,
    workers: usize,
    in_tree: usize,
}

fn path(number: usize) -> TreePath {
    std::path::Path::new(&format!("/{number}")).into()
}

fn non_zero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let jobs = 1 + random.below(4);
        let isolation = if random.one_in(4) { Isolation::None } else { Isolation::Hook };
        let limits = Limits {
            max_workers: non_zero(jobs + random.below(4)),
            workers_per_tree: non_zero(1 + random.below(3)),
            max_restarts: u32::try_from(random.below(4)).unwrap(),
            max_requests: NonZeroU32::new(u32::try_from(random.below(4)).unwrap()),
            max_lifetime: random.one_in(3).then(|| Timeout::from_secs(5)),
            idle_timeout: random.one_in(2).then(|| Timeout::from_secs(3)),
            restart_window: Timeout::from_secs(2),
            ..Limits::for_jobs(non_zero(jobs))
        };
        Self {
            scheduler: Scheduler::new(limits, "python3".into(), StartMethod::Spawn, isolation, || 0.5),
            now: Instant::now(),
            next_request: 1,
            replies: HashMap::new(),
            answered: HashSet::new(),
            accepted: HashSet::new(),
            visits: Vec::new(),
            preparations: Vec::new(),
            made: HashSet::new(),
            locks: HashSet::new(),
            lock_waits: HashSet::new(),
            actors: BTreeMap::new(),
            trees: 1 + random.below(5),
            keeps_answers: random.one_in(2),
            moves: 0,
            kept: 0,
            changes: 0,
            faults: [0, 5, 30][random.below(3)],
            excess: Cell::default(),
            random,
        }
    }

    fn fault(&mut self) -> bool {
        let faults = self.faults;
        self.random.below(100) < faults
    }

    // Steps.

    fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.submit(),
            20..25 => self.cancel(),
            25..37 => self.end_visit(),
            37..41 => self.end_lock_wait(),
            41..45 => self.end_preparation(),
            45..80 => self.move_worker(),
            80..92 => self.deliver_report(),
            92..95 => self.pass_time(),
            95 => self.change_limits(),
            96 => self.restart(),
            97 => self.scheduler.suspend(&tokio::sync::mpsc::channel(1).0),
            _ => self.scheduler.resume(self.now),
        }
        self.settle();
        self.check();
    }

    fn submit(&mut self) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let path = path(self.random.below(self.trees));
        let mut request = HookRequest::new(&*path, Hook::BuildWheel);
        request.priority = i32::try_from(self.random.below(3)).unwrap();
        if self.random.one_in(4) {
            request.env.insert("KEY".into(), self.random.below(2).to_string().into());
        }
        if self.random.one_in(2) {
            let requires = Some(vec![self.random.below(3).to_string()]);
            let (provider, additional) = (environments(), Vec::new());
            request.environment = Some(RequestEnvironment { provider, requires, additional });
        }
        let (reply, answer) = oneshot::channel();
        if self.random.one_in(50) {
            // Its ticket was dropped.
            drop(answer);
            self.answered.insert(id);
        } else {
            self.replies.insert(id, answer);
        }
        self.scheduler.submit(Submission { id, request, path, reply }, self.now);
    }

    fn cancel(&mut self) {
        let mut open: Vec<RequestId> = self.scheduler.requests.keys().copied().collect();
        open.sort_unstable();
        if !open.is_empty() {
            let request = open[self.random.below(open.len())];
            let canceller = if self.random.one_in(2) { Canceller::Caller } else { Canceller::Operator };
            assert!(self.scheduler.cancel(request, canceller, self.now));
        }
    }

    fn restart(&mut self) {
        if self.random.one_in(4) {
            return self.scheduler.retire(&HashSet::from(["python3".into()]), self.now);
        }
        let selection = match self.random.below(3) {
            0 => Selection::All,
            1 => Selection::Tree(path(self.random.below(self.trees)).to_path_buf()),
            _ => Selection::Environment("python3".into()),
        };
        self.scheduler.restart(&selection, &HashSet::from(["python3".into()]), self.now);
    }

    fn change_limits(&mut self) {
        let mut change = LimitsChange::default();
        match self.random.below(4) {
            0 => change.jobs = Some(non_zero(1 + self.random.below(4))),
            1 => change.max_workers = Some(non_zero(1 + self.random.below(6))),
            2 => change.workers_per_tree = Some(non_zero(1 + self.random.below(3))),
            _ => {
                change.max_requests = Some(NonZeroU32::new(u32::try_from(self.random.below(4)).unwrap()));
                change.max_lifetime = Some(self.random.one_in(3).then(|| Timeout::from_secs(5)));
                change.idle_timeout = Some(self.random.one_in(2).then(|| Timeout::from_secs(3)));
            }
        }
        let before = self.scheduler.limits.clone();
        match self.scheduler.change_limits(&change, |_| None, self.now) {
            Ok(limits) => {
                self.changes += usize::from(limits != before);
                let workers = &self.scheduler.workers;
                let actives = (0..self.trees).filter_map(|tree| Some(self.scheduler.trees.get(&path(tree))?.active));
                self.excess.set(Excess {
                    slots: self.scheduler.slots.taken(),
                    workers: workers.live(),
                    in_tree: actives.max().unwrap_or(0),
                });
            }
            Err(error) => {
                assert!(matches!(error, LimitsError::TooManyJobs { .. }), "{error}");
                assert_eq!(self.scheduler.limits, before);
            }
        }
    }

    fn end_visit(&mut self) {
        if self.visits.is_empty() {
            return;
        }
        let Visit { request, details, path, named, worker } =
            self.visits.swap_remove(self.random.below(self.visits.len()));
        let locked = self.locks.contains(&path);
        let error = HookError::new(ErrorKind::InvalidPyproject, "for the walk");
        let found = if !locked && self.fault() {
            // Sometimes by another queue of this process.
            let held = self.locks.iter().filter(|held| **held != path).min().cloned();
            VisitOutcome::Busy { ours: held.filter(|_| self.random.one_in(2)) }
        } else if locked && (named != path || self.actors.values().any(|actor| actor.path == path)) && self.fault() {
            VisitOutcome::Elsewhere
        } else if !locked && self.fault() {
            VisitOutcome::Failed(error)
        } else {
            self.locks.insert(path.clone());
            if self.fault() { VisitOutcome::Failed(error) } else { self.look(&details, &path, worker) }
        };
        let is_locked = self.locks.contains(&path);
        self.scheduler.visited(request, &path, found, is_locked, self.now);
    }

    fn look(&mut self, details: &HookRequest, path: &TreePath, worker: Option<Candidate>) -> VisitOutcome {
        let mut environment = None;
        if let Some(RequestEnvironment { provider, requires, .. }) = &details.environment {
            let requires = requires.clone().unwrap();
            let requirements = Arc::new(EnvironmentRequirements { python: None, requires, additional: Vec::new() });
            let wanted = WantedEnvironment { provider: provider.clone(), requirements: requirements.clone() };
            if self.fault() {
                // It was dropped, or changed by a hook.
                self.made.remove(&wanted);
            }
            if !self.made.contains(&wanted) {
                return VisitOutcome::NoEnvironment(requirements);
            }
            environment = Some(Arc::new(Environment) as Arc<dyn BuildEnvironment>);
        }
        if self.keeps_answers && self.random.one_in(3) {
            return VisitOutcome::Answered(KeptAnswer { outcome: Ok(json!("kept")), environment });
        }
        let tree = Tree { id: TreeId { device: 1, inode: 1 }, path: path.to_path_buf() };
        let python = environment.as_ref().map(|environment| environment.python());
        let worker = worker.filter(|candidate| candidate.is_of_kind(&None, python)).map(|candidate| {
            let fitness = match (self.fault(), *candidate.tree == tree) {
                (false, _) => Fitness::Fit,
                (true, false) if self.random.one_in(2) => Fitness::Unsuited,
                (true, _) => Fitness::Stale(StopReason::EnvironmentChanged),
            };
            CheckedWorker { worker: candidate.worker, fitness }
        });
        VisitOutcome::Ready(Ready { tree: Arc::new(tree), prepared: Prepared::default(), environment, worker })
    }

    fn end_preparation(&mut self) {
        if self.preparations.is_empty() {
            return;
        }
        let number = self.random.below(self.preparations.len());
        if self.random.one_in(4) {
            // It waits for another process.
            self.preparations[number].1 = None;
            self.scheduler.fill();
            return;
        }
        let (wanted, slot) = self.preparations.swap_remove(number);
        drop(slot);
        let outcome: Result<Arc<dyn BuildEnvironment>, HookError> = if self.fault() {
            Err(HookError::new(ErrorKind::EnvironmentFailed, "for the walk"))
        } else {
            self.made.insert(wanted.clone());
            Ok(Arc::new(Environment))
        };
        self.scheduler.prepared(&wanted, outcome, self.now);
    }

    fn end_lock_wait(&mut self) {
        let Some(path) = self.lock_waits.iter().min().cloned() else { return };
        self.lock_waits.remove(&path);
        let outcome = if self.fault() {
            Err(HookError::new(ErrorKind::InvalidSource, "for the walk"))
        } else {
            assert!(self.locks.insert(path.clone()), "waited for a lock that is held");
            Ok(())
        };
        self.scheduler.lock_awaited(&path, outcome, self.now);
    }

    fn pass_time(&mut self) {
        let until = self.scheduler.next_at().filter(|_| self.random.one_in(2));
        let other = self.now + Duration::from_millis(self.random.below(2000) as u64);
        self.now = self.now.max(until.unwrap_or(other));
        self.scheduler.tick(self.now);
    }

    fn some_actor(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.actors.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len())])
    }

    fn move_worker(&mut self) {
        let Some(id) = self.some_actor() else { return };
        let (fault, rare, obey) = (self.fault(), self.random.one_in(5), self.random.one_in(2));
        let actor = self.actors.get_mut(&id).unwrap();
        if obey && let Some(command) = actor.commands.pop_front() {
            actor.obey(command);
        } else {
            actor.live_on(fault, rare);
        }
        if let Life::Running { request, accepted: false } = actor.life {
            assert!(!self.accepted.contains(&request), "{request} is run a second time");
            let record = &self.scheduler.requests[&request];
            assert_eq!(record.tree.as_ref().unwrap().path, *actor.path, "{request} is run in another tree");
        }
        if let Life::Running { request, accepted: true } = actor.life {
            self.accepted.insert(request);
        }
    }

    fn deliver_report(&mut self) {
        let Some(id) = self.some_actor() else { return };
        let actor = self.actors.get_mut(&id).unwrap();
        let Some(event) = actor.reports.pop_front() else { return };
        if matches!(event, WorkerEvent::Gone { .. }) {
            self.actors.remove(&id);
        }
        self.scheduler.worker_reported(WorkerReport { worker: WorkerId(id), event }, self.now);
    }

    // Actions.

    fn settle(&mut self) {
        loop {
            let actions = self.scheduler.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Visit { request, details, path, named, worker, .. } => {
                self.visits.push(Visit { request, details, path, named, worker });
            }
            Action::AwaitLock { path } => assert!(self.lock_waits.insert(path), "waits twice for one lock"),
            Action::GiveUpLock { path } => {
                assert!(self.lock_waits.remove(&path), "gives up what it has not waited for")
            }
            Action::Unlock { path } => assert!(self.locks.remove(&path), "unlocks what is not locked"),
            Action::Prepare { wanted, slot } => {
                assert!(!self.scheduler.suspended, "an environment is made while suspended");
                assert!(!self.preparations.iter().any(|(other, _)| *other == wanted), "made twice at once");
                self.preparations.push((wanted, Some(slot)));
            }
            Action::GiveUpEnvironment { wanted } => {
                let before = self.preparations.len();
                self.preparations.retain(|(other, _)| *other != wanted);
                assert!(self.preparations.len() < before, "gives up what is not made");
                // This returns its slot.
                self.scheduler.fill();
            }
            Action::Start { worker, plan } => {
                assert!(!self.scheduler.suspended, "{worker} is started while suspended");
                let (commands, reports) = (VecDeque::new(), VecDeque::new());
                let path = plan.tree.path.as_path().into();
                let actor = Actor { life: Life::Starting, path, keeps_processes: false, commands, reports };
                self.actors.insert(worker.0, actor);
            }
            Action::Tell { worker, command } => {
                if let WorkerCommand::Lease(Lease { tree: Some(_), .. }) = &command {
                    assert_eq!(self.scheduler.isolation, Isolation::Hook, "moved");
                    self.moves += 1;
                }
                // It may have ended.
                if let Some(actor) = self.actors.get_mut(&worker.0) {
                    actor.commands.push_back(command);
                }
            }
            Action::Answer { reply, response } => {
                let id = response.response.id;
                if response.response.kept {
                    assert!(!self.accepted.contains(&id), "{id} was run, and has a kept answer");
                    self.kept += 1;
                }
                if reply.send(*response).is_ok() {
                    assert!(self.answered.insert(id), "{id} is answered twice");
                    self.replies.remove(&id);
                }
            }
            Action::Observe(_) => {}
        }
    }

    // Invariants.

    fn check(&self) {
        let scheduler = &self.scheduler;
        let limits = &scheduler.limits;
        let mut slots = self.preparations.iter().filter(|(_, slot)| slot.is_some()).count();
        let mut active: HashMap<TreePath, usize> = HashMap::new();
        for visit in &self.visits {
            *active.entry(visit.path.clone()).or_default() += 1;
        }
        let (mut parked, mut needy) = (0, 0);
        for (id, record) in &scheduler.requests {
            // Whether it is active in its tree, other than by a visit.
            let holds = match &record.state {
                RequestState::Queued => {
                    let state = scheduler.trees.get(&record.path).expect("a queued request has a tree");
                    assert!(state.has_queued());
                    let free = matches!(state.lock, LockState::Free | LockState::Held)
                        && !state.is_preparing
                        && state.active < limits.workers_per_tree.get();
                    let blocked = scheduler.suspended;
                    let full = scheduler.slots.taken() >= limits.jobs.get();
                    let kept = scheduler.slots.free() <= scheduler.trees.soon_before_first();
                    assert!(!free || blocked || full || kept, "{id} could be visited, and is not");
                    false
                }
                RequestState::Visiting => {
                    assert!(self.visits.iter().any(|visit| visit.request == *id), "nobody visits for {id}");
                    false
                }
                RequestState::Preparing { .. } => {
                    let state = scheduler.trees.get(&record.path).expect("it is in its tree's queue");
                    assert!(state.has_queued() && state.is_preparing);
                    assert!(scheduler.waits_for_environment(*id, &record.path), "nobody makes what {id} waits for");
                    false
                }
                RequestState::NeedsWorker { .. } => {
                    assert!(scheduler.needs_worker.contains(id));
                    needy += 1;
                    true
                }
                RequestState::Starting { worker, .. } => {
                    let occupation = scheduler.workers.get(*worker).expect("it starts").occupation();
                    assert_eq!(occupation, Occupation::Starting { request: Some(*id) });
                    true
                }
                RequestState::Leased { worker } => {
                    let occupation = scheduler.workers.get(*worker).expect("it is leased").occupation();
                    assert!(matches!(occupation, Occupation::Leased { request, .. } if request == *id));
                    true
                }
                RequestState::Parked { until } => {
                    assert!(scheduler.parked.contains(&(*until, *id)));
                    parked += 1;
                    false
                }
            };
            let runs = holds || matches!(record.state, RequestState::Visiting);
            assert_eq!(record.slot.is_some(), runs, "the job slot of {id}");
            slots += usize::from(runs);
            *active.entry(record.path.clone()).or_default() += usize::from(holds);
        }
        assert_eq!(scheduler.parked.len(), parked);
        assert_eq!(scheduler.needs_worker.len(), needy);
        assert_eq!(scheduler.slots.taken(), slots, "job slots");
        let mut excess = self.excess.get();
        assert!(slots <= limits.jobs.get().max(excess.slots), "more jobs than allowed");
        excess.slots = excess.slots.min(slots);

        let snapshot = scheduler.snapshot(Vec::new(), self.now);
        assert_eq!(snapshot.requests.count, scheduler.requests.len());
        assert_eq!(snapshot.request_phases.values().sum::<usize>(), scheduler.requests.len());
        assert_eq!(snapshot.worker_phases.values().sum::<usize>(), snapshot.workers.count);
        let with_worker = snapshot.requests.first.iter().filter(|request| request.worker.is_some()).count();
        let with_request = snapshot.workers.first.iter().filter(|worker| worker.request.is_some()).count();
        assert_eq!(with_worker, with_request, "requests and workers name each other");

        let workers = &scheduler.workers;
        let mut sweeps: HashMap<TreePath, usize> = HashMap::new();
        for id in workers.ids() {
            let record = workers.get(id).unwrap();
            let is_sweeping = record.occupation() == Occupation::Sweeping;
            *active.entry(record.path.clone()).or_default() += usize::from(is_sweeping);
            *sweeps.entry(record.path.clone()).or_default() += usize::from(is_sweeping);
        }
        // Lingering workers count again while they are ended.
        let ending = scheduler.shutdown != Shutdown::NotBegun && scheduler.requests.is_empty();
        assert!(ending || workers.live() <= limits.max_workers.get().max(excess.workers), "more workers than allowed");
        excess.workers = excess.workers.min(workers.live());
        assert!(!scheduler.has_surplus() || workers.least_recently_used().is_none(), "an idle worker is too many");
        assert!(workers.lingering() <= limits.max_workers.get(), "more keepers than allowed");
        if needy > 0 && !scheduler.suspended {
            assert!(workers.live() >= limits.max_workers.get(), "there is room for a worker");
            let coming = (limits.max_workers.get() + workers.stopping()).saturating_sub(workers.live());
            assert!(coming >= needy || workers.least_recently_used().is_none(), "nobody makes room");
        }

        let most_in_tree = limits.workers_per_tree.get().max(excess.in_tree);
        excess.in_tree = 0;
        for tree in 0..self.trees {
            let path = path(tree);
            let expected = active.get(&path).copied().unwrap_or(0);
            let (lock, found) =
                scheduler.trees.get(&path).map_or((LockState::Free, 0), |state| (state.lock, state.active));
            assert_eq!(found, expected, "active in tree {tree}");
            let sweeping = scheduler.trees.get(&path).map_or(0, |state| state.sweeping);
            assert_eq!(sweeping, sweeps.get(&path).copied().unwrap_or(0), "sweeps in tree {tree}");
            assert!(found <= most_in_tree, "too much in tree {tree}");
            excess.in_tree = excess.in_tree.max(found);
            assert_eq!(lock == LockState::Held, self.locks.contains(&path), "the lock of tree {tree}");
            assert_eq!(lock == LockState::Waiting, self.lock_waits.contains(&path), "the wait for tree {tree}");
            let needed =
                found > 0 || scheduler.trees.get(&path).is_some_and(crate::dispatch::trees::TreeState::has_queued);
            let ending = scheduler.shutdown.ends_hooks();
            assert!(ending || lock != LockState::Held || needed, "nobody needs the lock of tree {tree}");
            let hooks = self.actors.values().filter(|actor| actor.path == path && actor.may_run_hooks()).count();
            assert!(hooks <= most_in_tree, "{hooks} hooks in tree {tree}");
            assert!(hooks == 0 || lock == LockState::Held, "hooks without a lock in tree {tree}");
        }
        self.excess.set(excess);
    }

    // The end.

    fn end(&mut self) {
        self.scheduler.resume(self.now);
        self.settle();
        let way = self.random.below(4);
        match way {
            0 => self.scheduler.interrupt(Signal::SIGTERM, self.now),
            1 => self.scheduler.terminate(self.now),
            2 => {
                self.scheduler.interrupt(Signal::SIGINT, self.now);
                self.settle();
                self.scheduler.terminate(self.now);
            }
            _ => self.scheduler.drain(),
        }
        self.settle();
        self.faults = self.faults.min(5);
        for _ in 0..200_000 {
            if self.scheduler.is_finished() {
                break;
            }
            match self.random.below(100) {
                0..22 => self.end_visit(),
                22..29 => self.end_lock_wait(),
                29..35 => self.end_preparation(),
                35..75 => self.move_worker(),
                75..98 => self.deliver_report(),
                _ => self.pass_time(),
            }
            self.settle();
            self.check();
        }
        assert!(self.scheduler.is_finished(), "it does not end");
        assert!(self.replies.is_empty(), "never answered: {:?}", self.replies.keys());
        assert!(self.actors.is_empty(), "workers are left");
        if way == 3 {
            assert!(self.locks.is_empty(), "locks are left: {:?}", self.locks);
            assert_eq!(self.scheduler.slots.taken(), 0);
        }
    }
}

impl Actor {
    /// Whether a hook of this worker may be running, whatever it has reported.
    fn may_run_hooks(&self) -> bool {
        matches!(self.life, Life::Running { .. } | Life::Finishing)
    }

    fn answer(&mut self, request: RequestId, outcome: Result<(), ErrorKind>) {
        let outcome = outcome.map(|()| json!(request.0)).map_err(|kind| HookError::new(kind, "for the walk"));
        let finished = Finished::without_worker(request, outcome);
        self.reports.push_back(WorkerEvent::Finished(Box::new(finished)));
    }

    /// As `Machine` does.
    fn obey(&mut self, command: WorkerCommand) {
        let planned = Life::Dying(Ending::Planned);
        match (command, self.life.clone()) {
            (WorkerCommand::Lease(lease), Life::Idle) => {
                if let Some(tree) = lease.tree {
                    assert!(!self.keeps_processes, "moved, with processes of a hook");
                    assert_ne!(*tree.path, *self.path, "moved to where it was");
                    self.path = tree.path.as_path().into();
                }
                self.life = Life::Running { request: lease.request, accepted: false };
            }
            (WorkerCommand::Lease(_), life) => {
                assert!(matches!(life, Life::Dying(_) | Life::Gone), "leased while {life:?}");
            }
            (WorkerCommand::Cancel { request: cancelled, .. }, Life::Running { request, .. })
                if cancelled == request =>
            {
                self.answer(request, Err(ErrorKind::Cancelled));
                self.life = Life::Finishing;
            }
            (WorkerCommand::Interrupt(_), Life::Running { request, .. }) => {
                self.answer(request, Err(ErrorKind::Interrupted));
                self.life = planned;
            }
            (WorkerCommand::Stop | WorkerCommand::Interrupt(_), Life::Idle) => self.life = Life::Stopping,
            (WorkerCommand::Stop, Life::Starting)
            | (WorkerCommand::Interrupt(_), Life::Starting | Life::Finishing)
            | (WorkerCommand::Terminate, Life::Starting | Life::Idle | Life::Finishing)
            | (WorkerCommand::Terminate, Life::Stopping | Life::Lingering) => self.life = planned,
            (WorkerCommand::Terminate, Life::Running { request, accepted }) => {
                if accepted {
                    self.answer(request, Err(ErrorKind::Interrupted));
                }
                self.life = planned;
            }
            _ => {}
        }
    }

    fn live_on(&mut self, fault: bool, rare: bool) {
        let crash = Life::Dying(Ending::Crashed("for the walk".into()));
        self.life = match self.life.clone() {
            Life::Starting if fault => {
                Life::Dying(Ending::StartFailed { reason: "for the walk".into(), lasting: rare })
            }
            Life::Starting => {
                self.reports.push_back(WorkerEvent::Ready {
                    pid: 1,
                    start_method: StartMethod::Spawn,
                    after: Duration::ZERO,
                    freshness: None,
                });
                Life::Idle
            }
            Life::Idle if fault && rare => crash,
            Life::Running { request, accepted: false } if fault && rare => {
                self.answer(request, Err(ErrorKind::ProtocolViolation));
                Life::Dying(Ending::Violated("for the walk".into()))
            }
            Life::Running { accepted: false, .. } if fault => crash,
            Life::Running { request, accepted: false } => {
                self.reports.push_back(WorkerEvent::Accepted { request });
                Life::Running { request, accepted: true }
            }
            Life::Running { request, accepted: true } if fault => {
                self.answer(request, Err(ErrorKind::WorkerCrashed));
                crash
            }
            Life::Running { request, .. } => {
                self.answer(request, Ok(()));
                Life::Finishing
            }
            Life::Finishing if fault => crash,
            Life::Finishing => {
                self.keeps_processes = rare;
                self.reports.push_back(WorkerEvent::Idle { keeps_processes: rare });
                Life::Idle
            }
            Life::Stopping if rare => {
                self.reports.push_back(WorkerEvent::Lingers);
                Life::Lingering
            }
            Life::Stopping => Life::Dying(Ending::Planned),
            Life::Lingering if rare => Life::Dying(Ending::Planned),
            Life::Dying(ending) => {
                let exit = Some(ExitReason::ExitCode(1));
                self.reports.push_back(WorkerEvent::Gone { pid: Some(1), exit, ending });
                Life::Gone
            }
            life @ (Life::Idle | Life::Lingering | Life::Gone) => life,
        };
    }
}

#[test]
fn the_books_balance_whatever_happens() {
    // WALK_SEED=n walks with that seed only, WALKS=n with n seeds.
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("WALK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WALKS").unwrap_or(60),
    };
    let mut totals = [0; 3];
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(seed);
            for _ in 0..400 {
                walk.step();
            }
            walk.end();
            [walk.moves, walk.kept, walk.changes]
        });
        let counts = outcome.unwrap_or_else(|_| panic!("the walk of seed {seed} failed: its panic is above"));
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let [moves, kept, changes] = totals;
    assert!(moves > 0, "no worker was moved");
    assert!(kept > 0, "no answer was kept");
    assert!(changes > 0, "no limit was changed");
}
