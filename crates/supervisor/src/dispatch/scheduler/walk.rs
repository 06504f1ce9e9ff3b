//! A random walk through the scheduler: requests, visits, locks, workers and
//! time in every order that can happen; after each step its books must balance.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use hookd_protocol::Hook;
use serde_json::json;

use super::super::message::Submission;
use super::super::trees::LockState;
use super::super::workers::Occupation;
use super::*;
use crate::error::{ErrorKind, ExitReason};
use crate::event::StopReason;
use crate::limits::Timeout;
use crate::worker::{Ending, WorkerCommand, WorkerEvent, WorkerReport};

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

/// What a worker's task and process would be doing.
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
    tree: TreeId,
    /// It was given a request before.
    leased: bool,
    commands: VecDeque<WorkerCommand>,
    reports: VecDeque<WorkerEvent>,
}

struct Walk {
    random: Random,
    scheduler: Scheduler,
    now: Instant,
    next_request: u64,
    replies: HashMap<RequestId, oneshot::Receiver<Delivery>>,
    answered: HashSet<RequestId>,
    accepted: HashSet<RequestId>,
    visits: Vec<(RequestId, TreeId, bool)>,
    locks: HashSet<TreeId>,
    lock_waits: HashSet<TreeId>,
    actors: BTreeMap<u64, Actor>,
    trees: usize,
    /// How often things go wrong, of a hundred.
    faults: usize,
}

fn non_zero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let jobs = 1 + random.below(4);
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
            scheduler: Scheduler::new(limits, "python3".into(), StartMethod::Spawn, || 0.5),
            now: Instant::now(),
            next_request: 1,
            replies: HashMap::new(),
            answered: HashSet::new(),
            accepted: HashSet::new(),
            visits: Vec::new(),
            locks: HashSet::new(),
            lock_waits: HashSet::new(),
            actors: BTreeMap::new(),
            trees: 1 + random.below(5),
            faults: [0, 5, 30][random.below(3)],
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
            25..40 => self.end_visit(),
            40..45 => self.end_lock_wait(),
            45..80 => self.move_worker(),
            80..92 => self.deliver_report(),
            92..96 => self.pass_time(),
            96 => self.scheduler.recycle(),
            97 => self.scheduler.suspend(&tokio::sync::mpsc::channel(1).0),
            _ => self.scheduler.resume(self.now),
        }
        self.settle();
        self.check();
    }

    fn submit(&mut self) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let inode = self.random.below(self.trees) as u64;
        let mut request = HookRequest::new(format!("/{inode}"), Hook::BuildWheel);
        request.priority = i32::try_from(self.random.below(3)).unwrap();
        if self.random.one_in(4) {
            request.env.insert("KEY".into(), self.random.below(2).to_string().into());
        }
        let tree = Arc::new(Tree { id: TreeId { device: 1, inode }, path: format!("/{inode}").into() });
        let (reply, answer) = oneshot::channel();
        if self.random.one_in(50) {
            // Its ticket was dropped on the way.
            drop(answer);
            self.answered.insert(id);
        } else {
            self.replies.insert(id, answer);
        }
        self.scheduler.submit(Submission { id, request, tree, reply }, self.now);
    }

    fn cancel(&mut self) {
        let mut open: Vec<RequestId> = self.scheduler.requests.keys().copied().collect();
        open.sort_unstable();
        if !open.is_empty() {
            let request = open[self.random.below(open.len())];
            self.scheduler.cancel(request, self.now);
        }
    }

    fn end_visit(&mut self) {
        if self.visits.is_empty() {
            return;
        }
        let (request, tree, locked) = self.visits.swap_remove(self.random.below(self.visits.len()));
        let error = HookError::new(ErrorKind::InvalidPyproject, "for the walk");
        let visited = if !locked && self.fault() {
            Visited::Busy
        } else if !locked && self.fault() {
            Visited::Failed { error, locked: false }
        } else {
            self.locks.insert(tree);
            if self.fault() {
                Visited::Failed { error, locked: true }
            } else {
                Visited::Ready { prepared: Prepared::default() }
            }
        };
        self.scheduler.visited(request, tree, visited, self.now);
    }

    fn end_lock_wait(&mut self) {
        let Some(tree) = self.lock_waits.iter().min().copied() else { return };
        self.lock_waits.remove(&tree);
        let outcome = if self.fault() {
            Err(HookError::new(ErrorKind::InvalidSource, "for the walk"))
        } else {
            assert!(self.locks.insert(tree), "waited for a lock that is held");
            Ok(())
        };
        self.scheduler.lock_awaited(tree, outcome, self.now);
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
            actor.obey(command, fault);
        } else {
            actor.live_on(fault, rare);
        }
        if let Life::Running { request, accepted: false } = actor.life {
            assert!(!self.accepted.contains(&request), "{request} is run a second time");
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

    // What the scheduler wants.

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
            Action::Visit { request, tree, locked, .. } => {
                assert_eq!(locked, self.locks.contains(&tree.id), "the visit of {request} is wrong about the lock");
                self.visits.push((request, tree.id, locked));
            }
            Action::AwaitLock { tree } => assert!(self.lock_waits.insert(tree), "waits twice for one lock"),
            Action::Unlock { tree } => assert!(self.locks.remove(&tree), "unlocks what is not locked"),
            Action::Start { worker, plan } => {
                assert!(!self.scheduler.suspended, "{worker} is started while suspended");
                let (commands, reports) = (VecDeque::new(), VecDeque::new());
                self.actors.insert(
                    worker.0,
                    Actor { life: Life::Starting, tree: plan.tree.id, leased: false, commands, reports },
                );
            }
            Action::Tell { worker, command } => {
                // One that is gone hears nothing.
                if let Some(actor) = self.actors.get_mut(&worker.0) {
                    actor.commands.push_back(command);
                }
            }
            Action::Answer { reply, delivery } => {
                let id = delivery.response.id;
                if reply.send(*delivery).is_ok() {
                    assert!(self.answered.insert(id), "{id} is answered twice");
                    self.replies.remove(&id);
                }
            }
            Action::Observe(_) => {}
        }
    }

    // The books.

    fn check(&self) {
        let scheduler = &self.scheduler;
        let limits = &scheduler.limits;
        let mut slots = self.visits.len();
        let mut active: HashMap<TreeId, usize> = HashMap::new();
        for (_, tree, _) in &self.visits {
            *active.entry(*tree).or_default() += 1;
        }
        let (mut parked, mut needy) = (0, 0);
        for (id, record) in &scheduler.requests {
            let tree = record.tree.id;
            let holds = match &record.state {
                RequestState::Queued => {
                    let state = scheduler.trees.get(tree).expect("a queued request has a tree");
                    assert!(state.has_queued());
                    let free = matches!(state.lock, LockState::Free | LockState::Held)
                        && state.active < limits.workers_per_tree.get();
                    let blocked = scheduler.suspended;
                    let full = scheduler.jobs_in_use >= limits.jobs.get();
                    assert!(!free || blocked || full, "{id} could be visited, and is not");
                    false
                }
                RequestState::Visiting => {
                    assert!(self.visits.iter().any(|(visited, ..)| visited == id), "nobody visits for {id}");
                    false
                }
                RequestState::NeedsWorker { .. } => {
                    assert!(scheduler.needs_worker.contains(id));
                    needy += 1;
                    true
                }
                RequestState::Starting { worker, .. } => {
                    let occupation = scheduler.workers.get(*worker).expect("it starts").occupation;
                    assert_eq!(occupation, Occupation::Starting { request: Some(*id) });
                    true
                }
                RequestState::Leased { worker } => {
                    let occupation = scheduler.workers.get(*worker).expect("it is leased").occupation;
                    assert!(matches!(occupation, Occupation::Leased { request, .. } if request == *id));
                    true
                }
                RequestState::Parked { until } => {
                    assert!(scheduler.parked.contains(&(*until, *id)));
                    parked += 1;
                    false
                }
            };
            slots += usize::from(holds);
            *active.entry(tree).or_default() += usize::from(holds);
        }
        assert_eq!(scheduler.parked.len(), parked);
        assert_eq!(scheduler.needs_worker.len(), needy);
        assert_eq!(scheduler.jobs_in_use, slots, "job slots");
        assert!(slots <= limits.jobs.get(), "more jobs than allowed");

        let workers = &scheduler.workers;
        for id in workers.ids() {
            let record = workers.get(id).unwrap();
            *active.entry(record.pool.tree.id).or_default() += usize::from(record.occupation == Occupation::Sweeping);
        }
        // Keepers that are being ended count again; at the end there are many.
        let ending = scheduler.phase != Phase::Open && scheduler.requests.is_empty();
        assert!(ending || workers.live() <= limits.max_workers.get(), "more workers than allowed");
        assert!(workers.lingering() <= limits.max_workers.get(), "more keepers than allowed");
        if needy > 0 && !scheduler.suspended {
            assert_eq!(workers.live(), limits.max_workers.get(), "there is room for a worker");
            assert!(workers.stopping() >= needy || workers.least_recently_used().is_none(), "nobody makes room");
        }

        for inode in 0..self.trees as u64 {
            let id = TreeId { device: 1, inode };
            let expected = active.get(&id).copied().unwrap_or(0);
            let (lock, found) =
                scheduler.trees.get(id).map_or((LockState::Free, 0), |state| (state.lock, state.active));
            assert_eq!(found, expected, "active in tree {inode}");
            assert!(found <= limits.workers_per_tree.get(), "too much in tree {inode}");
            assert_eq!(lock == LockState::Held, self.locks.contains(&id), "the lock of tree {inode}");
            assert_eq!(lock == LockState::Waiting, self.lock_waits.contains(&id), "the wait for tree {inode}");
            let needed = found > 0 || scheduler.trees.get(id).is_some_and(super::super::trees::TreeState::has_queued);
            let ending = matches!(scheduler.phase, Phase::Ending(_));
            assert!(ending || lock != LockState::Held || needed, "nobody needs the lock of tree {inode}");
            let hooks = self.actors.values().filter(|actor| actor.tree == id && actor.may_run_hooks()).count();
            assert!(hooks <= limits.workers_per_tree.get(), "{hooks} hooks in tree {inode}");
            assert!(hooks == 0 || lock == LockState::Held, "hooks without a lock in tree {inode}");
        }
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
                0..25 => self.end_visit(),
                25..35 => self.end_lock_wait(),
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
            assert_eq!(self.scheduler.jobs_in_use, 0);
        }
    }
}

impl Actor {
    /// Whether a hook of this worker may be running, whatever its dispatcher
    /// has heard of it yet.
    fn may_run_hooks(&self) -> bool {
        matches!(self.life, Life::Running { .. } | Life::Finishing)
    }

    fn answer(&mut self, request: RequestId, outcome: Result<(), ErrorKind>) {
        let finished = Finished {
            request,
            outcome: outcome.map(|()| json!(request.0)).map_err(|kind| HookError::new(kind, "for the walk")),
            start: None,
            hook: None,
            files: CaptureFiles::default(),
        };
        self.reports.push_back(WorkerEvent::Finished(Box::new(finished)));
    }

    /// As `Machine` does it.
    fn obey(&mut self, command: WorkerCommand, stale: bool) {
        let planned = Life::Dying(Ending::Planned);
        match (command, self.life.clone()) {
            // Never the first: what was just started is fresh.
            (WorkerCommand::Lease(lease), Life::Idle) if stale && self.leased => {
                let reason = StopReason::EnvironmentChanged;
                self.reports.push_back(WorkerEvent::Stale { lease, reason });
            }
            (WorkerCommand::Lease(lease), Life::Idle) => {
                self.leased = true;
                self.life = Life::Running { request: lease.request, accepted: false };
            }
            (WorkerCommand::Lease(_), life) => {
                assert!(matches!(life, Life::Dying(_) | Life::Gone), "leased while {life:?}");
            }
            (WorkerCommand::Cancel(cancelled), Life::Running { request, .. }) if cancelled == request => {
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
                self.reports.push_back(WorkerEvent::Idle);
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
    // WALK_SEED=n walks that one only; WALKS=n walks more of them.
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("WALK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WALKS").unwrap_or(60),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(seed);
            for _ in 0..400 {
                walk.step();
            }
            walk.end();
        });
        assert!(outcome.is_ok(), "the walk of seed {seed} failed: its panic is above");
    }
}
