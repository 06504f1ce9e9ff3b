//! What the dispatcher is told by callers, and what the scheduler tells it to do.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::slots::JobSlot;
use crate::build_environment::{MadeEnvironment, WantedEnvironment};
use crate::event::{Event, WorkerId};
use crate::request::{HookRequest, RequestId};
use crate::ticket::UnreadResponse;
use crate::tree::TreePath;
use crate::worker::message::Acknowledgement;
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
    pub path: TreePath,
    pub reply: oneshot::Sender<UnreadResponse>,
}

/// What the scheduler wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Take the tree's lock, read what it says of its build, and look whether
    /// this worker is up to date. The request has its own path for the tree.
    Visit {
        request: RequestId,
        details: Arc<HookRequest>,
        path: TreePath,
        named: TreePath,
        made: Option<MadeEnvironment>,
        worker: Option<WorkerId>,
    },
    /// Wait for the lock that a visit found taken.
    AwaitLock {
        path: TreePath,
    },
    /// Nobody waits for that lock any more.
    GiveUpLock {
        path: TreePath,
    },
    /// Nobody needs the tree's lock.
    Unlock {
        path: TreePath,
    },
    /// Make this environment.
    Prepare {
        wanted: WantedEnvironment,
        slot: JobSlot,
    },
    /// Nobody wants that environment any more.
    GiveUpEnvironment {
        wanted: WantedEnvironment,
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
        reply: oneshot::Sender<UnreadResponse>,
        response: Box<UnreadResponse>,
    },
    Observe(Event),
}
