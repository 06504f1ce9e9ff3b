//! The kinds of error that callers see, for what went wrong where.

use hookpool_supervisor::{ErrorKind, Hook, HookError};

use crate::archive::ArchiveError;
use crate::output::OutputError;
use crate::source::SourceError;

impl From<SourceError> for HookError {
    fn from(error: SourceError) -> Self {
        Self::new(ErrorKind::InvalidSource, error.to_string())
    }
}

impl From<ArchiveError> for HookError {
    fn from(error: ArchiveError) -> Self {
        Self::new(ErrorKind::InvalidSource, error.to_string())
    }
}

impl From<OutputError> for HookError {
    fn from(error: OutputError) -> Self {
        Self::new(ErrorKind::InvalidRequest, error.to_string())
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
