//! The events of a supervisor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::Hook;
use serde::Serialize;

use crate::error::{ErrorKind, ExitReason};
use crate::ids::{RequestId, TemplateId, WorkerId};
use crate::json;
use crate::limits::Limits;
use crate::response::{StartMethod, Timing};
use crate::selection::Selection;

/// Why a worker is ended that has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was idle for [`Limits::idle_timeout`](crate::Limits::idle_timeout).
    IdleTimeout,
    /// It ran [`Limits::max_requests`](crate::Limits::max_requests) hooks.
    MaxRequests,
    /// It lived for [`Limits::max_lifetime`](crate::Limits::max_lifetime).
    MaxLifetime,
    /// [`Supervisor::restart`](crate::Supervisor::restart) was called.
    RestartRequested,
    /// Another tree needed its place, or there are more workers than
    /// [`Limits::max_workers`](crate::Limits::max_workers) allows since it was changed.
    Evicted,
    /// [`Supervisor::retire`](crate::Supervisor::retire) was called.
    Retired,
    /// A file that it, its template or its interpreter has imported or read has
    /// changed.
    EnvironmentChanged,
    /// Its template has preloaded more modules since, or its tree needs another
    /// template.
    TemplateChanged,
    /// The supervisor ends.
    Shutdown,
}

impl StopReason {
    /// The reason in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle timeout",
            Self::MaxRequests => "maximum of requests",
            Self::MaxLifetime => "maximum lifetime",
            Self::RestartRequested => "a restart was requested",
            Self::Retired => "its environment is not needed any more",
            Self::EnvironmentChanged => "the environment has changed",
            Self::TemplateChanged => "its template has learned more",
            Self::Evicted => "evicted to make room",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Event {
    /// The request that the event is about, if it is about one.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::RequestQueued { request, .. }
            | Self::RequestPreparing { request }
            | Self::RequestPrepared { request }
            | Self::TreeLocked { request, .. }
            | Self::RequestAccepted { request, .. }
            | Self::OutputCaptured { request, .. }
            | Self::RequestRetried { request, .. }
            | Self::RequestFinished { request, .. }
            | Self::DeadlineExceeded { request, .. }
            | Self::MemoryLimitExceeded { request, .. } => Some(*request),
            _ => None,
        }
    }
}

/// An event.
///
/// It serializes with its name as the field `event`, in `snake_case`, and with times
/// as milliseconds (`after_ms`).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum Event {
    /// A request was admitted.
    RequestQueued {
        request: RequestId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        hook: Hook,
        #[serde(skip_serializing_if = "Option::is_none")]
        caller_id: Option<Arc<str>>,
    },
    /// The build environment of a request is being made. The request waits for
    /// it at the front of its queue.
    RequestPreparing { request: RequestId },
    /// The request does not wait for its environment any more.
    RequestPrepared { request: RequestId },
    /// A tree's lock is held by another process, as this request has found; the
    /// requests of the tree wait.
    TreeLocked {
        request: RequestId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
    },
    /// It has been held for some seconds. `holder` describes the other process,
    /// where the system tells.
    TreeStillLocked {
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        holder: Option<String>,
    },
    /// A worker has accepted a request, which is not retried any more.
    RequestAccepted { request: RequestId, worker: WorkerId },
    /// The output of a request's hook can be read from these files until its
    /// response is taken. The hook could replace them by other files.
    OutputCaptured {
        request: RequestId,
        #[serde(serialize_with = "json::path")]
        stdout: PathBuf,
        #[serde(serialize_with = "json::path")]
        stderr: PathBuf,
    },
    /// The worker died before it accepted the request, which is queued again.
    RequestRetried { request: RequestId, reason: String },
    /// A request was answered.
    RequestFinished {
        request: RequestId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        hook: Hook,
        error: Option<ErrorKind>,
        timing: Timing,
        #[serde(skip_serializing_if = "Option::is_none")]
        caller_id: Option<Arc<str>>,
    },
    /// A worker is being started.
    WorkerStarting {
        worker: WorkerId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        generation: u64,
        start_method: StartMethod,
    },
    /// A worker is ready for its first request.
    WorkerReady {
        worker: WorkerId,
        pid: u32,
        start_method: StartMethod,
        #[serde(rename = "after_ms", serialize_with = "json::milliseconds")]
        after: Duration,
    },
    /// A worker could not be started.
    WorkerStartFailed {
        worker: WorkerId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        reason: String,
    },
    /// An idle worker serves this tree from now on, as the worker of this
    /// generation.
    WorkerMoved {
        worker: WorkerId,
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        generation: u64,
    },
    /// A worker that has not failed is being ended.
    WorkerStopping { worker: WorkerId, reason: StopReason },
    /// A worker's process has ended. If not `planned`, it crashed.
    WorkerExited { worker: WorkerId, pid: u32, exit: ExitReason, planned: bool },
    /// A worker that was told to stop stays, as the parent of processes that its
    /// hooks detached. It ends with the supervisor.
    WorkerLingers { worker: WorkerId, pid: u32 },
    /// A worker did not answer a health check, and is killed.
    HealthCheckFailed { worker: WorkerId },
    /// A worker violated the protocol, and is killed.
    ProtocolViolated { worker: WorkerId, reason: String },
    /// A hook exceeded its deadline, and is being ended.
    DeadlineExceeded { request: RequestId, worker: WorkerId },
    /// A hook exceeded its memory limit, and is killed.
    MemoryLimitExceeded { request: RequestId, worker: WorkerId, bytes: u64 },
    /// A `DEBUG` message of a worker, or a line of its log.
    WorkerLog { worker: WorkerId, line: String },
    /// A worker of a pool failed. The next is started after this delay.
    PoolBackoff {
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        #[serde(rename = "delay_ms", serialize_with = "json::milliseconds")]
        delay: Duration,
        failures: usize,
    },
    /// The workers of a pool failed too often. Its requests fail for this time.
    PoolQuarantined {
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        #[serde(rename = "cool_down_ms", serialize_with = "json::milliseconds")]
        cool_down: Duration,
        reason: String,
    },
    /// A process that a dead worker left behind was killed.
    OrphanKilled { pid: u32 },
    /// A template is being started.
    TemplateStarting {
        template: TemplateId,
        #[serde(serialize_with = "json::path")]
        interpreter: PathBuf,
        backend: Option<String>,
    },
    /// A template has imported its backend, and has `modules` loaded.
    TemplateReady {
        template: TemplateId,
        pid: u32,
        modules: usize,
        #[serde(rename = "after_ms", serialize_with = "json::milliseconds")]
        after: Duration,
    },
    /// A template has preloaded all learned modules, and has `modules` loaded.
    TemplateLearned { template: TemplateId, modules: usize },
    /// The backend or, where none is named, the learned modules are not
    /// preloaded: that failed, or would change what hooks see.
    PreloadRefused { template: TemplateId, backend: Option<String>, reason: String },
    /// A hook would have found a preloaded module elsewhere on its own `sys.path`
    /// (see [`Builder::report_shadowed`](crate::Builder::report_shadowed)).
    PreloadShadowed {
        #[serde(serialize_with = "json::path")]
        tree: PathBuf,
        module: String,
        loaded: String,
        found: String,
    },
    /// A file or folder that a template has imported has changed. The template
    /// is replaced.
    TemplateStale {
        template: TemplateId,
        #[serde(serialize_with = "json::path")]
        changed: PathBuf,
    },
    /// A template ended unexpectedly, or was killed because it did not respond.
    TemplateFailed { template: TemplateId, reason: String },
    /// Templates for these workers have failed too often. The workers are
    /// spawned.
    TemplateFallback {
        #[serde(serialize_with = "json::path")]
        interpreter: PathBuf,
        backend: Option<String>,
        reason: String,
    },
    /// A template ended as it was told to.
    TemplateExited { template: TemplateId },
    /// A line of a template's log.
    TemplateLog { template: TemplateId, line: String },
    /// The supervisor's interpreter is a free-threaded build, which hookpool is
    /// not tested with.
    FreeThreaded {
        #[serde(serialize_with = "json::path")]
        python: PathBuf,
    },
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
