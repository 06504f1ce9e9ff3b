//! Requests on their way in: queued, visited, cancelled.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::message::{Action, Submission};
use super::super::trees::{LockState, QueuePlace};
use super::{Phase, RequestRecord, RequestState, Scheduler};
use crate::error::{ErrorKind, HookError};
use crate::event::Event;
use crate::request::RequestId;
use crate::tree::{Prepared, TreeId};
use crate::worker::WorkerCommand;

/// What a visit to a tree found, as far as the scheduler cares.
#[derive(Debug)]
pub(crate) enum Visited {
    /// The tree is locked, the request read.
    Ready { prepared: Prepared },
    /// Another process works in the tree.
    Busy,
    /// The request cannot run. `locked` tells whether the tree is.
    Failed { error: HookError, locked: bool },
}

impl Scheduler {
    /// A request is admitted.
    pub fn submit(&mut self, submission: Submission, now: Instant) {
        let Submission { id, request, tree, reply } = submission;
        if reply.is_closed() {
            // Its ticket was dropped before it came here.
            return;
        }
        let record = RequestRecord {
            key: self.key_of(&request),
            place: QueuePlace::new(request.priority, id),
            tree: tree.clone(),
            state: RequestState::Queued,
            submitted_at: now,
            assigned_at: None,
            leased_at: None,
            cancelled: false,
            attempts: 0,
            reply,
            details: Arc::new(request),
        };
        let place = record.place;
        let (path, hook) = (record.details.tree.clone(), record.details.hook);
        self.observe(Event::RequestQueued { request: id, tree: path, hook });
        self.requests.insert(id, record);
        if self.phase == Phase::Open {
            self.trees.enqueue(&tree, place);
        } else {
            self.fail(id, closed(), now);
        }
        self.fill();
    }

    /// Starts as many requests as there are free job slots.
    pub(super) fn fill(&mut self) {
        if self.suspended || matches!(self.phase, Phase::Ending(_)) {
            return;
        }
        while self.jobs_in_use < self.limits.jobs.get() {
            let Some(request) = self.next_request() else { return };
            self.jobs_in_use += 1;
            let record = self.requests.get_mut(&request).expect("what is queued is not answered");
            record.state = RequestState::Visiting;
            let (details, tree) = (record.details.clone(), record.tree.clone());
            let locked = self.trees.change(tree.id, |state| {
                let locked = state.lock == LockState::Held;
                if !locked {
                    state.lock = LockState::Taking;
                }
                locked
            });
            self.actions.push(Action::Visit { request, details, tree, locked: locked == Some(true) });
        }
    }

    /// A visit has ended. `tree` is given beside the request, which may have
    /// been answered meanwhile.
    pub fn visited(&mut self, request: RequestId, tree: TreeId, visited: Visited, now: Instant) {
        let lock = match &visited {
            Visited::Ready { .. } | Visited::Failed { locked: true, .. } => LockState::Held,
            Visited::Busy => LockState::Waiting,
            Visited::Failed { locked: false, .. } => LockState::Free,
        };
        self.trees.change(tree, |state| state.lock = lock);
        let wanted = self.requests.contains_key(&request) && !matches!(self.phase, Phase::Ending(_));
        match visited {
            Visited::Ready { prepared } if wanted => {
                self.set_backend(request, &prepared);
                self.assign(request, prepared, now);
            }
            Visited::Busy => {
                self.await_lock(request, tree);
            }
            Visited::Failed { error, .. } if wanted => {
                self.fail(request, error, now);
                self.release(tree);
            }
            Visited::Ready { .. } | Visited::Failed { .. } => self.release(tree),
        }
        self.fill();
    }

    /// Only now is it known which workers can run the request.
    fn set_backend(&mut self, request: RequestId, prepared: &Prepared) {
        if let Some(record) = self.requests.get_mut(&request) {
            record.key.backend.clone_from(&prepared.imports.backend);
        }
    }

    /// Gives back the job slot and the tree.
    pub(super) fn release(&mut self, tree: TreeId) {
        self.free_job();
        self.leave_tree(tree);
    }

    fn await_lock(&mut self, request: RequestId, tree: TreeId) {
        // Waiting holds no job slot, and the request its place in the queue.
        self.requeue(request);
        self.release(tree);
        if let Some(path) = self.trees.get(tree).map(|state| state.tree.path.clone()) {
            self.observe(Event::TreeLocked { tree: path });
        }
        self.actions.push(Action::AwaitLock { tree });
    }

    /// Puts a request back to its old place in its tree's queue.
    pub(super) fn requeue(&mut self, request: RequestId) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.state = RequestState::Queued;
        let (tree, place) = (record.tree.clone(), record.place);
        self.trees.enqueue(&tree, place);
    }

    /// The wait for a tree's lock is over.
    pub fn lock_awaited(&mut self, tree: TreeId, outcome: Result<(), HookError>, now: Instant) {
        let first = self.trees.get(tree).and_then(super::super::trees::TreeState::first);
        match outcome {
            Ok(()) if first.is_some() && !matches!(self.phase, Phase::Ending(_)) => {
                self.trees.change(tree, |state| state.lock = LockState::Held);
            }
            Ok(()) => {
                self.trees.change(tree, |state| state.lock = LockState::Free);
                self.actions.push(Action::Unlock { tree });
            }
            Err(error) => {
                if let Some(request) = first {
                    self.dequeue(request);
                    self.fail(request, error, now);
                }
                self.trees.change(tree, |state| state.lock = LockState::Free);
            }
        }
        self.fill();
    }

    pub(super) fn dequeue(&mut self, request: RequestId) {
        if let Some(record) = self.requests.get(&request) {
            self.trees.dequeue(record.tree.id, record.place);
        }
    }

    /// The caller does not want the request any more.
    pub fn cancel(&mut self, request: RequestId, now: Instant) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.cancelled = true;
        let tree = record.tree.id;
        let error = cancelled();
        match &record.state {
            RequestState::Queued => {
                self.dequeue(request);
                self.fail(request, error, now);
                self.let_go_of_unwanted_lock(tree);
            }
            // The visit goes on and finds nobody.
            RequestState::Visiting => self.fail(request, error, now),
            RequestState::NeedsWorker { .. } => {
                self.needs_worker.retain(|other| *other != request);
                self.fail(request, error, now);
                self.release(tree);
            }
            RequestState::Starting { worker, .. } => {
                let worker = *worker;
                self.abandon_start(worker);
                self.fail(request, error, now);
                self.release(tree);
            }
            RequestState::Leased { worker } => {
                let worker = *worker;
                self.tell(worker, WorkerCommand::Cancel(request));
            }
            RequestState::Parked { .. } => {
                self.unpark(request);
                self.fail(request, error, now);
            }
        }
        self.serve_waiting(now);
        self.fill();
    }

    /// A lock that was waited for and that no request is left for.
    fn let_go_of_unwanted_lock(&mut self, tree: TreeId) {
        let unwanted = |state: &super::super::trees::TreeState| {
            state.lock == LockState::Held && state.active == 0 && !state.has_queued()
        };
        if self.trees.get(tree).is_some_and(unwanted) {
            self.trees.change(tree, |state| state.lock = LockState::Free);
            self.actions.push(Action::Unlock { tree });
        }
    }
}

/// The answer to requests that nobody wants any more.
pub(super) fn cancelled() -> HookError {
    HookError::new(ErrorKind::Cancelled, "the request was cancelled")
}

/// The answer to requests that came too late.
pub(super) fn closed() -> HookError {
    HookError::new(ErrorKind::Interrupted, "the supervisor is ending and admits nothing more")
}
