//! The request that a worker runs, until it has its answer.

use hookd_protocol::{Failure, Observed};
use serde_json::Value;
use tokio::time::Instant;

use super::ending::Cause;
use crate::error::{ErrorKind, ExitReason, HookError};
use crate::ids::RequestId;
use crate::limits::Timeout;
use crate::process::Termination;
use crate::worker::capture_files::CaptureFiles;
use crate::worker::message::Finished;

/// A request between its lease and its answer.
#[derive(Debug)]
pub(crate) struct Running {
    pub request: RequestId,
    pub timeout: Option<Timeout>,
    pub accepted_at: Option<Instant>,
    pub deadline: Option<Instant>,
    /// The files that the hook writes to, once the worker has named them.
    pub files: CaptureFiles,
    /// The hook is being ended, and why.
    pub ending: Option<(Cause, Termination)>,
    pub observed: Option<Observed>,
    /// An `ERROR` was read; a `TRACEBACK` may follow.
    pub failure: Option<Failure>,
    leased_at: Instant,
}

impl Running {
    pub fn new(request: RequestId, timeout: Option<Timeout>, now: Instant) -> Self {
        Self {
            request,
            timeout,
            leased_at: now,
            accepted_at: None,
            deadline: None,
            files: CaptureFiles::default(),
            ending: None,
            observed: None,
            failure: None,
        }
    }

    /// The worker accepted the request: the deadline runs from here.
    pub fn accept(&mut self, now: Instant) {
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

    /// The answer, which is an error where the hook was being ended.
    ///
    /// A result that is read after an interruption is kept: the hook has run to
    /// its end, and may have changed files.
    pub fn answer(self, outcome: Result<Value, HookError>, now: Instant) -> Finished {
        let outcome = match (self.ending, outcome) {
            (None, outcome) => outcome,
            (Some((Cause::Interrupted(_), _)), Ok(value)) => Ok(value),
            (Some((cause, _)), _) => Err(cause.error()),
        };
        Finished {
            request: self.request,
            outcome,
            start: self.accepted_at.map(|at| at.saturating_duration_since(self.leased_at)),
            hook: self.accepted_at.map(|at| now.saturating_duration_since(at)),
            observed: self.observed,
            kept: false,
            files: self.files,
        }
    }

    /// The answer after an `ERROR`.
    pub fn answer_failure(mut self, traceback: Option<String>, now: Instant) -> Finished {
        let failure = self.failure.take().expect("only called once an ERROR was read");
        self.answer(Err(hook_error(failure, traceback)), now)
    }
}

/// Converts the worker's report of a failed hook to the caller's error.
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
