//! Supervises pools of hookd workers that run Python build hooks (PEP 517 and
//! 660). It is for programs that need the metadata or the wheels of many source
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
//! The example `resolver` in the crate's `examples` runs a hook in many trees at
//! once.
//!
//! # Theory of operation
//!
//! A [`Supervisor`] is a cheap handle to one *dispatcher*, the task that makes
//! all decisions. [`Supervisor::submit`] admits a [`HookRequest`] and returns a
//! [`Ticket`], which is awaited for exactly one [`Response`].
//!
//! Each source tree has a *queue*: higher priorities first, then the order of
//! submission. Trees take turns, so that none starves the others. When it is a
//! tree's turn and a job slot is free, the tree is *visited*: its lock is taken
//! and its `pyproject.toml` is read. (Waiting for a lock that another process
//! holds takes no slot.) A build environment that the request wants and that is
//! missing is made by an implementation of [`BuildEnvironments`], once for all
//! requests that wait for it. Then the request *leases* a worker, a Python
//! process of that tree. The worker is idle, or is started for the request; if
//! there are [`Limits::max_workers`], the least recently used one makes room.
//!
//! The worker speaks the protocol of [`hookd_protocol`]. With
//! [`Isolation::Hook`] it forks a process for each hook, as PEP 517 requires.
//! The hook's output goes to files; the response has the end of each.
//!
//! [`Supervisor::run_program`] runs other programs, such as installers, which do
//! not outlive the supervisor either.
//!
//! # What is promised
//!
//! - A request is answered exactly once. It is retried only if its worker died
//!   before *accepting* it: a hook that may have started is never run twice.
//! - At most [`Limits::workers_per_tree`] hooks run in a tree at once, including
//!   those of other processes that use this library.
//! - A hook that crashes, hangs, floods its output or kills its worker fails its
//!   own request only. A tree whose workers keep failing is *quarantined* for a
//!   while; the others go on.
//! - Nothing outlives the supervisor. Workers end at the end of their input,
//!   even when this process is killed with SIGKILL, and kill the processes that
//!   their hooks started.
//! - Everything is bounded: requests by [`Limits::queue_size`], captured output
//!   that waits for its caller, workers, and every wait for a process to end.
//!
//! # Security
//!
//! Build hooks run arbitrary code as the user of this process. Other users have
//! no access: folders are 0700, and folders that others can write to are
//! refused.
//!
//! # Runtime
//!
//! Needs Unix, and a tokio runtime of either flavour with I/O and time. Adopting
//! orphans and limiting memory need Linux. Never call `waitpid(-1)` in a process
//! that uses this library: it would reap the workers.

mod blocking;
mod build_environment;
mod builder;
mod cache;
mod caller;
mod dispatch;
mod error;
mod event;
pub mod files;
mod hookd;
mod ids;
mod interpreter;
mod json;
mod kept_answers;
mod limits;
mod lock;
mod process;
mod programs;
mod request;
mod response;
mod selection;
mod semaphore;
mod shutdown;
mod snapshot;
mod subscription;
mod supervisor;
mod template;
mod ticket;
mod tree;
mod worker;

pub use build_environment::{
    BuildEnvironment, BuildEnvironments, EnvironmentRequirements, MakeEnvironment, RequestEnvironment,
};
pub use builder::{Builder, StartError};
pub use cache::{Removed, prune_interpreters, prune_learned_modules, prune_worker_programs};
pub use caller::{CallerProcess, InvalidCaller, ResourceLimit};
pub use dispatch::{JobSlot, ReturnedSlot};
pub use error::{ErrorKind, ExitReason, HookError, Setting, SourceInstead};
pub use event::{Event, StopReason};
pub use hookd::{UnpackError, WorkerProgram};
pub use hookd_protocol::{Hook, Observed, UnknownHook};
pub use ids::{RequestId, TemplateId, WorkerId};
pub use interpreter::{Interpreter, InterpreterError, KnownInterpreter};
pub use kept_answers::KeptAnswers;
pub use limits::{InvalidQueueSize, InvalidTimeout, Limits, LimitsChange, LimitsError, QueueSize, Timeout};
pub use process::open_files::{OpenFilesLimit, raise_open_files_limit};
pub use programs::{ProgramError, ProgramOutput, run_unguarded};
pub use request::HookRequest;
pub use response::{CapturedOutput, Isolation, Response, StartMethod, Timing, WorkerInfo};
pub use selection::{Restarted, Selection};
pub use snapshot::{
    DelayedPool, Listed, QuarantinedPool, RequestPhase, RequestSnapshot, Snapshot, TemplateSnapshot, WorkerPhase,
    WorkerSnapshot,
};
pub use subscription::{Events, TimedEvent};
pub use supervisor::{EndSignal, SubmitError, Supervisor};
pub use ticket::{Ticket, UnreadResponse};
pub use tree::{BuildSystem, is_within_hook};
pub use worker::{CaptureFiles, process_memory};
