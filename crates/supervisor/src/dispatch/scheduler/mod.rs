//! All decisions of the dispatcher, without I/O.
//!
//! The scheduler is told events and the time, and returns actions from
//! [`Scheduler::take_actions`].
//!
//! A request passes through these states. From the visit to the answer it holds
//! a job slot, and from the visit to the end of the worker's cleanup it counts as
//! active in its tree, except while it is queued, parked or preparing:
//!
//! ```text
//!            +--- a kept answer --------------------------+
//!            |                                            v
//! Queued -> Visiting -> (NeedsWorker) -> (Starting) -> Leased -> answered
//!   ^        |    |          |               |            |
//!   |        |    v          v               v            v
//!   |        |  (tree busy) Parked (the pool's workers failed, before acceptance)
//!   |        v
//!   +--- Preparing (its environment is not there)
//! ```

mod admission;
mod ending;
mod lease;
mod limits;
mod preparation;
mod restart;
mod snapshot;
mod worker_events;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use self::preparation::Preparations;
use super::message::Action;
use super::restart::RestartTracker;
use super::slots::{JobSlot, JobSlots};
use super::trees::{QueuePlace, Trees};
use super::workers::{PoolKey, Workers};
use crate::build_environment::{BuildEnvironment, MadeEnvironment};
use crate::error::{Canceller, HookError};
use crate::event::Event;
use crate::ids::{RequestId, WorkerId};
use crate::limits::Limits;
use crate::request::HookRequest;
use crate::response::{CapturedOutput, Isolation, Response, StartMethod, Timing, WorkerInfo};
use crate::shutdown::Shutdown;
use crate::ticket::UnreadResponse;
use crate::tree::{Prepared, Tree, TreePath};
use crate::worker::WorkerKey;
use crate::worker::message::Finished;

/// The state of a request.
#[derive(Debug)]
enum RequestState {
    Queued,
    Visiting,
    /// It waits for its environment, at the front of its queue.
    Preparing {
        since: Instant,
    },
    /// It waits for a worker: none is idle, and there is no room for another.
    NeedsWorker {
        prepared: Prepared,
    },
    /// Its worker is being started.
    Starting {
        worker: WorkerId,
        prepared: Prepared,
    },
    Leased {
        worker: WorkerId,
    },
    /// Its pool may not start a worker yet.
    Parked {
        until: Instant,
    },
}

/// An unanswered request.
#[derive(Debug)]
struct RequestRecord {
    details: Arc<HookRequest>,
    /// The path of its queue.
    path: TreePath,
    /// Its own path of the tree, which differs from `path` where two paths lead
    /// to one folder.
    named: TreePath,
    /// As the last visit found it.
    tree: Option<Arc<Tree>>,
    place: QueuePlace,
    key: WorkerKey,
    state: RequestState,
    slot: Option<JobSlot>,
    environment: Option<Arc<dyn BuildEnvironment>>,
    /// The environment that it has waited for, until the next visit takes it.
    made: Option<MadeEnvironment>,
    submitted_at: Instant,
    /// How long it has waited for its environment.
    prepared_for: Duration,
    /// When a worker was found or started for it.
    assigned_at: Option<Instant>,
    /// When it was written to the worker.
    leased_at: Option<Instant>,
    /// Who has cancelled it.
    cancelled: Option<Canceller>,
    /// The number of workers that died before they accepted it.
    attempts: u32,
    reply: oneshot::Sender<UnreadResponse>,
}

/// The restarts of one pool.
#[derive(Debug, Default)]
struct Pool {
    restarts: RestartTracker,
    /// The number of workers that it has had. One that was moved away and comes
    /// back counts again.
    generation: u64,
}

pub(crate) struct Scheduler {
    limits: Limits,
    default_python: PathBuf,
    start_method: StartMethod,
    isolation: Isolation,
    shutdown: Shutdown,
    suspended: bool,
    requests: HashMap<RequestId, RequestRecord>,
    trees: Trees,
    workers: Workers,
    preparations: Preparations,
    pools: HashMap<PoolKey, Pool>,
    /// The number of pools at which those without failures are forgotten.
    pools_purged_at: usize,
    parked: BTreeSet<(Instant, RequestId)>,
    needs_worker: VecDeque<RequestId>,
    slots: JobSlots,
    /// The last request was not of the tree whose turn it was.
    passed_over: bool,
    actions: Vec<Action>,
    /// Returns a number from 0 to 1; constant in tests.
    jitter: fn() -> f64,
}

impl Scheduler {
    /// The number of pools below which none is forgotten.
    const POOLS_KEPT: usize = 512;
    /// The number of workers that may die before they accept a request.
    const MAX_ATTEMPTS: u32 = 3;

    pub fn new(
        limits: Limits,
        default_python: PathBuf,
        start_method: StartMethod,
        isolation: Isolation,
        jitter: fn() -> f64,
    ) -> Self {
        let trees = Trees::new(limits.workers_per_tree.get());
        let slots = JobSlots::new(limits.jobs);
        Self {
            limits,
            default_python,
            start_method,
            isolation,
            shutdown: Shutdown::NotBegun,
            suspended: false,
            requests: HashMap::new(),
            trees,
            workers: Workers::default(),
            preparations: Preparations::default(),
            pools: HashMap::new(),
            pools_purged_at: Self::POOLS_KEPT,
            parked: BTreeSet::new(),
            needs_worker: VecDeque::new(),
            slots,
            passed_over: false,
            actions: Vec::new(),
            jitter,
        }
    }

    /// The actions since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether all requests are answered, and all workers and installers have
    /// ended.
    pub fn is_finished(&self) -> bool {
        self.shutdown != Shutdown::NotBegun
            && self.requests.is_empty()
            && self.workers.is_empty()
            && self.preparations.is_empty()
    }

    /// Whether new requests are refused.
    pub fn is_closed(&self) -> bool {
        self.shutdown != Shutdown::NotBegun
    }

    /// Waits until a lent job slot is returned. Then call [`Scheduler::fill`].
    pub async fn slot_freed(&self) {
        self.slots.freed().await;
    }

    fn observe(&mut self, event: Event) {
        self.actions.push(Action::Observe(event));
    }

    /// Answers a request with an error that no worker reports.
    fn fail(&mut self, request: RequestId, error: HookError, now: Instant) {
        self.answer(Finished::without_worker(request, Err(error)), None, now);
    }

    /// Answers a request, and returns its job slot. The only place where that is
    /// done.
    fn answer(&mut self, finished: Finished, worker: Option<WorkerInfo>, now: Instant) {
        let Some(record) = self.requests.remove(&finished.request) else { return };
        if self.requests.is_empty() {
            self.preparations.forget_failures();
        }
        let timing = record.timing(&finished, now);
        let details = &record.details;
        self.actions.push(Action::Observe(Event::RequestFinished {
            request: finished.request,
            tree: details.tree.clone(),
            hook: details.hook,
            caller_id: details.caller_id.clone(),
            error: finished.outcome.as_ref().err().map(|error| error.kind),
            timing,
        }));
        let response = Response {
            id: finished.request,
            tree: details.tree.clone(),
            hook: details.hook,
            kept: finished.kept,
            observed: finished.observed,
            outcome: finished.outcome.map_err(|error| error.of_hook(details.hook)),
            environment: record.environment,
            worker,
            timing,
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        };
        let response = Box::new(UnreadResponse { response, files: finished.files });
        self.actions.push(Action::Answer { reply: record.reply, response });
    }

    fn worker_info(&self, worker: WorkerId) -> Option<WorkerInfo> {
        let record = self.workers.get(worker)?;
        Some(WorkerInfo { pid: record.pid?, generation: record.generation, start_method: record.start_method })
    }

    fn key_of(&self, request: &HookRequest) -> WorkerKey {
        let python = request.python.clone().unwrap_or_else(|| self.default_python.clone());
        WorkerKey { python, caller: request.caller.clone(), env: Arc::new(request.env.clone()), backend: None }
    }

    /// The pool of a request, once its tree was visited.
    fn pool_of(&self, request: RequestId) -> Option<PoolKey> {
        let record = self.requests.get(&request)?;
        Some(PoolKey { tree: record.tree.clone()?, worker: record.key.clone() })
    }

    /// A request is no longer active in its tree. The last one releases the lock,
    /// so that other processes get their turn between two hooks.
    fn leave_tree(&mut self, path: &TreePath) {
        use super::trees::LockState;
        let unlock = self.trees.change(path, |state| {
            state.active -= 1;
            let unlock = state.active == 0 && state.lock == LockState::Held;
            if unlock {
                state.lock = LockState::Free;
            }
            unlock
        });
        if unlock == Some(true) {
            self.actions.push(Action::Unlock { path: path.clone() });
        }
    }
}

impl RequestRecord {
    fn timing(&self, finished: &Finished, now: Instant) -> Timing {
        let waited = self.leased_at.zip(self.assigned_at).map(|(leased, assigned)| leased - assigned);
        let mut prepare = self.prepared_for;
        if let RequestState::Preparing { since } = &self.state {
            prepare += now - *since;
        }
        let queued = self.assigned_at.unwrap_or(now) - self.submitted_at;
        Timing {
            queued: Some(queued.saturating_sub(prepare)),
            prepare: self.details.environment.is_some().then_some(prepare),
            start: finished.start.map(|start| start + waited.unwrap_or_default()),
            hook: finished.hook,
        }
    }
}
