//! All messages between a template's task and those who use the template.

use tokio::sync::oneshot;

use super::process::ForkedProcess;
use super::socket::WorkerDescriptors;

/// What a template's task is told.
#[derive(Debug)]
pub(crate) enum TemplateCommand {
    /// Fork a worker that runs with these arguments.
    Fork {
        arguments: Vec<String>,
        descriptors: WorkerDescriptors,
        reply: oneshot::Sender<Result<ForkedProcess, ForkFailure>>,
    },
    /// This worker is dead. The answer is its wait status, once its pid is
    /// free and what it left behind is killed.
    Reap { pid: u32, reply: oneshot::Sender<Option<i32>> },
    /// Hooks imported these; import them when idle.
    Learn(Vec<String>),
    /// Fork nothing more, and end with the last worker.
    Retire,
}

/// What all templates are to know of the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    #[default]
    Normal,
    /// The supervisor is stopped, and time does not count.
    Suspended,
    /// The end is near: nobody waits long for a template.
    Hurried,
    /// End now.
    AtOnce,
}

/// Why a template has forked no worker.
#[derive(Debug)]
pub(crate) struct ForkFailure {
    pub reason: String,
}
