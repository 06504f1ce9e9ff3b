//! All messages between the dispatcher and its workers.

use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::Observed;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::{Canceller, ExitReason, HookError};
use crate::event::Event;
use crate::ids::{RequestId, WorkerId};
use crate::limits::Timeout;
use crate::response::StartMethod;
use crate::tree::{Prepared, Tree};
use crate::worker::WorkerFreshness;
use crate::worker::capture_files::CaptureFiles;

/// A request given to a worker.
#[derive(Debug)]
pub(crate) struct Lease {
    pub request: RequestId,
    /// The tree that the worker is to serve from now on, if it is another one.
    pub tree: Option<Arc<Tree>>,
    /// The lines that are written to the worker.
    pub prepared: Prepared,
    /// How long the hook may run.
    pub timeout: Option<Timeout>,
}

/// Dropped when something is done. The receiver sees when the last clone is
/// dropped.
pub(crate) type Acknowledgement = tokio::sync::mpsc::Sender<()>;

/// A command of the dispatcher to a worker.
#[derive(Debug)]
pub(crate) enum WorkerCommand {
    /// Run this request. Sent to idle workers only.
    Lease(Lease),
    /// End the hook of this request.
    Cancel { request: RequestId, canceller: Canceller },
    /// Forward this signal to the hook, and end.
    Interrupt(Signal),
    /// Shut down. Sent to idle workers only.
    Stop,
    /// End now, with all processes that the worker has started.
    Terminate,
    /// Stop the hook's processes (SIGSTOP). Its deadline does not run.
    Suspend(Acknowledgement),
    /// Continue them.
    Resume,
}

/// A report of a worker to the dispatcher.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    pub worker: WorkerId,
    pub event: WorkerEvent,
}

#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// The process can take its first request.
    Ready {
        pid: u32,
        start_method: StartMethod,
        after: Duration,
        /// For visits of its tree. `None` in tests of the scheduler.
        freshness: Option<Arc<WorkerFreshness>>,
    },
    /// The worker has accepted the request, which must not run a second time.
    Accepted { request: RequestId },
    /// The request has its answer.
    Finished(Box<Finished>),
    /// The worker can take another request.
    Idle {
        /// It is the parent of processes that its hooks detached.
        keeps_processes: bool,
    },
    /// The worker was stopped, and stays as the parent of processes that its
    /// hooks detached.
    Lingers,
    /// The process has ended and was waited for. The last report.
    Gone { pid: Option<u32>, exit: Option<ExitReason>, ending: Ending },
    /// An event for subscribers.
    Observed(Event),
}

/// The answer to a request, as far as the worker knows it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub request: RequestId,
    pub outcome: Result<Value, HookError>,
    /// From the lease to the acceptance.
    pub start: Option<Duration>,
    /// From the acceptance to the result.
    pub hook: Option<Duration>,
    pub observed: Option<Observed>,
    /// The answer was kept from an earlier hook.
    pub kept: bool,
    pub files: CaptureFiles,
}

impl Finished {
    /// The answer to a request that has no worker.
    pub fn without_worker(request: RequestId, outcome: Result<Value, HookError>) -> Self {
        Self { request, outcome, start: None, hook: None, observed: None, kept: false, files: CaptureFiles::default() }
    }
}

/// Why a worker has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was told to.
    Planned,
    /// It failed after it was ready.
    Crashed(String),
    /// It violated the protocol.
    Violated(String),
    /// It did not become ready. `lasting`: another attempt would not help.
    StartFailed { reason: String, lasting: bool },
}
