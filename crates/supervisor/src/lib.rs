//! Supervises pools of hookd workers that run Python build hooks (PEP 517 and
//! 660): for programs that need the metadata or the wheels of many source
//! trees, such as resolvers.
//!
//! ```no_run
//! use hookpool_supervisor::{Hook, HookRequest, Supervisor};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let supervisor = Supervisor::builder().interpreter("/srv/venv/bin/python").start().await?;
//! let ticket = supervisor.submit(HookRequest::new("/src/flask", Hook::GetRequiresForBuildWheel)).await?;
//! let response = ticket.await;
//! match response.outcome {
//!     Ok(requirements) => println!("{requirements}"),
//!     Err(error) => eprintln!("{error}\n{}", response.stderr.text()),
//! }
//! supervisor.drain().await;
//! # Ok(())
//! # }
//! ```
//!
//! The example `resolver` in the crate's `examples` asks many trees at once.
//!
//! # Theory of operation
//!
//! A [`Supervisor`] is a cheap handle of one *dispatcher*, a task that decides
//! everything. [`Supervisor::submit`] admits a [`HookRequest`] and gives a
//! [`Ticket`], a future that always resolves, once, with a [`Response`].
//!
//! Each source tree has a *queue*: higher priorities first, then the order of
//! submission. Trees take turns, so that none starves the others. When it is a
//! tree's turn and a job slot is free, the tree is *visited*: its lock is taken
//! (other processes may work in it too; waiting for them holds no slot), its
//! `pyproject.toml` is read. A request that wants a build environment of its
//! own has it *prepared*, if it is not there: once for all who wait for it, by
//! whoever implements [`BuildEnvironments`]. Then a *worker* is leased: a
//! Python process of that tree, idle from an earlier request, or started now,
//! in the place of the least recently used one if there are
//! [`Limits::max_workers`].
//!
//! The worker speaks the protocol of [`hookd_protocol`] and, with
//! [`Isolation::Hook`], forks a process for each hook, as PEP 517 asks for.
//! What the hook writes goes to files, whose ends the response carries.
//!
//! Beside hooks, [`Supervisor::run_program`] runs other programs, such as
//! installers, so that nothing of them outlives the supervisor either.
//!
//! # What is promised
//!
//! - A request is answered exactly once. It is tried again only if its worker
//!   died before *accepting* it; a hook that may have started is never run
//!   twice.
//! - At most [`Limits::workers_per_tree`] hooks run in a tree at once, those of
//!   other processes that use this library included.
//! - A hook that dies, hangs, floods its output or kills its worker costs its
//!   own request, and nothing else. A tree whose workers keep failing is
//!   *quarantined* for a while; the others go on.
//! - Nothing outlives the supervisor. Workers end at the end of their input,
//!   even when this process is killed with SIGKILL, and take what their hooks
//!   started along.
//! - Everything is bounded: requests by [`Limits::queue_size`], captured output
//!   that waits for its caller, workers, and every wait for a process to end.
//!
//! # Security
//!
//! Build hooks run arbitrary code as the user of this process. Nobody else gets
//! in: folders are 0700, and folders that others could write to are refused.
//!
//! # Runtime
//!
//! Needs a tokio runtime with I/O and time, of either flavour, and Unix; the
//! adoption of orphans and the memory limit need Linux. Never call
//! `waitpid(-1)` in a process that uses this library: it would take away the
//! workers' exits.

mod blocking;
mod build_environment;
mod builder;
mod cache;
mod dispatch;
mod error;
mod event;
pub mod files;
mod hookd;
mod interpreter;
mod limits;
mod lock;
mod process;
mod programs;
mod request;
mod response;
mod shutdown;
mod supervisor;
mod template;
mod ticket;
mod tree;
mod worker;

pub use build_environment::{
    BuildEnvironment, BuildEnvironments, EnvironmentRequirements, MakeEnvironment, RequestEnvironment,
};
pub use builder::{Builder, StartError};
pub use cache::{Removed, prune_learned_modules, prune_worker_programs};
pub use dispatch::{JobSlot, ReturnedSlot};
pub use error::{ErrorKind, ExitReason, HookError, Setting, SourceInstead};
pub use event::{Event, Observer, StopReason, TemplateId, WorkerId};
pub use hookd::{UnpackError, WorkerProgram};
pub use hookd_protocol::{Hook, UnknownHook};
pub use interpreter::{Interpreter, InterpreterError, KnownInterpreter};
pub use limits::{InvalidQueueSize, InvalidTimeout, Limits, QueueSize, Timeout};
pub use process::open_files::{OpenFilesLimit, raise_open_files_limit};
pub use programs::{ProgramError, ProgramOutput, run_unguarded};
pub use request::{HookRequest, RequestId};
pub use response::{CapturedOutput, Isolation, Response, StartMethod, Timing, WorkerInfo};
pub use supervisor::{EndSignal, SubmitError, Supervisor};
pub use ticket::{Ticket, UnreadResponse};
pub use tree::{BuildSystem, is_within_hook};
pub use worker::CaptureFiles;
