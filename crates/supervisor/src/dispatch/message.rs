//! The messages from callers to the dispatcher, and the scheduler's actions.

use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::slots::JobSlot;
use crate::build_environment::{MadeEnvironment, WantedEnvironment};
use crate::event::Event;
use crate::ids::{RequestId, WorkerId};
use crate::limits::{Limits, LimitsChange, LimitsError};
use crate::request::HookRequest;
use crate::selection::{Restarted, Selection};
use crate::snapshot::Snapshot;
use crate::ticket::UnreadResponse;
use crate::tree::{Candidate, TreePath};
use crate::worker::message::Acknowledgement;
use crate::worker::{WorkerCommand, WorkerPlan};

/// A command of a caller.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>),
    Snapshot(oneshot::Sender<Box<Snapshot>>),
    ChangeLimits {
        change: LimitsChange,
        reply: oneshot::Sender<Result<Limits, LimitsError>>,
    },
    Restart {
        selection: Selection,
        reply: oneshot::Sender<Restarted>,
    },
    /// Ends the templates and workers of this interpreter.
    Retire(PathBuf),
    /// Of a caller other than the request's own.
    Cancel {
        request: RequestId,
        reply: oneshot::Sender<bool>,
    },
    /// Every worker drops its clone once it was told.
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

/// An action that the scheduler has decided on.
#[derive(Debug)]
pub(crate) enum Action {
    /// Visit a tree by the path `named` of the request, and compare this worker
    /// with the disk, if it is of the kind that the request needs.
    Visit {
        request: RequestId,
        details: Arc<HookRequest>,
        path: TreePath,
        named: TreePath,
        made: Option<MadeEnvironment>,
        worker: Option<Candidate>,
    },
    /// Wait for the lock of a tree that a visit found busy.
    AwaitLock {
        path: TreePath,
    },
    /// End the wait for a lock.
    GiveUpLock {
        path: TreePath,
    },
    /// Release the lock of a tree.
    Unlock {
        path: TreePath,
    },
    /// Make this environment.
    Prepare {
        wanted: WantedEnvironment,
        slot: JobSlot,
    },
    /// End the making of an environment.
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
