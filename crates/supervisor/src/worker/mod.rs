//! One worker process: started, spoken to, watched and ended by one task.
//!
//! [`machine`] decides and does nothing else; [`actor`] owns the process, feeds
//! the machine and carries out what it decides. All messages between a worker
//! and the dispatcher are in [`message`].

pub(crate) mod actor;
mod deadline;
pub(crate) mod launch;
mod log_tail;
pub(crate) mod machine;
mod memory;
pub(crate) mod message;
pub(crate) mod output;
mod pipes;
mod running;

pub(crate) use actor::{WorkerContext, run};
pub(crate) use launch::WorkerKey;
pub(crate) use message::{Ending, Lease, WorkerCommand, WorkerEvent, WorkerReport};
