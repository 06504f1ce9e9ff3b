//! The scheduler's decisions, without processes and with a clock of its own.

mod random_walk;

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use hookd_protocol::Hook;
use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::build_environment::tests::{Environment, environments};
use crate::build_environment::{EnvironmentRequirements, RequestEnvironment, WantedEnvironment};
use crate::dispatch::message::Submission;
use crate::error::{Canceller, ErrorKind, ExitReason};
use crate::event::StopReason;
use crate::ids::TemplateId;
use crate::limits::{LimitsChange, Timeout};
use crate::selection::Selection;
use crate::tree::{Candidate, CheckedWorker, Fitness, KeptAnswer, Ready, TreeId, VisitOutcome};
use crate::worker::{Ending, WorkerCommand, WorkerEvent, WorkerReport};

/// A scheduler whose visits succeed at once, and whose workers obey.
struct Bench {
    scheduler: Scheduler,
    now: Instant,
    next_request: u64,
    replies: HashMap<u64, oneshot::Receiver<UnreadResponse>>,
    /// The actions, in words.
    log: Vec<String>,
    /// Trees that another process has locked.
    busy: Vec<u64>,
    /// Workers that visits find out of date.
    stale: Vec<u64>,
    /// Trees whose workers are forked from another template than all others.
    special: Vec<u64>,
    /// Trees for which there are kept answers; for odd ones, that the backend has no
    /// such hook.
    kept: Vec<u64>,
    /// How many visits there were.
    visits: usize,
    /// Whether visits find environments.
    has_environments: bool,
    /// The environments that are being made.
    preparations: Vec<(WantedEnvironment, JobSlot)>,
}

fn limits(jobs: usize, max_workers: usize) -> Limits {
    let number = |number| NonZeroUsize::new(number).unwrap();
    Limits { max_workers: number(max_workers), ..Limits::for_jobs(number(jobs)) }
}

fn path(tree: u64) -> TreePath {
    std::path::Path::new(&format!("/{tree}")).into()
}

fn number(path: &std::path::Path) -> u64 {
    path.to_str().unwrap()[1..].parse().unwrap()
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self::with(limits, Isolation::Hook)
    }

    fn with(limits: Limits, isolation: Isolation) -> Self {
        Self {
            scheduler: Scheduler::new(limits, "python3".into(), StartMethod::Spawn, isolation, || 0.0),
            now: Instant::now(),
            next_request: 1,
            replies: HashMap::new(),
            log: Vec::new(),
            busy: Vec::new(),
            stale: Vec::new(),
            special: Vec::new(),
            kept: Vec::new(),
            visits: 0,
            has_environments: false,
            preparations: Vec::new(),
        }
    }

    fn submit(&mut self, tree: u64) -> u64 {
        self.submit_with(tree, |_| {})
    }

    fn submit_with(&mut self, tree: u64, change: impl FnOnce(&mut HookRequest)) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        let (reply, answer) = oneshot::channel();
        let mut request = HookRequest::new(format!("/{tree}"), Hook::BuildWheel);
        change(&mut request);
        self.replies.insert(number, answer);
        self.scheduler.submit(Submission { id: RequestId(number), request, path: path(tree), reply }, self.now);
        self.settle();
        number
    }

    /// Carries out actions until there are none.
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
            Action::Visit { request, details, path, worker, .. } => {
                self.visits += 1;
                let found = self.look(&details, &path, worker);
                let is_locked = !matches!(found, VisitOutcome::Busy { .. });
                self.scheduler.visited(request, &path, found, is_locked, self.now);
            }
            Action::Start { worker, plan } => {
                self.log.push(format!("start {worker} in {}", number(&plan.tree.path)));
            }
            Action::Tell { worker, command } => self.log.push(match command {
                WorkerCommand::Lease(lease) => {
                    let moves = lease.tree.map(|tree| format!(" in {}", number(&tree.path)));
                    format!("{worker} runs {}{}", lease.request, moves.unwrap_or_default())
                }
                WorkerCommand::Cancel { request, .. } => format!("{worker} cancels {request}"),
                WorkerCommand::Stop => format!("stop {worker}"),
                WorkerCommand::Terminate => format!("terminate {worker}"),
                WorkerCommand::Interrupt(signal) => format!("{signal} to {worker}"),
                WorkerCommand::Suspend(_) => format!("suspend {worker}"),
                WorkerCommand::Resume => format!("resume {worker}"),
            }),
            Action::Answer { reply, response } => {
                let _ = reply.send(*response);
            }
            Action::AwaitLock { path } => self.log.push(format!("await lock of {}", number(&path))),
            Action::GiveUpLock { path } => self.log.push(format!("give up lock of {}", number(&path))),
            Action::Unlock { path } => self.log.push(format!("unlock {}", number(&path))),
            Action::Prepare { wanted, slot } => {
                self.log.push(format!("prepare {}", wanted.requirements.requires.join(" ")));
                self.preparations.push((wanted, slot));
            }
            Action::GiveUpEnvironment { wanted } => {
                self.log.push(format!("give up {}", wanted.requirements.requires.join(" ")));
                self.preparations.retain(|(other, _)| *other != wanted);
                self.scheduler.fill();
            }
            Action::Observe(_) => {}
        }
    }

    fn look(&self, details: &HookRequest, path: &TreePath, worker: Option<Candidate>) -> VisitOutcome {
        let inode = number(path);
        if self.busy.contains(&inode) {
            return VisitOutcome::Busy { ours: None };
        }
        let environment = details.environment.as_ref().map(|environment| {
            let requires = environment.requires.clone().unwrap();
            EnvironmentRequirements { python: None, requires, additional: Vec::new() }
        });
        let environment = match environment {
            Some(requirements) if !self.has_environments => return VisitOutcome::NoEnvironment(Arc::new(requirements)),
            Some(_) => Some(Arc::new(Environment) as Arc<dyn BuildEnvironment>),
            None => None,
        };
        if self.kept.contains(&inode) {
            let error = HookError::new(ErrorKind::UnsupportedHook, "for the test");
            let outcome = if inode.is_multiple_of(2) { Ok(json!("kept")) } else { Err(error) };
            return VisitOutcome::Answered(KeptAnswer { outcome, environment });
        }
        let tree = Arc::new(Tree { id: TreeId { device: 1, inode }, path: path.to_path_buf() });
        let python = environment.as_ref().map(|environment| environment.python());
        let worker = worker.filter(|candidate| candidate.is_of_kind(&None, python));
        let is_special = |tree: &std::path::Path| self.special.contains(&number(tree));
        let worker = worker.map(|candidate| CheckedWorker {
            worker: candidate.worker,
            fitness: if self.stale.contains(&candidate.worker.0) {
                Fitness::Stale(StopReason::EnvironmentChanged)
            } else if is_special(&candidate.tree.path) == is_special(path) {
                Fitness::Fit
            } else {
                Fitness::Unsuited
            },
        });
        VisitOutcome::Ready(Ready { tree, prepared: Prepared::default(), environment, worker })
    }

    /// A request that needs an environment with this.
    fn submit_with_environment(&mut self, tree: u64, requirement: &str) -> u64 {
        self.submit_with(tree, |request| {
            let requires = Some(vec![requirement.to_owned()]);
            let (provider, additional) = (environments(), Vec::new());
            request.environment = Some(RequestEnvironment { provider, requires, additional });
        })
    }

    /// The environment that was begun first is made, or fails.
    fn prepared(&mut self, outcome: Result<(), ErrorKind>) {
        let (wanted, slot) = self.preparations.remove(0);
        drop(slot);
        self.has_environments |= outcome.is_ok();
        let outcome = outcome.map(|()| Arc::new(Environment) as Arc<dyn BuildEnvironment>);
        self.scheduler.prepared(&wanted, outcome.map_err(|kind| HookError::new(kind, "not made")), self.now);
        self.settle();
    }

    fn cancel(&mut self, request: u64) -> Option<String> {
        self.scheduler.cancel(RequestId(request), Canceller::Caller, self.now);
        self.settle();
        self.outcome(request)
    }

    fn report(&mut self, worker: u64, event: WorkerEvent) {
        self.scheduler.worker_reported(WorkerReport { worker: WorkerId(worker), event }, self.now);
        self.settle();
    }

    fn ready(&mut self, worker: u64) {
        let pid = u32::try_from(worker).unwrap() + 100;
        let (start_method, after) = (StartMethod::Spawn, Duration::ZERO);
        self.report(worker, WorkerEvent::Ready { pid, start_method, after, freshness: None });
    }

    /// The worker accepts and answers the request, and cleans up.
    fn finish(&mut self, worker: u64, request: u64) {
        self.answer(worker, request);
        self.report(worker, IDLE);
    }

    fn answer(&mut self, worker: u64, request: u64) {
        let request = RequestId(request);
        self.report(worker, WorkerEvent::Accepted { request });
        let finished = Finished::without_worker(request, Ok(json!(request.0)));
        self.report(worker, WorkerEvent::Finished(Box::new(finished)));
    }

    fn gone(&mut self, worker: u64, ending: Ending) {
        let exit = Some(ExitReason::ExitCode(1));
        self.report(worker, WorkerEvent::Gone { pid: Some(1), exit, ending });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.scheduler.tick(self.now);
        self.settle();
    }

    /// The actions since the last call, without those of locks.
    fn done(&mut self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.log);
        log.retain(|line| !line.starts_with("unlock"));
        log
    }

    fn restart(&mut self, selection: &Selection) -> (usize, usize) {
        let interpreters = match selection {
            Selection::Environment(python) => HashSet::from([python.clone()]),
            _ => HashSet::new(),
        };
        let restarted = self.scheduler.restart(selection, &interpreters, self.now);
        self.settle();
        restarted
    }

    fn change(&mut self, change: LimitsChange) {
        self.scheduler.change_limits(&change, |_| None, self.now).unwrap();
        self.settle();
    }

    /// The kind of error, or "ok"; `None` without an answer.
    fn outcome(&mut self, request: u64) -> Option<String> {
        let delivery = self.replies.get_mut(&request)?.try_recv().ok()?;
        Some(match delivery.response.outcome {
            Ok(_) => "ok".into(),
            Err(error) => error.kind.to_string(),
        })
    }
}

const IDLE: WorkerEvent = WorkerEvent::Idle { keeps_processes: false };

fn crashed() -> Ending {
    Ending::Crashed("it crashed".into())
}

#[test]
fn one_worker_serves_the_requests_of_its_tree_in_order() {
    let mut bench = Bench::new(limits(2, 8));
    let (first, second) = (bench.submit(1), bench.submit(1));
    assert_eq!(bench.done(), ["start 1 in 1"]);
    bench.ready(1);
    assert_eq!(bench.done(), ["1 runs 1"]);
    bench.finish(1, first);
    assert_eq!(bench.done(), ["1 runs 2"]);
    bench.finish(1, second);
    assert!(bench.done().is_empty());
    assert_eq!((bench.outcome(first), bench.outcome(second)), (Some("ok".into()), Some("ok".into())));
}

#[test]
fn the_job_slot_is_free_with_the_answer_and_the_tree_with_the_sweep() {
    let mut bench = Bench::new(limits(1, 8));
    let first = bench.submit(1);
    bench.submit(1);
    bench.submit(2);
    bench.ready(1);
    bench.done();
    bench.answer(1, first);
    assert_eq!(bench.done(), ["start 2 in 2"]);
    bench.report(1, IDLE);
    assert!(bench.done().is_empty());
}

#[test]
fn jobs_bound_what_runs_and_trees_take_turns() {
    let mut bench = Bench::new(limits(1, 8));
    for tree in [1, 1, 2] {
        bench.submit(tree);
    }
    bench.ready(1);
    bench.finish(1, 1);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "start 2 in 2"]);
}

#[test]
fn the_worker_of_the_least_recently_used_tree_makes_room() {
    let mut bench = Bench::with(limits(1, 2), Isolation::None);
    for tree in [1, 2] {
        let request = bench.submit(tree);
        bench.ready(tree);
        bench.finish(tree, request);
    }
    let again = bench.submit(1);
    bench.finish(1, again);
    bench.done();
    bench.submit(3);
    assert_eq!(bench.done(), ["stop 2"]);
    bench.gone(2, Ending::Planned);
    assert_eq!(bench.done(), ["start 3 in 3"]);
}

/// A worker that has run a hook of tree 1, and is idle.
fn with_idle_worker(limits: Limits, isolation: Isolation) -> Bench {
    let mut bench = Bench::with(limits, isolation);
    let request = bench.submit(1);
    bench.ready(1);
    bench.finish(1, request);
    bench.done();
    bench
}

#[test]
fn an_idle_worker_is_moved_to_the_tree_that_needs_one() {
    let mut bench = with_idle_worker(limits(1, 1), Isolation::Hook);
    bench.visits = 0;
    for (request, tree) in (2..).zip([2, 2, 3, 1]) {
        bench.submit(tree);
        bench.finish(1, request);
    }
    // Once in a tree, it is not told so again.
    assert_eq!(bench.done(), ["1 runs 2 in 2", "1 runs 3", "1 runs 4 in 3", "1 runs 5 in 1"]);
    assert_eq!(bench.visits, 4, "one for each");
    let mut response = |request| bench.replies.get_mut(&request).unwrap().try_recv().unwrap().response;
    let generations = [1, 2, 3, 5].map(|request| response(request).worker.unwrap().generation);
    assert_eq!(generations, [1, 1, 1, 2], "within each pool");
}

#[test]
fn a_tree_keeps_its_own_worker_while_others_are_idle() {
    let mut bench = Bench::new(limits(2, 8));
    let (first, second) = (bench.submit(1), bench.submit(2));
    bench.ready(1);
    bench.ready(2);
    bench.finish(2, second);
    bench.finish(1, first);
    bench.done();
    bench.submit(2);
    bench.submit(1);
    assert_eq!(bench.done(), ["2 runs 3", "1 runs 4"]);
}

#[test]
fn what_may_not_be_moved() {
    let with_variable = |request: &mut HookRequest| drop(request.env.insert("A".into(), "1".into()));
    let mut bench = with_idle_worker(limits(1, 8), Isolation::None);
    bench.submit(2);
    assert_eq!(bench.done(), ["start 2 in 2"], "isolation `none`");
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    bench.submit_with(2, with_variable);
    assert_eq!(bench.done(), ["start 2 in 2"], "another kind");
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    bench.has_environments = true;
    bench.submit_with_environment(2, "a");
    assert_eq!(bench.done(), ["start 2 in 2"], "another environment");
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    bench.stale.push(1);
    bench.submit(2);
    assert_eq!(bench.done(), ["stop 1", "start 2 in 2"], "out of date");
    let mut bench = with_idle_worker(Limits { max_requests: NonZeroU32::new(2), ..limits(1, 8) }, Isolation::Hook);
    bench.submit(2);
    bench.finish(1, 2);
    bench.submit(3);
    assert_eq!(bench.done(), ["1 runs 2 in 2", "stop 1", "start 2 in 3"], "at its end");
}

#[test]
fn a_worker_with_detached_processes_stays_with_its_tree_until_they_are_gone() {
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    let again = bench.submit(1);
    bench.answer(1, again);
    bench.report(1, WorkerEvent::Idle { keeps_processes: true });
    bench.submit(2);
    assert_eq!(bench.done(), ["1 runs 2", "start 2 in 2"]);
    bench.ready(2);
    bench.finish(2, 3);
    bench.submit(1);
    bench.finish(1, 4);
    bench.submit(3);
    assert_eq!(bench.done(), ["2 runs 3", "1 runs 4", "1 runs 5 in 3"]);
}

#[test]
fn a_worker_of_another_template_is_left_to_its_own_tree() {
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    bench.special.push(2);
    bench.submit(2);
    assert_eq!(bench.done(), ["start 2 in 2"]);
    bench.ready(2);
    bench.finish(2, 2);
    bench.submit(1);
    assert_eq!(bench.done(), ["2 runs 2", "1 runs 3"]);
}

#[test]
fn a_kept_answer_needs_no_worker() {
    let mut bench = with_idle_worker(limits(1, 1), Isolation::Hook);
    bench.kept = vec![1, 2];
    let (own, other) = (bench.submit(1), bench.submit(2));
    assert_eq!(bench.log, ["unlock 1", "unlock 2"]);
    for (request, outcome) in [(own, Err(ErrorKind::UnsupportedHook)), (other, Ok(json!("kept")))] {
        let response = bench.replies.get_mut(&request).unwrap().try_recv().unwrap().response;
        assert_eq!((response.outcome.map_err(|error| error.kind), response.kept), (outcome, true));
        assert!(response.worker.is_none() && response.environment.is_none() && response.timing.start.is_none());
    }
    // The job slot is free, and so is the worker that the visits had chosen.
    bench.log.clear();
    bench.submit(3);
    assert_eq!(bench.done(), ["1 runs 4 in 3"]);
}

#[test]
fn a_kept_answer_waits_for_its_environment_and_for_its_turn() {
    let mut bench = Bench::new(Limits { workers_per_tree: NonZeroUsize::new(2).unwrap(), ..limits(3, 3) });
    bench.kept = vec![2];
    let first = bench.submit_with_environment(2, "a");
    assert_eq!(bench.done(), ["prepare a"]);
    let second = bench.submit(2);
    assert_eq!((bench.outcome(first), bench.outcome(second)), (None, None));
    bench.prepared(Ok(()));
    let response = bench.replies.get_mut(&first).unwrap().try_recv().unwrap().response;
    assert!(response.kept && response.environment.is_some() && response.timing.prepare.is_some());
    assert_eq!(bench.outcome(second), Some("ok".into()));
    assert!(bench.done().is_empty());
}

#[test]
fn a_kept_answer_of_a_cancelled_request_is_dropped() {
    let mut bench = Bench::new(limits(1, 1));
    let (reply, answer) = oneshot::channel();
    let request = HookRequest::new("/1", Hook::BuildWheel);
    bench.scheduler.submit(Submission { id: RequestId(1), request, path: path(1), reply }, bench.now);
    bench.scheduler.take_actions();
    bench.scheduler.cancel(RequestId(1), Canceller::Caller, bench.now);
    let answered = VisitOutcome::Answered(KeptAnswer { outcome: Ok(json!("kept")), environment: None });
    bench.scheduler.visited(RequestId(1), &path(1), answered, true, bench.now);
    bench.settle();
    bench.replies.insert(1, answer);
    assert_eq!(bench.outcome(1), Some("Cancelled".into()));
    assert_eq!((bench.log, bench.scheduler.slots.taken()), (vec!["unlock 1".to_owned()], 0));
}

#[test]
fn two_visits_do_not_compare_the_same_worker() {
    let mut bench = Bench::new(limits(2, 8));
    let (first, second) = (bench.submit(1), bench.submit(2));
    for (worker, request) in [(1, first), (2, second)] {
        bench.ready(worker);
        bench.finish(worker, request);
    }
    let mut replies = Vec::new();
    for tree in [3, 4] {
        let (reply, answer) = oneshot::channel();
        replies.push(answer);
        let request = HookRequest::new(format!("/{tree}"), Hook::BuildWheel);
        bench.scheduler.submit(Submission { id: RequestId(tree), request, path: path(tree), reply }, bench.now);
    }
    let visited = bench.scheduler.take_actions().into_iter().filter_map(|action| match action {
        Action::Visit { worker, .. } => Some(worker.map(|candidate| (candidate.worker.0, candidate.is_guess))),
        _ => None,
    });
    assert_eq!(visited.collect::<Vec<_>>(), [Some((2, true)), Some((1, true))]);
}

#[test]
fn a_worker_that_dies_counts_for_the_tree_to_which_it_was_moved() {
    let mut bench = with_idle_worker(Limits { max_restarts: 0, ..limits(1, 8) }, Isolation::Hook);
    let request = bench.submit(2);
    bench.gone(1, crashed());
    assert_eq!(bench.outcome(request), Some("Quarantined".into()));
    let other = bench.submit(1);
    bench.ready(2);
    bench.finish(2, other);
    assert_eq!(bench.outcome(other), Some("ok".into()));
    let refused = bench.submit(2);
    assert_eq!(bench.outcome(refused), Some("Quarantined".into()), "an idle worker is no way round");
    assert_eq!(bench.done(), ["1 runs 2 in 2", "start 2 in 1", "2 runs 3"]);
}

#[test]
fn a_request_that_its_moved_worker_did_not_accept_is_tried_again() {
    let mut bench = with_idle_worker(limits(1, 8), Isolation::Hook);
    let request = bench.submit(2);
    bench.gone(1, crashed());
    assert_eq!(bench.outcome(request), None);
    bench.wait(Duration::from_secs(1));
    bench.ready(2);
    bench.finish(2, request);
    assert_eq!(bench.outcome(request), Some("ok".into()));
    assert_eq!(bench.done(), ["1 runs 2 in 2", "start 2 in 2", "2 runs 2"]);
}

#[test]
fn a_request_that_waits_for_room_gets_the_next_idle_worker_of_its_kind() {
    let mut bench = Bench::new(limits(2, 1));
    let (first, second) = (bench.submit(1), bench.submit(2));
    bench.ready(1);
    bench.finish(1, first);
    bench.finish(1, second);
    assert_eq!(bench.outcome(second), Some("ok".into()));
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "1 runs 2 in 2"]);
}

/// Two idle workers, and a third tree whose turn it is.
fn more_trees_than_workers() -> Bench {
    let mut bench = Bench::with(limits(1, 2), Isolation::None);
    for tree in [1, 1, 2, 2, 3] {
        bench.submit(tree);
    }
    bench.ready(1);
    bench.finish(1, 1);
    bench.ready(2);
    bench.done();
    bench
}

#[test]
fn a_tree_with_a_worker_is_served_before_one_of_them_is_evicted() {
    let mut bench = more_trees_than_workers();
    // In its turn, which is before that of the third tree.
    bench.finish(2, 3);
    assert_eq!(bench.done(), ["1 runs 2"]);
    bench.finish(1, 2);
    assert_eq!(bench.done(), ["2 runs 4"]);
    bench.answer(2, 4);
    assert_eq!(bench.done(), ["stop 1"]);
}

#[test]
fn nobody_is_passed_over_twice() {
    let mut bench = more_trees_than_workers();
    let again = bench.submit(1);
    bench.submit(2);
    bench.finish(2, 3);
    bench.finish(1, 2);
    assert_eq!(bench.done(), ["1 runs 2", "2 runs 4"]);
    bench.answer(2, 4);
    assert_eq!(bench.done(), ["stop 1"]);
    bench.gone(1, Ending::Planned);
    assert_eq!(bench.done(), ["start 3 in 3"]);
    assert_eq!(bench.outcome(again), None);
}

#[test]
fn a_higher_priority_does_not_wait_for_trees_with_a_worker() {
    let mut bench = more_trees_than_workers();
    bench.submit_with(4, |request| request.priority = 1);
    bench.answer(2, 3);
    assert_eq!(bench.done(), ["stop 1"]);
    bench.gone(1, Ending::Planned);
    assert_eq!(bench.done(), ["start 3 in 4"]);
}

#[test]
fn a_lower_priority_does_not_use_the_moment_in_which_a_worker_sweeps_up() {
    let mut bench = Bench::new(limits(1, 8));
    let urgent = |request: &mut HookRequest| request.priority = 10;
    bench.submit_with(1, urgent);
    bench.submit(2);
    bench.submit_with(1, urgent);
    bench.ready(1);
    bench.answer(1, 1);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1"]);
    bench.report(1, IDLE);
    assert_eq!(bench.done(), ["1 runs 3"]);
    bench.answer(1, 3);
    assert_eq!(bench.done(), ["start 2 in 2"]);
}

#[test]
fn fewer_workers_than_jobs_are_enough() {
    let mut bench = Bench::with(limits(4, 1), Isolation::None);
    let requests: Vec<u64> = [1, 2, 3].map(|tree| bench.submit(tree)).into();
    for (worker, request) in (1..).zip(requests) {
        bench.ready(worker);
        bench.finish(worker, request);
        bench.gone(worker, Ending::Planned);
        assert_eq!(bench.outcome(request), Some("ok".into()));
    }
}

#[test]
fn waiting_for_another_process_holds_no_job_slot() {
    let mut bench = Bench::new(limits(1, 8));
    bench.busy.push(1);
    let blocked = bench.submit(1);
    assert_eq!(bench.done(), ["await lock of 1"]);
    let other = bench.submit(2);
    bench.ready(1);
    bench.finish(1, other);
    bench.busy.clear();
    bench.done();
    bench.scheduler.lock_awaited(&path(1), Ok(()), bench.now);
    bench.settle();
    assert_eq!(bench.done(), ["1 runs 1 in 1"]);
    bench.finish(1, blocked);
    assert_eq!(bench.outcome(blocked), Some("ok".into()));
}

#[test]
fn a_lock_that_nobody_needs_any_more_is_given_up() {
    let mut bench = Bench::new(limits(1, 8));
    bench.busy.push(1);
    let blocked = bench.submit(1);
    assert_eq!(bench.cancel(blocked), Some("Cancelled".into()));
    assert_eq!(bench.log.last().unwrap(), "give up lock of 1");
    assert!(bench.scheduler.trees.get(&path(1)).is_none());
}

#[test]
fn a_lock_is_not_kept_without_a_job_slot() {
    let mut bench = Bench::new(limits(1, 8));
    bench.busy.push(1);
    let waiting = bench.submit(1);
    let other = bench.submit(2);
    assert_eq!(bench.done(), ["await lock of 1", "start 1 in 2"]);
    bench.ready(1);
    bench.busy.clear();
    bench.scheduler.lock_awaited(&path(1), Ok(()), bench.now);
    bench.settle();
    assert_eq!(bench.log.last().unwrap(), "unlock 1");
    bench.done();
    bench.finish(1, other);
    assert_eq!(bench.done(), ["start 2 in 1"]);
    bench.ready(2);
    bench.finish(2, waiting);
}

#[test]
fn an_environment_is_made_once_for_all_who_need_it_and_in_their_order() {
    let mut bench = Bench::new(limits(2, 8));
    let first = bench.submit_with_environment(1, "a");
    let second = bench.submit_with_environment(1, "a");
    let other = bench.submit_with_environment(2, "a");
    assert_eq!(bench.done(), ["prepare a"]);
    // Making the environment takes one of two slots, waiting for it none.
    assert_eq!(bench.scheduler.slots.taken(), 1);
    let plain = bench.submit(3);
    assert_eq!(bench.done(), ["start 1 in 3"]);
    bench.ready(1);
    bench.finish(1, plain);
    bench.now += Duration::from_secs(3);
    bench.prepared(Ok(()));
    assert_eq!(bench.done(), ["1 runs 4", "start 2 in 1", "start 3 in 2"]);
    bench.ready(2);
    bench.ready(3);
    bench.finish(2, first);
    assert_eq!(bench.done(), ["2 runs 1", "3 runs 3", "2 runs 2"]);
    bench.finish(2, second);
    bench.finish(3, other);
    let timing = |bench: &mut Bench, request: u64| {
        let timing = bench.replies.get_mut(&request).unwrap().try_recv().unwrap().response.timing;
        (timing.queued.unwrap().as_secs(), timing.prepare.map(|prepare| prepare.as_secs()))
    };
    assert_eq!(timing(&mut bench, first), (0, Some(3)));
    assert_eq!(timing(&mut bench, second), (3, Some(0)));
    assert_eq!(timing(&mut bench, plain), (0, None));
}

#[test]
fn one_job_makes_environments_and_runs_hooks_in_turn() {
    let mut bench = Bench::new(limits(1, 8));
    bench.submit_with_environment(1, "a");
    bench.submit_with_environment(2, "b");
    bench.submit(3);
    assert_eq!(bench.done(), ["prepare a"]);
    bench.prepared(Ok(()));
    assert_eq!(bench.done(), ["start 1 in 1"], "it had waited longest");
}

#[test]
fn a_failed_environment_is_the_answer_for_all_who_had_asked() {
    let mut bench = Bench::new(limits(2, 8));
    let (first, second) = (bench.submit_with_environment(1, "a"), bench.submit_with_environment(1, "a"));
    let other = bench.submit_with_environment(2, "a");
    bench.now += Duration::from_secs(1);
    bench.prepared(Err(ErrorKind::EnvironmentFailed));
    for request in [first, second, other] {
        assert_eq!(bench.outcome(request), Some("EnvironmentFailed".into()));
    }
    assert_eq!(bench.done(), ["prepare a"]);
    bench.now += Duration::from_secs(1);
    bench.submit_with_environment(2, "a");
    assert_eq!(bench.done(), ["prepare a"], "another request, another try");
    assert_eq!(bench.scheduler.slots.taken(), 1);
}

#[test]
fn an_environment_is_given_up_with_the_last_who_needs_it() {
    let mut bench = Bench::new(limits(2, 8));
    let (first, second) = (bench.submit_with_environment(1, "a"), bench.submit_with_environment(1, "a"));
    let other = bench.submit_with_environment(2, "a");
    bench.done();
    for request in [first, other] {
        assert_eq!(bench.cancel(request), Some("Cancelled".into()));
    }
    assert!(bench.done().is_empty());
    assert_eq!(bench.cancel(second), Some("Cancelled".into()));
    assert_eq!(bench.done(), ["give up a"]);
    assert_eq!(bench.scheduler.slots.taken(), 0);
    assert!(bench.scheduler.trees.first().is_none() && bench.scheduler.preparations.is_empty());
}

#[test]
fn an_environment_is_given_up_when_the_next_of_its_tree_wants_another() {
    let mut bench = Bench::new(limits(2, 8));
    let first = bench.submit_with_environment(1, "a");
    bench.submit(1);
    assert_eq!(bench.done(), ["prepare a"]);
    assert_eq!(bench.cancel(first), Some("Cancelled".into()));
    assert_eq!(bench.done(), ["start 1 in 1", "give up a"]);
    assert!(bench.scheduler.preparations.is_empty());
}

#[test]
fn what_was_made_is_not_looked_for_again() {
    let mut bench = Bench::new(limits(2, 8));
    bench.submit_with_environment(1, "a");
    bench.done();
    let (wanted, slot) = bench.preparations.remove(0);
    drop(slot);
    // The next visit finds none either.
    bench.scheduler.prepared(&wanted, Ok(Arc::new(Environment)), bench.now);
    let made = bench.scheduler.take_actions().into_iter().find_map(|action| match action {
        Action::Visit { made, .. } => Some(made),
        _ => None,
    });
    let made = made.expect("it is visited again").expect("the visit has what was made");
    assert_eq!(made.requirements, wanted.requirements);
}

#[test]
fn the_end_does_not_wait_for_environments_with_its_answers_but_with_itself() {
    let mut bench = Bench::new(limits(2, 8));
    let request = bench.submit_with_environment(1, "a");
    bench.scheduler.interrupt(Signal::SIGTERM, bench.now);
    bench.settle();
    assert_eq!(bench.outcome(request), Some("Interrupted".into()));
    assert!(!bench.scheduler.is_finished());
    bench.prepared(Err(ErrorKind::Interrupted));
    assert!(bench.scheduler.is_finished());
}

#[test]
fn nothing_is_prepared_while_hooks_are_stopped() {
    let mut bench = Bench::new(limits(1, 8));
    bench.scheduler.suspend(&tokio::sync::mpsc::channel(1).0);
    bench.submit_with_environment(1, "a");
    assert!(bench.done().is_empty());
    bench.scheduler.resume(bench.now);
    bench.settle();
    assert_eq!(bench.done(), ["prepare a"]);
}

#[test]
fn a_worker_that_is_out_of_date_is_replaced_before_the_next_hook() {
    let mut bench = Bench::new(limits(1, 8));
    let first = bench.submit(1);
    bench.ready(1);
    bench.finish(1, first);
    bench.stale.push(1);
    bench.done();
    bench.submit(1);
    assert_eq!(bench.done(), ["stop 1", "start 2 in 1"]);
}

#[test]
fn a_request_that_was_not_accepted_is_tried_again_and_one_that_was_is_not() {
    let mut bench = Bench::new(limits(1, 8));
    let request = bench.submit(1);
    bench.ready(1);
    bench.gone(1, crashed());
    assert_eq!(bench.outcome(request), None);
    bench.wait(Duration::from_secs(1));
    bench.ready(2);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "start 2 in 1", "2 runs 1"]);
    bench.gone(2, crashed());
    bench.wait(Duration::from_secs(1));
    bench.ready(3);
    bench.gone(3, crashed());
    assert_eq!(bench.outcome(request), Some("WorkerCrashed".into()));
    assert_eq!(bench.scheduler.slots.taken(), 0);
}

#[test]
fn a_pool_that_fails_too_often_is_quarantined_and_others_are_not() {
    let mut bench = Bench::new(Limits { max_restarts: 2, ..limits(1, 8) });
    let request = bench.submit(1);
    let failed = || Ending::StartFailed { reason: "no memory".into(), lasting: false };
    for worker in 1..=3 {
        bench.gone(worker, failed());
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(bench.outcome(request), Some("Quarantined".into()));
    let refused = bench.submit(1);
    assert_eq!(bench.outcome(refused), Some("Quarantined".into()));
    bench.done();
    bench.submit(2);
    assert_eq!(bench.done(), ["start 4 in 2"]);
    bench.ready(4);
    bench.finish(4, 3);
    bench.wait(Duration::from_secs(10));
    let trial = bench.submit(1);
    assert_eq!(bench.done(), ["4 runs 3", "4 runs 4 in 1"]);
    bench.finish(4, trial);
    assert_eq!(bench.outcome(trial), Some("ok".into()));
}

#[test]
fn what_is_wrong_for_good_fails_at_once() {
    let mut bench = Bench::new(limits(1, 8));
    for worker in 1..20 {
        let request = bench.submit(1);
        bench.gone(worker, Ending::StartFailed { reason: "no such program".into(), lasting: true });
        assert_eq!(bench.outcome(request), Some("WorkerStartFailed".into()));
    }
}

#[test]
fn a_request_can_be_cancelled_wherever_it_is() {
    let mut bench = Bench::new(limits(1, 1));
    let (running, queued) = (bench.submit(1), bench.submit(1));
    assert_eq!(bench.cancel(queued), Some("Cancelled".into()));
    // While its worker starts, which goes on.
    assert_eq!(bench.cancel(running), Some("Cancelled".into()));
    bench.ready(1);
    let leased = bench.submit(1);
    bench.done();
    assert_eq!(bench.cancel(leased), None);
    assert_eq!(bench.done(), ["1 cancels 3"]);
    bench.finish(1, leased);
    assert_eq!(bench.scheduler.slots.taken(), 0);
    assert!(bench.scheduler.requests.is_empty());
}

#[test]
fn a_request_that_needs_a_worker_can_be_cancelled() {
    let mut bench = Bench::new(limits(2, 1));
    bench.submit(1);
    let waiting = bench.submit(2);
    assert_eq!(bench.cancel(waiting), Some("Cancelled".into()));
    assert_eq!(bench.scheduler.slots.taken(), 1);
}

#[test]
fn a_restart_replaces_every_worker_and_loses_no_request() {
    let mut bench = Bench::new(limits(2, 8));
    let (idle, busy) = (bench.submit(1), bench.submit(2));
    bench.ready(1);
    bench.finish(1, idle);
    bench.ready(2);
    let waiting = bench.submit(2);
    bench.done();
    bench.restart(&Selection::All);
    assert_eq!(bench.done(), ["stop 1"]);
    bench.finish(2, busy);
    assert_eq!(bench.done(), ["stop 2", "start 3 in 2"]);
    bench.ready(3);
    bench.finish(3, waiting);
    assert_eq!(bench.outcome(waiting), Some("ok".into()));
}

#[test]
fn a_worker_is_replaced_after_its_requests_its_lifetime_and_its_idle_time() {
    let second = |seconds| Some(Timeout::from_secs(seconds));
    let once = |limits| {
        let mut bench = Bench::new(limits);
        let request = bench.submit(1);
        bench.ready(1);
        bench.finish(1, request);
        bench.done();
        bench
    };
    let mut bench = Bench::new(Limits { max_requests: NonZeroU32::new(1), ..limits(1, 8) });
    bench.submit(1);
    bench.ready(1);
    bench.finish(1, 1);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "stop 1"]);
    let mut bench = once(Limits { max_lifetime: second(5), idle_timeout: None, ..limits(1, 8) });
    assert_eq!(bench.scheduler.next_at(), Some(bench.now + Duration::from_secs(5)));
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.done(), ["stop 1"]);
    let mut bench = once(Limits { idle_timeout: second(7), ..limits(1, 8) });
    bench.wait(Duration::from_secs(6));
    assert!(bench.done().is_empty());
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.done(), ["stop 1"]);
}

#[test]
fn draining_answers_everything_then_ends_the_workers() {
    let mut bench = Bench::new(limits(1, 8));
    let (first, second) = (bench.submit(1), bench.submit(2));
    bench.scheduler.drain();
    let late = bench.submit(3);
    assert_eq!(bench.outcome(late), Some("Interrupted".into()));
    bench.ready(1);
    bench.finish(1, first);
    bench.ready(2);
    assert!(!bench.scheduler.is_finished());
    bench.finish(2, second);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "start 2 in 2", "2 runs 2", "stop 1", "stop 2"]);
    bench.gone(1, Ending::Planned);
    bench.gone(2, Ending::Planned);
    assert!(bench.scheduler.is_finished());
}

#[test]
fn an_interruption_answers_what_waits_and_signals_what_runs() {
    let mut bench = Bench::new(limits(2, 8));
    let (running, starting, queued) = (bench.submit(1), bench.submit(2), bench.submit(1));
    bench.ready(1);
    bench.done();
    bench.scheduler.interrupt(Signal::SIGTERM, bench.now);
    bench.settle();
    assert_eq!(bench.done(), ["SIGTERM to 1", "SIGTERM to 2"]);
    assert_eq!(bench.outcome(queued), Some("Interrupted".into()));
    assert_eq!(bench.outcome(starting), Some("Interrupted".into()));
    assert_eq!(bench.outcome(running), None);
    bench.gone(2, Ending::Planned);
    bench.gone(1, Ending::Planned);
    assert_eq!(bench.outcome(running), Some("Interrupted".into()));
    assert!(bench.scheduler.is_finished());
}

#[test]
fn nothing_starts_while_suspended() {
    let mut bench = Bench::new(limits(1, 8));
    bench.scheduler.suspend(&tokio::sync::mpsc::channel(1).0);
    bench.submit(1);
    assert!(bench.done().is_empty());
    bench.scheduler.resume(bench.now);
    bench.settle();
    assert_eq!(bench.done(), ["start 1 in 1"]);
}

#[test]
fn keepers_need_no_room_but_there_are_not_too_many() {
    let mut bench = Bench::new(limits(1, 1));
    let first = bench.submit(1);
    bench.ready(1);
    bench.answer(1, first);
    bench.report(1, WorkerEvent::Idle { keeps_processes: true });
    let second = bench.submit(2);
    bench.report(1, WorkerEvent::Lingers);
    bench.ready(2);
    bench.answer(2, second);
    bench.report(2, WorkerEvent::Idle { keeps_processes: true });
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "stop 1", "start 2 in 2", "2 runs 2"]);
    bench.submit(3);
    bench.report(2, WorkerEvent::Lingers);
    // The oldest is ended, and counts until its end.
    assert_eq!(bench.done(), ["stop 2", "terminate 1"]);
    bench.gone(1, Ending::Planned);
    assert_eq!(bench.done(), ["start 3 in 3"]);
}

#[test]
fn requests_of_another_environment_get_a_worker_of_their_own() {
    let mut bench = Bench::new(limits(1, 8));
    let plain = bench.submit(1);
    bench.ready(1);
    bench.finish(1, plain);
    let other = bench.submit_with(1, |request| {
        request.env.insert("SOURCE_DATE_EPOCH".into(), "0".into());
    });
    bench.ready(2);
    bench.finish(2, other);
    bench.submit(1);
    assert_eq!(bench.done(), ["start 1 in 1", "1 runs 1", "start 2 in 1", "2 runs 2", "1 runs 3"]);
    assert_eq!(bench.outcome(other), Some("ok".into()));
}

#[test]
fn the_kinds_of_failure_are_told_apart() {
    let kind = |ending: Ending| {
        let mut bench = Bench::new(limits(1, 8));
        let request = bench.submit(1);
        bench.ready(1);
        bench.gone(1, ending);
        bench.outcome(request)
    };
    assert_eq!(kind(Ending::Violated("x".into())), Some(ErrorKind::ProtocolViolation.to_string()));
    // Its worker was evicted, so another one may run the request.
    assert_eq!(kind(Ending::Planned), None);
    assert_eq!(kind(crashed()), None);
}

/// What a snapshot says of the requests, the workers, and the pools that wait.
fn summary(bench: &Bench) -> serde_json::Value {
    let snapshot = bench.scheduler.snapshot(Vec::new(), bench.now);
    let nonzero = |value: serde_json::Value| {
        let counts: HashMap<String, usize> = serde_json::from_value(value).unwrap();
        json!(counts.into_iter().filter(|(_, count)| *count > 0).collect::<HashMap<_, _>>())
    };
    let request = |request: &crate::RequestSnapshot| {
        let (id, worker) = (request.id.0, request.worker.map(|worker| worker.0));
        json!([id, request.phase, request.age.as_secs(), request.phase_age.map(|age| age.as_secs()), worker])
    };
    let worker = |worker: &crate::WorkerSnapshot| {
        json!([worker.id.0, worker.phase, worker.served, worker.request.map(|request| request.0)])
    };
    json!({
        "request_phases": nonzero(json!(snapshot.request_phases)),
        "requests": snapshot.requests.first.iter().map(request).collect::<Vec<_>>(),
        "worker_phases": nonzero(json!(snapshot.worker_phases)),
        "workers": snapshot.workers.first.iter().map(worker).collect::<Vec<_>>(),
        "oldest": snapshot.oldest_request.map(|age| age.as_secs()),
        "held": [snapshot.quarantined.count, snapshot.in_backoff.count],
    })
}

#[test]
fn a_snapshot_tells_what_each_request_waits_for() {
    let mut bench = Bench::new(limits(4, 2));
    bench.busy = vec![4];
    let served = bench.submit(1);
    bench.ready(1);
    bench.finish(1, served);
    bench.submit(1);
    bench.wait(Duration::from_secs(2));
    bench.submit(1);
    bench.submit(2);
    bench.submit(3);
    bench.submit(4);
    bench.submit_with_environment(5, "x");
    bench.wait(Duration::from_secs(1));
    let expected = json!({
        "request_phases":
            {"running": 1, "queued": 1, "starting": 1, "needs_worker": 1, "waiting_for_lock": 1, "preparing": 1},
        "requests": [
            [2, "running", 3, 3, 1],
            [3, "queued", 1, null, null],
            [4, "starting", 1, 1, 2],
            [5, "needs_worker", 1, null, null],
            [6, "waiting_for_lock", 1, null, null],
            [7, "preparing", 1, 1, null],
        ],
        "worker_phases": {"running": 1, "starting": 1},
        "workers": [[1, "running", 1, 2], [2, "starting", 0, 4]],
        "oldest": 3,
        "held": [0, 0],
    });
    assert_eq!(summary(&bench), expected);
}

#[test]
fn a_snapshot_names_the_pools_that_wait_and_why() {
    let mut bench = Bench::new(Limits { max_restarts: 1, ..limits(2, 4) });
    bench.submit(1);
    bench.submit(2);
    for worker in [1, 2] {
        bench.gone(worker, crashed());
    }
    let found = summary(&bench);
    assert_eq!((&found["request_phases"], &found["held"]), (&json!({"parked": 2}), &json!([0, 2])));
    bench.wait(Duration::from_millis(100));
    bench.gone(3, crashed());
    let snapshot = bench.scheduler.snapshot(Vec::new(), bench.now);
    let [pool] = &snapshot.quarantined.first[..] else { panic!("one pool is quarantined") };
    assert!(pool.reason.contains("2 failures") && pool.reason.contains("it crashed"), "{}", pool.reason);
    assert_eq!(pool.remaining, Duration::from_secs(10));
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.scheduler.snapshot(Vec::new(), bench.now).quarantined.count, 0);
    // Nobody has tried a start.
    assert_eq!(summary(&bench)["held"], json!([0, 0]));
}

fn some(number: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number)
}

#[test]
fn more_jobs_start_at_once_and_fewer_wait_for_hooks_to_end() {
    let mut bench = Bench::new(limits(1, 8));
    for tree in 1..=6 {
        bench.submit(tree);
    }
    assert_eq!(bench.done(), ["start 1 in 1"]);
    bench.change(LimitsChange { jobs: some(3), ..LimitsChange::default() });
    assert_eq!(bench.done(), ["start 2 in 2", "start 3 in 3"]);
    for worker in 1..=3 {
        bench.ready(worker);
    }
    bench.change(LimitsChange { jobs: some(1), ..LimitsChange::default() });
    bench.done();
    bench.finish(1, 1);
    bench.finish(2, 2);
    assert!(bench.done().is_empty(), "two are too many, and one still runs");
    bench.finish(3, 3);
    assert_eq!(bench.done(), ["2 runs 4 in 4"]);
}

#[test]
fn idle_workers_beyond_a_lower_limit_end_at_once_and_others_after_their_hook() {
    let mut bench = Bench::new(limits(3, 3));
    for tree in 1..=3 {
        bench.submit(tree);
        bench.ready(tree);
    }
    bench.finish(1, 1);
    bench.done();
    bench.change(LimitsChange { max_workers: some(1), ..LimitsChange::default() });
    assert_eq!(bench.scheduler.limits.jobs.get(), 1, "as many jobs as workers");
    assert_eq!(bench.done(), ["stop 1"]);
    bench.finish(2, 2);
    assert_eq!(bench.done(), ["stop 2"]);
    bench.finish(3, 3);
    assert!(bench.done().is_empty());
    // There is no room before the others have ended.
    let request = bench.submit_with(4, |request| {
        request.env.insert("OTHER".into(), "kind".into());
    });
    assert_eq!(bench.done(), ["stop 3"]);
    bench.gone(1, Ending::Planned);
    bench.gone(2, Ending::Planned);
    assert!(bench.done().is_empty());
    bench.gone(3, Ending::Planned);
    assert_eq!(bench.done(), ["start 4 in 4"]);
    bench.submit(5);
    // More room again, and a second job for it.
    bench.change(LimitsChange { jobs: some(2), max_workers: some(2), ..LimitsChange::default() });
    assert_eq!(bench.done(), ["start 5 in 5"]);
    bench.ready(4);
    bench.finish(4, request);
    assert_eq!(bench.outcome(request), Some("ok".into()));
}

#[test]
fn other_times_and_counts_are_those_of_all_workers() {
    let mut bench = Bench::new(Limits { idle_timeout: None, ..limits(2, 4) });
    for tree in [1, 2] {
        bench.submit(tree);
        bench.ready(tree);
    }
    bench.finish(1, 1);
    bench.wait(Duration::from_secs(50));
    assert_eq!(bench.scheduler.next_at(), None);
    bench.done();
    bench.change(LimitsChange {
        idle_timeout: Some(Some(Timeout::from_secs(60))),
        max_requests: Some(NonZeroU32::new(1)),
        hook_timeout: Some(Some(Timeout::from_secs(7))),
        ..LimitsChange::default()
    });
    bench.finish(2, 2);
    assert_eq!(bench.done(), ["stop 2"]);
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.done(), ["stop 1"]);
}

#[test]
fn suspended_requests_still_wait_when_there_is_more_room() {
    let mut bench = Bench::new(limits(1, 4));
    bench.submit(1);
    bench.submit(2);
    bench.scheduler.suspend(&tokio::sync::mpsc::channel(1).0);
    bench.settle();
    bench.done();
    bench.change(LimitsChange { jobs: some(2), ..LimitsChange::default() });
    assert!(bench.done().is_empty());
    bench.scheduler.resume(bench.now);
    bench.settle();
    assert!(bench.done().contains(&"start 2 in 2".to_owned()));
}

#[test]
fn a_restart_replaces_what_it_selects() {
    for (selection, expected) in [
        (Selection::Tree("/1".into()), vec!["stop 1"]),
        (Selection::Tree("/9".into()), vec![]),
        (Selection::Environment("other".into()), vec!["stop 2"]),
        (Selection::Template(TemplateId(7)), vec!["stop 1"]),
        (Selection::All, vec!["stop 1", "stop 2"]),
    ] {
        let mut bench = Bench::new(limits(2, 4));
        let first = bench.submit(1);
        let second = bench.submit_with(2, |request| request.python = Some("other".into()));
        for (worker, request) in [(1, first), (2, second)] {
            bench.ready(worker);
            bench.finish(worker, request);
        }
        bench.scheduler.workers.get_mut(WorkerId(1)).unwrap().template = Some(TemplateId(7));
        bench.done();
        assert_eq!(bench.restart(&selection), (expected.len(), 0));
        assert_eq!(bench.done(), expected, "{selection:?}");
    }
}

#[test]
fn an_interpreter_that_is_retired_loses_its_workers_when_they_are_idle() {
    let mut bench = Bench::new(limits(3, 4));
    let with_other = |request: &mut HookRequest| request.python = Some("other".into());
    let (idle, busy) = (bench.submit_with(1, with_other), bench.submit_with(2, with_other));
    let elsewhere = bench.submit(3);
    for worker in 1..=3 {
        bench.ready(worker);
    }
    bench.finish(1, idle);
    bench.finish(3, elsewhere);
    bench.done();
    bench.scheduler.retire(&HashSet::from(["other".into()]), bench.now);
    bench.settle();
    assert_eq!(bench.done(), ["stop 1"]);
    bench.finish(2, busy);
    assert_eq!(bench.done(), ["stop 2"]);
    assert_eq!(bench.outcome(busy), Some("ok".into()));
    bench.submit_with(1, with_other);
    assert_eq!(bench.done(), ["start 4 in 1"]);
}

#[test]
fn a_worker_that_is_starting_may_be_of_the_template_that_is_restarted() {
    let mut bench = Bench::new(limits(1, 4));
    let request = bench.submit(1);
    bench.done();
    assert_eq!(bench.restart(&Selection::Template(TemplateId(7))), (1, 0));
    bench.ready(1);
    bench.finish(1, request);
    assert_eq!(bench.done(), ["1 runs 1", "stop 1"]);
}

#[test]
fn a_restart_lifts_the_backoff_and_the_quarantine_of_its_pools() {
    let mut bench = Bench::new(Limits { max_restarts: 0, ..limits(2, 4) });
    for tree in [1, 2] {
        let request = bench.submit(tree);
        bench.gone(tree, crashed());
        assert_eq!(bench.outcome(request), Some("Quarantined".into()));
    }
    bench.done();
    assert_eq!(bench.restart(&Selection::Tree("/1".into())), (0, 1));
    let (lifted, other) = (bench.submit(1), bench.submit(2));
    assert_eq!(bench.done(), ["start 3 in 1"]);
    assert_eq!(bench.outcome(other), Some("Quarantined".into()));
    bench.ready(3);
    bench.finish(3, lifted);
    assert_eq!(bench.outcome(lifted), Some("ok".into()));

    let mut bench = Bench::new(limits(2, 4));
    bench.submit(1);
    bench.gone(1, crashed());
    bench.done();
    // It would be started after 50 ms.
    assert_eq!(bench.restart(&Selection::All), (0, 1));
    assert_eq!(bench.done(), ["start 2 in 1"]);
}

#[test]
fn a_cancelled_request_whose_worker_dies_is_not_run_by_another() {
    let mut bench = Bench::new(limits(1, 4));
    let request = bench.submit(1);
    bench.ready(1);
    bench.done();
    assert!(bench.scheduler.cancel(RequestId(request), Canceller::Operator, bench.now));
    bench.settle();
    assert_eq!(bench.done(), ["1 cancels 1"]);
    // It died before it could be told.
    bench.gone(1, crashed());
    assert!(bench.done().is_empty());
    let answer = bench.replies.get_mut(&request).unwrap().try_recv().unwrap();
    assert_eq!(answer.response.outcome.unwrap_err().message, "the request was cancelled by an operator");
    assert!(!bench.scheduler.cancel(RequestId(request), Canceller::Operator, bench.now));
}
