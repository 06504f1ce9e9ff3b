//! Who runs what, when: all decisions of the dispatcher, without I/O.
//!
//! The scheduler is told what happened and what time it is; what it wants done
//! it leaves in [`Scheduler::take_actions`].
//!
//! A request passes through these states. It holds a job slot from the visit to
//! the answer, and its tree from the visit to the end of the worker's sweep; it
//! holds neither where it is queued, parked or preparing:
//!
//! ```text
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
mod preparation;
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
use crate::error::HookError;
use crate::event::{Event, WorkerId};
use crate::limits::Limits;
use crate::request::{HookRequest, RequestId};
use crate::response::{CapturedOutput, Response, StartMethod, Timing, WorkerInfo};
use crate::shutdown::Shutdown;
use crate::ticket::UnreadResponse;
use crate::tree::{Prepared, Tree, TreePath};
use crate::worker::WorkerKey;
use crate::worker::capture_files::CaptureFiles;
use crate::worker::message::Finished;

/// Where a request is.
#[derive(Debug)]
enum RequestState {
    Queued,
    Visiting,
    /// It is the first in its tree's queue, and waits for its environment.
    Preparing {
        since: Instant,
    },
    /// There is no worker for it, and no room for another.
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

/// A request that is not answered.
#[derive(Debug)]
struct RequestRecord {
    details: Arc<HookRequest>,
    /// The path of its tree's queue.
    path: TreePath,
    /// The path that it has for its tree: another where two lead to one folder.
    named: TreePath,
    /// As the last visit found it.
    tree: Option<Arc<Tree>>,
    place: QueuePlace,
    key: WorkerKey,
    state: RequestState,
    slot: Option<JobSlot>,
    environment: Option<Arc<dyn BuildEnvironment>>,
    /// What it has waited for, until the visit that takes it.
    made: Option<MadeEnvironment>,
    submitted_at: Instant,
    /// How long it has waited for its environment.
    prepared_for: Duration,
    /// When a worker was found or started for it.
    assigned_at: Option<Instant>,
    /// When it was written to the worker.
    leased_at: Option<Instant>,
    /// Its caller does not want it any more.
    cancelled: bool,
    /// How often a worker died before it accepted it.
    attempts: u32,
    reply: oneshot::Sender<UnreadResponse>,
}

/// The restarts of one pool.
#[derive(Debug, Default)]
struct Pool {
    restarts: RestartTracker,
    /// How many workers it has had.
    generation: u64,
}

pub(crate) struct Scheduler {
    limits: Limits,
    default_python: PathBuf,
    start_method: StartMethod,
    shutdown: Shutdown,
    suspended: bool,
    requests: HashMap<RequestId, RequestRecord>,
    trees: Trees,
    workers: Workers,
    preparations: Preparations,
    pools: HashMap<PoolKey, Pool>,
    /// How many pools there may be before the clean ones are forgotten.
    pools_purged_at: usize,
    parked: BTreeSet<(Instant, RequestId)>,
    needs_worker: VecDeque<RequestId>,
    slots: JobSlots,
    /// The tree whose turn it was has let another go first.
    passed_over: bool,
    actions: Vec<Action>,
    /// A number from 0 to 1; in tests always the same.
    jitter: fn() -> f64,
}

impl Scheduler {
    /// How many pools are remembered without a look at them.
    const POOLS_KEPT: usize = 4096;
    /// How often a request is given to a worker that dies before accepting it.
    const MAX_ATTEMPTS: u32 = 3;

    pub fn new(limits: Limits, default_python: PathBuf, start_method: StartMethod, jitter: fn() -> f64) -> Self {
        let trees = Trees::new(limits.workers_per_tree.get());
        let slots = JobSlots::new(limits.jobs);
        Self {
            limits,
            default_python,
            start_method,
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

    /// What is to be done since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether everything is answered, and every worker and installer gone.
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

    /// Waits until somebody has given back a job slot that was lent; then
    /// [`Scheduler::fill`] is to be called.
    pub async fn slot_freed(&self) {
        self.slots.freed().await;
    }

    fn observe(&mut self, event: Event) {
        self.actions.push(Action::Observe(event));
    }

    /// Answers a request that no worker has.
    fn fail(&mut self, request: RequestId, error: HookError, now: Instant) {
        let finished =
            Finished { request, outcome: Err(error), start: None, hook: None, files: CaptureFiles::default() };
        self.answer(finished, None, now);
    }

    /// Answers a request, and gives back its job slot; the one place where that
    /// is done.
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
            error: finished.outcome.as_ref().err().map(|error| error.kind),
            timing,
        }));
        let response = Response {
            id: finished.request,
            tree: details.tree.clone(),
            hook: details.hook,
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
        WorkerKey { python, env: Arc::new(request.env.clone()), backend: None }
    }

    /// The pool of a request, once its tree was visited.
    fn pool_of(&self, request: RequestId) -> Option<PoolKey> {
        let record = self.requests.get(&request)?;
        Some(PoolKey { tree: record.tree.clone()?, worker: record.key.clone() })
    }

    /// A request has left its tree. The lock goes with the last one, so that
    /// other processes get their turn between two hooks.
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
