//! The request that a worker has: what is known of it so far.

use std::path::PathBuf;

use hookd_protocol::Failure;
use serde_json::Value;
use tokio::time::Instant;

use super::machine::ending::Cause;
use crate::error::{ErrorKind, ExitReason, HookError};
use crate::limits::Timeout;
use crate::process::Termination;
use crate::request::RequestId;

/// A request between its lease and its answer.
#[derive(Debug)]
pub(crate) struct Running {
    pub request: RequestId,
    pub timeout: Option<Timeout>,
    pub leased_at: Instant,
    pub accepted_at: Option<Instant>,
    pub deadline: Option<Instant>,
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
    /// The worker says that both files are empty.
    pub silent: bool,
    /// The hook is being ended, and why.
    pub ending: Option<(Cause, Termination)>,
    /// An `ERROR` was read; a `TRACEBACK` may follow.
    pub failure: Option<Failure>,
}

/// A request that has its answer; the captured output is still in its files.
#[derive(Debug)]
pub(crate) struct Answer {
    pub request: RequestId,
    pub outcome: Result<Value, HookError>,
    pub leased_at: Instant,
    pub accepted_at: Option<Instant>,
    pub finished_at: Instant,
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
    /// Both files are empty.
    pub silent: bool,
}

impl Running {
    pub fn new(request: RequestId, timeout: Option<Timeout>, now: Instant) -> Self {
        Self {
            request,
            timeout,
            leased_at: now,
            accepted_at: None,
            deadline: None,
            stdout: None,
            stderr: None,
            silent: false,
            ending: None,
            failure: None,
        }
    }

    /// The worker accepted the request: the deadline runs from here.
    pub fn accept(&mut self, stdout: PathBuf, now: Instant) {
        self.stdout = Some(stdout);
        self.accepted_at = Some(now);
        self.deadline = self.timeout.map(|timeout| now + timeout.get());
    }

    /// When something is due: the deadline, or the next stage of the termination.
    pub fn next_at(&self) -> Option<Instant> {
        match &self.ending {
            Some((_, termination)) => termination.next_at(),
            None => self.deadline,
        }
    }

    /// The answer is this, unless the hook was ended against its will.
    ///
    /// A result that came in time to be read after an interruption is kept:
    /// the hook has run, and throwing its result away would help nobody.
    pub fn answer(self, outcome: Result<Value, HookError>, now: Instant) -> Answer {
        let cause = self.ending.map(|(cause, _)| cause);
        let outcome = match (cause, outcome) {
            (None, outcome) => outcome,
            (Some(Cause::Interrupted(_)), Ok(value)) => Ok(value),
            (Some(cause), _) => Err(cause.error()),
        };
        Answer {
            request: self.request,
            outcome,
            leased_at: self.leased_at,
            accepted_at: self.accepted_at,
            finished_at: now,
            stdout: self.stdout,
            stderr: self.stderr,
            silent: self.silent,
        }
    }

    /// The worker answered with an `ERROR`.
    pub fn answer_failure(mut self, traceback: Option<String>, now: Instant) -> Answer {
        let failure = self.failure.take().expect("only called once an ERROR was read");
        self.answer(Err(hook_error(failure, traceback)), now)
    }
}

/// What the worker said of a failed hook, as the caller gets it.
fn hook_error(failure: Failure, traceback: Option<String>) -> HookError {
    let kind = ErrorKind::from(failure.kind);
    let exit = match (failure.signal, failure.exit_code) {
        (Some(signal), _) => Some(ExitReason::Signal(signal)),
        (None, Some(code)) => Some(ExitReason::ExitCode(code)),
        (None, None) => None,
    };
    let message = match (&exit, failure.message.is_empty()) {
        (Some(exit), true) => format!("the hook process {exit}"),
        _ => failure.message,
    };
    HookError {
        kind,
        message,
        exception: failure.exception,
        unsupported_operation: failure.unsupported_operation,
        traceback,
        exit,
        hint: None,
        setting: None,
    }
}
