//! The kinds of error that callers see, for what went wrong where.

use hookpool_supervisor::{ErrorKind, Hook, HookError};

use crate::archive::{ArchiveError, ArchiveProblem};
use crate::metadata::{WheelError, WheelProblem};
use crate::output::OutputError;
use crate::run_folder::RunFolderError;
use crate::source::SourceError;

impl From<SourceError> for HookError {
    fn from(error: SourceError) -> Self {
        let message = error.to_string();
        match error {
            SourceError::Unreadable { source, .. } => Self::at_file(ErrorKind::InvalidSource, &source, message),
            _ => Self::new(ErrorKind::InvalidSource, message),
        }
    }
}

impl From<ArchiveError> for HookError {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error.problem {
            ArchiveProblem::Unreadable(error) | ArchiveProblem::Unwritable(error) => {
                Self::at_file(ErrorKind::InvalidSource, &error, message)
            }
            _ => Self::new(ErrorKind::InvalidSource, message),
        }
    }
}

impl From<WheelError> for HookError {
    fn from(error: WheelError) -> Self {
        let message = error.to_string();
        match error.problem {
            WheelProblem::Unreadable(error) => Self::at_file(ErrorKind::InvalidSource, &error, message),
            _ => Self::new(ErrorKind::InvalidSource, message),
        }
    }
}

impl From<OutputError> for HookError {
    fn from(error: OutputError) -> Self {
        let message = error.to_string();
        match error {
            OutputError::Folder { source, .. }
            | OutputError::Publish { source, .. }
            | OutputError::Drafts(RunFolderError { source, .. }) => {
                Self::at_file(ErrorKind::InvalidRequest, &source, message)
            }
            OutputError::Taken { .. } => Self::new(ErrorKind::InvalidRequest, message),
        }
    }
}

/// The source itself is not what it should be.
pub(super) fn invalid_source(error: impl ToString) -> HookError {
    HookError::new(ErrorKind::InvalidSource, error.to_string())
}

/// A hook returned, and what it made is not what PEP 517 asks for.
pub(super) fn wrong_result(hook: Hook, error: impl std::fmt::Display) -> HookError {
    HookError::new(ErrorKind::HookRuntimeError, format!("what {hook} made cannot be used: {error}"))
}
