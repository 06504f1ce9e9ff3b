//! One worker process: started, spoken to, watched and ended by one task.
//!
//! [`task`] is its whole life. [`event_loop`] owns the process: it tells the
//! [`machine`] what happens, which decides without I/O, and carries out the
//! effects. All messages between a worker and the dispatcher are in [`message`].

pub(crate) mod capture_files;
mod event_loop;
mod freshness;
pub(crate) mod machine;
mod memory;
pub(crate) mod message;
mod pipes;
mod process;
mod start;
mod task;

pub use capture_files::CaptureFiles;
pub(crate) use freshness::WorkerFreshness;
pub use memory::process_memory;
pub(crate) use message::{Ending, Lease, WorkerCommand, WorkerEvent, WorkerReport};
pub(crate) use pipes::Output;
pub(crate) use start::{LaunchSettings, WorkerKey, WorkerPlan};
pub(crate) use task::{WorkerContext, run};
