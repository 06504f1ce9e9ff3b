//! All messages between the dispatcher and its workers.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::{ExitReason, HookError};
use crate::event::{Event, WorkerId};
use crate::limits::Timeout;
use crate::request::RequestId;
use crate::response::StartMethod;
use crate::tree::Prepared;
use crate::worker::WorkerFreshness;
use crate::worker::capture_files::CaptureFiles;

/// A request given to a worker.
#[derive(Debug)]
pub(crate) struct Lease {
    pub request: RequestId,
    /// All lines of the request are written ahead.
    pub prepared: Prepared,
    /// How long the hook may run.
    pub timeout: Option<Timeout>,
}

/// Held for as long as something is still to be done; whoever has the receiving
/// end sees when the last clone is dropped.
pub(crate) type Acknowledgement = tokio::sync::mpsc::Sender<()>;

/// What the dispatcher tells a worker.
#[derive(Debug)]
pub(crate) enum WorkerCommand {
    /// Run this; only sent to a worker that is idle.
    Lease(Lease),
    /// The caller does not want the request any more.
    Cancel(RequestId),
    /// The supervisor got this signal: forward it, then end.
    Interrupt(Signal),
    /// End as planned; only sent to a worker that is idle.
    Stop,
    /// End now, with everything that the worker started.
    Terminate,
    /// Stop the hook's processes; its deadline does not run.
    Suspend(Acknowledgement),
    /// Let them go on.
    Resume,
}

/// What a worker tells the dispatcher.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    pub worker: WorkerId,
    pub event: WorkerEvent,
}

#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// The process is there and waits for its first request.
    Ready {
        pid: u32,
        start_method: StartMethod,
        after: Duration,
        /// For those who visit its tree; `None` in tests of the scheduler.
        freshness: Option<Arc<WorkerFreshness>>,
    },
    /// The request was accepted; it must not run a second time.
    Accepted { request: RequestId },
    /// The request has its answer.
    Finished(Box<Finished>),
    /// The worker can take another request.
    Idle,
    /// The worker was stopped and stays as the keeper of what its hooks
    /// detached.
    Lingers,
    /// The process is gone and has been waited for; the last report.
    Gone { pid: Option<u32>, exit: Option<ExitReason>, ending: Ending },
    /// The dispatcher's observers should hear of this.
    Observed(Event),
}

/// The answer to a request, as far as its worker knows it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub request: RequestId,
    pub outcome: Result<Value, HookError>,
    /// From the lease to the acceptance.
    pub start: Option<Duration>,
    /// From the acceptance to the result.
    pub hook: Option<Duration>,
    pub files: CaptureFiles,
}

/// Why a worker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was told to.
    Planned,
    /// It was ready once, and failed.
    Crashed(String),
    /// It was ready once, and wrote something that it must not.
    Violated(String),
    /// It never became ready. `lasting`: trying again would not help.
    StartFailed { reason: String, lasting: bool },
}
