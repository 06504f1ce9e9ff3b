//! One worker process: started, spoken to, watched and ended by one task.
//!
//! [`life`] is the task; [`machine`] decides and does nothing else; [`actor`]
//! owns the process, feeds the machine and carries out what it decides. All
//! messages between a worker
//! and the dispatcher are in [`message`].

mod actor;
mod freshness;
pub(crate) mod launch;
mod life;
mod log_tail;
pub(crate) mod machine;
mod memory;
pub(crate) mod message;
pub(crate) mod output;
mod pipes;
mod process;
mod running;
mod start;

pub(crate) use freshness::WorkerFreshness;
pub(crate) use launch::WorkerKey;
pub(crate) use life::{WorkerContext, run};
pub(crate) use message::{Ending, Lease, WorkerCommand, WorkerEvent, WorkerReport};
pub(crate) use pipes::Output;
pub(crate) use start::WorkerPlan;
