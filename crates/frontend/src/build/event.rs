//! What happens on the way to an answer, for whoever shows it.

use hookpool_supervisor::{CapturedOutput, Hook, RequestId};

/// The number of a source within its caller's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub usize);

/// Something that happened on the way of a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildEvent {
    /// A step was begun.
    Step {
        /// The source.
        job: JobId,
        /// What is being done.
        step: Step,
    },
    /// A hook was submitted; what becomes of it are events of the supervisor.
    HookSubmitted {
        /// The source.
        job: JobId,
        /// The hook.
        hook: Hook,
        /// Its number in the supervisor's events.
        request: RequestId,
    },
    /// A hook was answered.
    HookAnswered {
        /// Its number in the supervisor's events.
        request: RequestId,
        /// What it wrote to its standard output.
        stdout: CapturedOutput,
        /// What it wrote to its standard error.
        stderr: CapturedOutput,
    },
}

/// What a source waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its archive is being read or unpacked.
    Unpacking,
    /// A hook: in the queue, waiting for its build environment, or running.
    Hook(Hook),
}

/// Somebody who wants to know. Called from the tasks that build: it must not
/// block.
pub trait BuildObserver: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &BuildEvent);
}

impl<F: Fn(&BuildEvent) + Send + Sync> BuildObserver for F {
    fn observe(&self, event: &BuildEvent) {
        self(event);
    }
}
