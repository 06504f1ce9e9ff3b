//! What happens in a supervisor, as values that observers see.

use std::path::PathBuf;
use std::time::Duration;

use hookd_protocol::Hook;

use crate::error::{ErrorKind, ExitReason};
use crate::request::RequestId;
use crate::response::{StartMethod, Timing};

/// The number of a worker, unique within its supervisor; never reused, unlike
/// a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl WorkerId {
    /// The number itself, counted from 1.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number of a template, unique within its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub(crate) u64);

impl TemplateId {
    /// The number itself, counted from 1.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for TemplateId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a worker that did nothing wrong is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was idle for [`Limits::idle_timeout`](crate::Limits::idle_timeout).
    IdleTimeout,
    /// It ran [`Limits::max_requests`](crate::Limits::max_requests) hooks.
    MaxRequests,
    /// It lived for [`Limits::max_lifetime`](crate::Limits::max_lifetime).
    MaxLifetime,
    /// [`Supervisor::recycle`](crate::Supervisor::recycle) was called.
    RecycleRequested,
    /// Another tree needed its place.
    Evicted,
    /// Something that it, its template or its interpreter imported or read has
    /// changed on the disk.
    EnvironmentChanged,
    /// Its template holds more learned modules by now, or another one is right
    /// for its tree.
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
            Self::RecycleRequested => "recycling was requested",
            Self::EnvironmentChanged => "the environment has changed",
            Self::TemplateChanged => "its template has learned more",
            Self::Evicted => "evicted to make room",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum Event {
    /// A request was admitted.
    RequestQueued { request: RequestId, tree: PathBuf, hook: Hook },
    /// The build environment of a request is not there: it is being made, and
    /// the request waits for it in front of its queue.
    RequestPreparing { request: RequestId },
    /// The wait for its environment is over.
    RequestPrepared { request: RequestId },
    /// A tree's lock is held by another process; its requests wait.
    TreeLocked { tree: PathBuf },
    /// It still is, after some seconds; by whom, as far as the system tells.
    TreeStillLocked { tree: PathBuf, holder: Option<String> },
    /// A worker accepted a request: from here on it is never retried.
    RequestAccepted { request: RequestId, worker: WorkerId },
    /// What the hook of this request writes can be read from these files, until
    /// its response is taken. The hook may put anything in their places.
    OutputCaptured { request: RequestId, stdout: PathBuf, stderr: PathBuf },
    /// The worker died before it accepted the request, which waits again.
    RequestRetried { request: RequestId, reason: String },
    /// A request was answered.
    RequestFinished { request: RequestId, tree: PathBuf, hook: Hook, error: Option<ErrorKind>, timing: Timing },
    /// A worker is being started.
    WorkerStarting { worker: WorkerId, tree: PathBuf, generation: u64, start_method: StartMethod },
    /// A worker is ready for its first request.
    WorkerReady { worker: WorkerId, pid: u32, start_method: StartMethod, after: Duration },
    /// A worker could not be started.
    WorkerStartFailed { worker: WorkerId, tree: PathBuf, reason: String },
    /// A worker is being ended as planned.
    WorkerStopping { worker: WorkerId, reason: StopReason },
    /// A worker's process is gone. `planned` tells an end from a crash.
    WorkerExited { worker: WorkerId, pid: u32, exit: ExitReason, planned: bool },
    /// A worker that was stopped stays as the keeper of processes that its
    /// hooks detached; it ends with the supervisor.
    WorkerLingers { worker: WorkerId, pid: u32 },
    /// An idle worker did not answer a health check and is killed.
    HealthCheckFailed { worker: WorkerId },
    /// A worker wrote something that is no message and is killed.
    ProtocolViolated { worker: WorkerId, reason: String },
    /// A hook exceeded its deadline and is being ended.
    DeadlineExceeded { request: RequestId, worker: WorkerId },
    /// A hook exceeded its memory limit and is killed.
    MemoryLimitExceeded { request: RequestId, worker: WorkerId, bytes: u64 },
    /// A worker's own words: a `DEBUG` message, or a line of its log.
    WorkerLog { worker: WorkerId, line: String },
    /// A pool's workers failed; the next is started after this time.
    PoolBackoff { tree: PathBuf, delay: Duration, failures: usize },
    /// A pool's workers failed too often: its requests fail for this time.
    PoolQuarantined { tree: PathBuf, cool_down: Duration, reason: String },
    /// A process that a dead worker left behind was killed.
    OrphanKilled { pid: u32 },
    /// A template is being started.
    TemplateStarting { template: TemplateId, interpreter: PathBuf, backend: Option<String> },
    /// A template has imported its backend, and this many modules in all.
    TemplateReady { template: TemplateId, pid: u32, modules: usize, after: Duration },
    /// A template has imported what was learned so far; it holds this many
    /// modules.
    TemplateLearned { template: TemplateId, modules: usize },
    /// A module is not preloaded: it cannot be, or that would change what hooks
    /// see.
    PreloadRefused { template: TemplateId, module: String, reason: String },
    /// A hook's own `sys.path` would have led elsewhere for a module that was
    /// preloaded (see [`Builder::report_shadowed`](crate::Builder::report_shadowed)).
    PreloadShadowed { tree: PathBuf, module: String, loaded: String, found: String },
    /// A file or folder that a template has imported has changed: it is
    /// replaced.
    TemplateStale { template: TemplateId, changed: PathBuf },
    /// A template ended without having been told to, or had to be killed.
    TemplateFailed { template: TemplateId, reason: String },
    /// There is no template any more for these workers: they are spawned.
    TemplateFallback { interpreter: PathBuf, backend: Option<String>, reason: String },
    /// A template that was to end has ended.
    TemplateExited { template: TemplateId },
    /// A template's own words.
    TemplateLog { template: TemplateId, line: String },
    /// The interpreter for all who name none is a free-threaded build, which
    /// hookpool is not tested with.
    FreeThreaded { python: PathBuf },
    /// The limit of open files allows no more workers than this.
    WorkersCapped { max_workers: usize, open_files: u64 },
    /// Processes that outlive their worker cannot be found, and so not be ended.
    OrphansUnknown { reason: String },
    /// All workers are being recycled.
    Recycling,
    /// Nothing is admitted any more; what was admitted is answered.
    Draining,
    /// Running hooks are being ended by this signal.
    Interrupted { signal: String },
    /// All hooks are stopped; deadlines do not run.
    Suspended,
    /// The hooks go on.
    Resumed,
}

/// Somebody who wants to know what happens. Called from the dispatcher's task,
/// in order: it must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}
