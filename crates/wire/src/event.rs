//! What happens in the pool of a service.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::Limits;
use crate::response::{ExitReason, Timing};

/// A line of `/v1/events`. Requests, workers and templates are named by their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolEvent {
    /// When it happened, in milliseconds since 1970.
    pub time_ms: f64,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened in a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum Happening {
    /// A request was admitted.
    RequestQueued {
        request: u64,
        tree: String,
        hook: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller_id: Option<String>,
    },
    /// The build environment of a request is being made. The request waits for
    /// it at the front of its queue.
    RequestPreparing { request: u64 },
    /// The request does not wait for its environment any more.
    RequestPrepared { request: u64 },
    /// A tree's lock is held by another process, as this request has found; the
    /// requests of the tree wait.
    TreeLocked { request: u64, tree: String },
    /// It has been held for some seconds. `holder` describes the other process,
    /// where the system tells.
    TreeStillLocked { tree: String, holder: Option<String> },
    /// A worker has accepted a request, which is not retried any more.
    RequestAccepted { request: u64, worker: u64 },
    /// The output of a request's hook can be read from these files until its
    /// response is taken. The hook could replace them by other files.
    OutputCaptured { request: u64, stdout: String, stderr: String },
    /// The worker died before it accepted the request, which is queued again.
    RequestRetried { request: u64, reason: String },
    /// A request was answered.
    RequestFinished {
        request: u64,
        tree: String,
        hook: String,
        error: Option<String>,
        timing: Timing,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller_id: Option<String>,
    },
    /// A worker is being started.
    WorkerStarting { worker: u64, tree: String, generation: u64, start_method: String },
    /// A worker is ready for its first request.
    WorkerReady { worker: u64, pid: u32, start_method: String, after_ms: f64 },
    /// A worker could not be started.
    WorkerStartFailed { worker: u64, tree: String, reason: String },
    /// An idle worker serves this tree from now on, as the worker of this
    /// generation.
    WorkerMoved { worker: u64, tree: String, generation: u64 },
    /// A worker that has not failed is being ended.
    WorkerStopping { worker: u64, reason: String },
    /// A worker's process has ended. If not `planned`, it crashed.
    WorkerExited { worker: u64, pid: u32, exit: ExitReason, planned: bool },
    /// A worker that was told to stop stays, as the parent of processes that its
    /// hooks detached. It ends with the supervisor.
    WorkerLingers { worker: u64, pid: u32 },
    /// A worker did not answer a health check, and is killed.
    HealthCheckFailed { worker: u64 },
    /// A worker violated the protocol, and is killed.
    ProtocolViolated { worker: u64, reason: String },
    /// A hook exceeded its deadline, and is being ended.
    DeadlineExceeded { request: u64, worker: u64 },
    /// A hook exceeded its memory limit, and is killed.
    MemoryLimitExceeded { request: u64, worker: u64, bytes: u64 },
    /// A `DEBUG` message of a worker, or a line of its log.
    WorkerLog { worker: u64, line: String },
    /// A worker of a pool failed. The next is started after this delay.
    PoolBackoff { tree: String, delay_ms: f64, failures: usize },
    /// The workers of a pool failed too often. Its requests fail for this time.
    PoolQuarantined { tree: String, cool_down_ms: f64, reason: String },
    /// A process that a dead worker left behind was killed.
    OrphanKilled { pid: u32 },
    /// A template is being started.
    TemplateStarting { template: u64, interpreter: String, backend: Option<String> },
    /// A template has imported its backend, and has `modules` loaded.
    TemplateReady { template: u64, pid: u32, modules: usize, after_ms: f64 },
    /// A template has preloaded all learned modules, and has `modules` loaded.
    TemplateLearned { template: u64, modules: usize },
    /// The backend or, where none is named, the learned modules are not
    /// preloaded: that failed, or would change what hooks see.
    PreloadRefused { template: u64, backend: Option<String>, reason: String },
    /// A hook would have found a preloaded module elsewhere on its own `sys.path`
    PreloadShadowed { tree: String, module: String, loaded: String, found: String },
    /// A file or folder that a template has imported has changed. The template
    /// is replaced.
    TemplateStale { template: u64, changed: String },
    /// A template ended unexpectedly, or was killed because it did not respond.
    TemplateFailed { template: u64, reason: String },
    /// Templates for these workers have failed too often. The workers are
    /// spawned.
    TemplateFallback { interpreter: String, backend: Option<String>, reason: String },
    /// A template ended as it was told to.
    TemplateExited { template: u64 },
    /// A line of a template's log.
    TemplateLog { template: u64, line: String },
    /// The supervisor's interpreter is a free-threaded build, which hookpool is
    /// not tested with.
    FreeThreaded { python: String },
    /// The limit of open files allows this number of workers only.
    WorkersCapped { max_workers: usize, open_files: u64 },
    /// Processes that outlive their worker cannot be found, and are not ended.
    OrphansUnknown { reason: String },
    /// These limits are in force from now on.
    LimitsChanged { limits: Box<Limits> },
    /// These workers and templates are being replaced.
    Restarting { selection: Selection },
    /// No more requests are admitted; those that were are answered.
    Draining,
    /// Running hooks are being ended by this signal.
    Interrupted { signal: String },
    /// All hooks are stopped. Deadlines do not run.
    Suspended,
    /// The hooks continue.
    Resumed,
    /// The subscriber was slow, and has missed this number of events before the next.
    EventsLost { count: u64 },
}

/// What a restart concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Everything.
    All,
    /// The workers of this source tree.
    Tree(String),
    /// The templates and workers of the environment of this interpreter.
    Environment(String),
    /// This template with its workers.
    Template(u64),
}
