//! What the dispatcher is told by callers, and what the scheduler tells it to do.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use crate::event::{Event, WorkerId};
use crate::request::{HookRequest, RequestId};
use crate::response::Response;
use crate::tree::{Tree, TreeId};
use crate::worker::message::Acknowledgement;
use crate::worker::output::CaptureFiles;
use crate::worker::{WorkerCommand, WorkerPlan};

/// What a caller wants of the dispatcher.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>),
    Recycle,
    /// All clones are dropped once every worker has been told.
    Suspend {
        told: Acknowledgement,
    },
    Resume,
    Drain,
    Interrupt(Signal),
    Terminate,
}

/// A request on its way in.
#[derive(Debug)]
pub(crate) struct Submission {
    pub id: RequestId,
    pub request: HookRequest,
    pub tree: Arc<Tree>,
    pub reply: oneshot::Sender<Delivery>,
}

/// A response on its way out. The captured output is still in its files, and
/// read when the caller takes the response.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub response: Response,
    pub files: CaptureFiles,
}

/// What the scheduler wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Take the tree's lock, read its backend.
    Visit {
        request: RequestId,
        details: Arc<HookRequest>,
        tree: Arc<Tree>,
        locked: bool,
    },
    /// Wait for the lock that a visit found taken.
    AwaitLock {
        tree: TreeId,
    },
    /// Nobody needs the tree's lock.
    Unlock {
        tree: TreeId,
    },
    Start {
        worker: WorkerId,
        plan: WorkerPlan,
    },
    Tell {
        worker: WorkerId,
        command: WorkerCommand,
    },
    Answer {
        reply: oneshot::Sender<Delivery>,
        delivery: Box<Delivery>,
    },
    Observe(Event),
}
