//! Requests before they get a worker: queued, visited, cancelled.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::message::{Action, Submission};
use super::super::trees::{LockState, QueuePlace, TreeState};
use super::{RequestRecord, RequestState, Scheduler};
use crate::error::{Canceller, ErrorKind, HookError};
use crate::event::Event;
use crate::ids::{RequestId, WorkerId};
use crate::response::Isolation;
use crate::shutdown::Shutdown;
use crate::tree::{Candidate, KeptAnswer, Ready, TreePath, VisitOutcome, replaced};
use crate::worker::WorkerCommand;
use crate::worker::message::Finished;

impl Scheduler {
    /// A request is admitted.
    pub fn submit(&mut self, submission: Submission, now: Instant) {
        let Submission { id, request, path: named, reply } = submission;
        let path = self.trees.queue_of(&named);
        if reply.is_closed() {
            // Its ticket was dropped.
            return;
        }
        let record = RequestRecord {
            key: self.key_of(&request),
            place: QueuePlace::new(request.priority, id),
            path: path.clone(),
            named,
            tree: None,
            state: RequestState::Queued,
            slot: None,
            environment: None,
            made: None,
            submitted_at: now,
            prepared_for: std::time::Duration::ZERO,
            assigned_at: None,
            leased_at: None,
            cancelled: None,
            attempts: 0,
            reply,
            details: Arc::new(request),
        };
        let place = record.place;
        let (tree, hook) = (record.details.tree.clone(), record.details.hook);
        let caller_id = record.details.caller_id.clone();
        self.observe(Event::RequestQueued { request: id, tree, hook, caller_id });
        self.requests.insert(id, record);
        if self.shutdown == Shutdown::NotBegun {
            self.trees.enqueue(&path, place);
        } else {
            self.fail(id, closed(), now);
        }
        self.fill();
    }

    /// Starts as many requests as there are free job slots.
    pub fn fill(&mut self) {
        if self.suspended || self.shutdown.ends_hooks() {
            return;
        }
        while let Some(slot) = self.slots.take() {
            // Running hooks are not preempted, so a request of a lower priority
            // does not take the slot just before one of a higher priority needs it.
            if self.slots.free() < self.trees.soon_before_first() {
                return;
            }
            let Some(request) = self.next_request() else { return };
            let record = self.requests.get_mut(&request).expect("what is queued is not answered");
            record.slot = Some(slot);
            self.visit(request);
        }
    }

    /// Takes the next request from its queue.
    ///
    /// With isolation `none`, workers are not moved between trees. With more trees
    /// than workers, strict round-robin would evict each worker before the next
    /// request of its tree: two hooks in each of a thousand trees would start two
    /// thousand workers. So if the tree whose turn it is can only be served by
    /// evicting a worker, a tree with an idle worker is served first. This does
    /// not happen twice in a row, so no tree waits for more than twice as many
    /// requests as in strict turns.
    fn next_request(&mut self) -> Option<RequestId> {
        let first = self.trees.first()?;
        let may_wait = !self.passed_over && self.needs_eviction(first);
        let warm = if may_wait { self.trees.first_equal(self.workers.trees_with_idle()) } else { None };
        let next = warm.unwrap_or(first).clone();
        self.passed_over = warm.is_some();
        self.trees.pop(&next)
    }

    /// Whether a request of this tree needs a worker to be evicted.
    fn needs_eviction(&self, path: &TreePath) -> bool {
        self.isolation == Isolation::None
            && self.workers.live() >= self.limits.max_workers.get()
            && self.workers.idle_in(path).is_none()
    }

    /// Has a request's tree visited, and the worker checked that it may get.
    pub(super) fn visit(&mut self, request: RequestId) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.state = RequestState::Visiting;
        let (details, path, named) = (record.details.clone(), record.path.clone(), record.named.clone());
        let made = record.made.take();
        let worker = self.candidate(request);
        if let Some(candidate) = &worker {
            self.workers.keep_for(request, candidate.worker);
        }
        self.trees.change(&path, |state| {
            if state.lock == LockState::Free {
                state.lock = LockState::Taking;
            }
        });
        self.actions.push(Action::Visit { request, details, path, named, made, worker });
    }

    /// The idle worker that a request will probably get.
    fn candidate(&self, request: RequestId) -> Option<Candidate> {
        let record = self.requests.get(&request)?;
        let (worker, is_guess) = match self.pool_of(request) {
            // It was visited before.
            Some(pool) => (self.workers.idle_of(&pool).or_else(|| self.idle_to_move(&pool)), false),
            None => match self.workers.idle_in(&record.path) {
                None if self.isolation == Isolation::Hook => (self.idle_alike(record), true),
                own => (own, false),
            },
        };
        let worker = worker?;
        let pool = &self.workers.get(worker)?.pool;
        Some(Candidate { worker, tree: pool.tree.clone(), key: pool.worker.clone(), is_guess })
    }

    /// An idle worker of another tree that is of the kind which a request needs, as
    /// far as that is known before its tree was visited.
    fn idle_alike(&self, request: &RequestRecord) -> Option<WorkerId> {
        let (key, has_environment) = (&request.key, request.details.environment.is_some());
        self.workers.idle_where(|record| {
            let other = &record.pool.worker;
            let is_alike = other.env == key.env && other.caller == key.caller;
            record.may_move() && is_alike && (has_environment || other.python == key.python)
        })
    }

    /// A visit has ended. The request may have been answered meanwhile, so the
    /// tree is a parameter too.
    pub fn visited(
        &mut self,
        request: RequestId,
        path: &TreePath,
        outcome: VisitOutcome,
        is_locked: bool,
        now: Instant,
    ) {
        let lock = match &outcome {
            VisitOutcome::Busy { ours } if ours.as_ref().is_none_or(|main| main == path) => LockState::Waiting,
            _ if is_locked => LockState::Held,
            _ => LockState::Free,
        };
        self.trees.change(path, |state| state.lock = lock);
        self.workers.release(request);
        let wanted = self.requests.contains_key(&request) && !self.shutdown.ends_hooks();
        match outcome {
            // It began before an earlier one of its tree was found to wait for
            // its environment.
            VisitOutcome::Ready(_) | VisitOutcome::Answered(_)
                if wanted && self.is_ahead_of_its_turn(request, path) =>
            {
                self.put_back(request);
                self.leave_tree(path);
            }
            VisitOutcome::Ready(ready) if wanted => self.ready(request, ready, now),
            VisitOutcome::Answered(kept) if wanted => {
                self.answer_with_kept(request, kept, now);
                self.leave_tree(path);
            }
            VisitOutcome::NoEnvironment(requirements) if wanted => self.prepare(request, requirements, now),

            VisitOutcome::Busy { ours: Some(main) } if main != *path => self.merge(request, path, &main),
            VisitOutcome::Busy { .. } => self.await_lock(request, path),
            VisitOutcome::Elsewhere if wanted => self.separate(request, now),
            VisitOutcome::Failed(error) if wanted => {
                self.fail(request, error, now);
                self.leave_tree(path);
            }
            VisitOutcome::Ready(_)
            | VisitOutcome::Answered(_)
            | VisitOutcome::NoEnvironment(_)
            | VisitOutcome::Elsewhere
            | VisitOutcome::Failed(_) => {
                self.leave_tree(path);
            }
        }
        self.give_up_forsaken(path);
        self.fill();
        self.stop_all_when_drained();
    }

    /// A visit has found all that a request needs, so that its pool is known.
    fn ready(&mut self, request: RequestId, ready: Ready, now: Instant) {
        let Ready { tree, prepared, environment, worker } = ready;
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.tree = Some(tree);
        record.key.backend.clone_from(&prepared.imports.backend);
        if let Some(environment) = &environment {
            environment.python().clone_into(&mut record.key.python);
        }
        record.environment = environment;
        self.assign(request, prepared, worker, now);
    }

    /// A visit has found that the hook need not run.
    fn answer_with_kept(&mut self, request: RequestId, kept: KeptAnswer, now: Instant) {
        let KeptAnswer { outcome, environment } = kept;
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.environment = environment;
        self.answer(Finished { kept: true, ..Finished::without_worker(request, outcome) }, None, now);
    }

    /// A path leads to the same folder as that of another queue. They become one
    /// queue.
    fn merge(&mut self, request: RequestId, path: &TreePath, main: &TreePath) {
        self.put_back(request);
        self.leave_tree(path);
        for request in self.trees.merge(path, main) {
            if let Some(record) = self.requests.get_mut(&request) {
                record.path = main.clone();
            }
        }
    }

    /// A request's path leads to another folder than its queue. If the request
    /// shares the queue of another path, it is moved to its own; otherwise its
    /// tree was replaced while hooks run there.
    fn separate(&mut self, request: RequestId, now: Instant) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        let path = record.path.clone();
        if record.named == path {
            self.fail(request, replaced(&path), now);
            return self.leave_tree(&path);
        }
        record.path = record.named.clone();
        self.trees.separate(&record.path);
        self.requeue(request);
        self.leave_tree(&path);
    }

    fn await_lock(&mut self, request: RequestId, path: &TreePath) {
        // The request keeps its place in the queue, and returns its job slot.
        self.put_back(request);
        self.leave_tree(path);
        self.observe(Event::TreeLocked { request, tree: path.to_path_buf() });
        self.actions.push(Action::AwaitLock { path: path.clone() });
        self.give_up_unwanted(path);
    }

    fn is_ahead_of_its_turn(&self, request: RequestId, path: &TreePath) -> bool {
        let place = self.requests.get(&request).map(|record| record.place);
        let state = self.trees.get(path).filter(|state| state.is_preparing);
        place.zip(state).is_some_and(|(place, state)| state.has_earlier(place))
    }

    /// Puts a request back to its place in the queue, and gives its tree its
    /// previous turn.
    pub(super) fn put_back(&mut self, request: RequestId) {
        if let Some((path, place)) = self.queued_again(request) {
            self.trees.put_back(&path, place);
        }
    }

    /// Puts a request back to its place in the queue.
    pub(super) fn requeue(&mut self, request: RequestId) {
        if let Some((path, place)) = self.queued_again(request) {
            self.trees.enqueue(&path, place);
        }
    }

    /// Makes a request queued again, without a job slot. Returns its queue and
    /// its place.
    fn queued_again(&mut self, request: RequestId) -> Option<(TreePath, QueuePlace)> {
        let record = self.requests.get_mut(&request)?;
        record.state = RequestState::Queued;
        record.slot = None;
        Some((record.path.clone(), record.place))
    }

    /// The wait for a tree's lock is over.
    pub fn lock_awaited(&mut self, path: &TreePath, outcome: Result<(), HookError>, now: Instant) {
        let first = self.trees.get(path).and_then(TreeState::first);
        match outcome {
            Ok(()) if first.is_some() && !self.shutdown.ends_hooks() => {
                self.trees.change(path, |state| state.lock = LockState::Held);
            }
            Ok(()) => {
                self.trees.change(path, |state| state.lock = LockState::Free);
                self.actions.push(Action::Unlock { path: path.clone() });
            }
            Err(error) => {
                if let Some(request) = first {
                    self.dequeue(request);
                    self.fail(request, error, now);
                }
                self.trees.change(path, |state| state.lock = LockState::Free);
            }
        }
        self.fill();
        // If all job slots are taken, other processes can use the tree until its
        // turn comes.
        self.unlock_unused(path);
        self.stop_all_when_drained();
    }

    fn unlock_unused(&mut self, path: &TreePath) {
        let is_unused = |state: &&TreeState| state.active == 0 && state.lock == LockState::Held;
        if self.trees.get(path).filter(is_unused).is_some() {
            self.actions.push(Action::Unlock { path: path.clone() });
            self.trees.change(path, |state| state.lock = LockState::Free);
        }
    }

    pub(super) fn dequeue(&mut self, request: RequestId) {
        if let Some(record) = self.requests.get(&request) {
            self.trees.dequeue(&record.path, record.place);
        }
    }

    /// Cancels a request. Returns whether it was unanswered.
    pub fn cancel(&mut self, request: RequestId, canceller: Canceller, now: Instant) -> bool {
        let Some(record) = self.requests.get_mut(&request) else { return false };
        record.cancelled.get_or_insert(canceller);
        let path = record.path.clone();
        let error = HookError::cancelled(canceller);
        match &record.state {
            RequestState::Queued => {
                self.dequeue(request);
                self.fail(request, error, now);
                self.give_up_unwanted(&path);
            }
            RequestState::Preparing { .. } => {
                self.dequeue(request);
                self.fail(request, error, now);
                self.wait_no_longer(request, &path);
                self.give_up_unwanted(&path);
            }
            // The visit goes on, and its result is ignored.
            RequestState::Visiting => self.fail(request, error, now),
            RequestState::NeedsWorker { .. } => {
                self.needs_worker.retain(|other| *other != request);
                self.fail(request, error, now);
                self.leave_tree(&path);
            }
            RequestState::Starting { worker, .. } => {
                let worker = *worker;
                self.abandon_start(worker);
                self.fail(request, error, now);
                self.leave_tree(&path);
            }
            RequestState::Leased { worker } => {
                let worker = *worker;
                self.tell(worker, WorkerCommand::Cancel { request, canceller });
            }
            RequestState::Parked { .. } => {
                self.unpark(request);
                self.fail(request, error, now);
            }
        }
        self.serve_waiting(now);
        self.fill();
        self.stop_all_when_drained();
        true
    }

    /// If a tree has no more requests, releases its lock and ends all waits for
    /// it.
    pub(super) fn give_up_unwanted(&mut self, path: &TreePath) {
        if self.trees.get(path).is_some_and(TreeState::has_queued) {
            return;
        }
        if !self.shutdown.ends_hooks() {
            self.give_up_preparing(path);
        }
        let Some(state) = self.trees.get(path).filter(|state| state.active == 0) else { return };
        let action = match state.lock {
            LockState::Held => Action::Unlock { path: path.clone() },
            LockState::Waiting => Action::GiveUpLock { path: path.clone() },
            LockState::Free | LockState::Taking => return,
        };
        self.actions.push(action);
        self.trees.change(path, |state| state.lock = LockState::Free);
    }
}

/// The answer to requests that come after the shutdown has begun.
pub(super) fn closed() -> HookError {
    HookError::new(ErrorKind::Interrupted, "the supervisor is ending and admits no more requests")
}
