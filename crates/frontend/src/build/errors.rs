//! The kinds of error that callers see, for what went wrong where.

use std::path::Path;
use std::str::FromStr;

use hookpool_supervisor::{ErrorKind, Hook, HookError};

use super::claim::InconsistentMetadata;

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
            SourceError::Missing { path } => {
                let error = Self::new(ErrorKind::InvalidSource, message);
                match not_a_path(&path) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
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
                Self::at_file(ErrorKind::OutputConflict, &source, message)
            }
            OutputError::Taken { .. } => Self::new(ErrorKind::OutputConflict, message),
            OutputError::OtherKind { .. } => Self::new(ErrorKind::OutputConflict, message)
                .with_hint("choose another output folder, or remove the wheel that is there"),
        }
    }
}

/// A hint for what was named as a source, is not there, and looks like what
/// other tools take.
fn not_a_path(named: &Path) -> Option<String> {
    let text = named.to_str()?;
    if text.contains("://") {
        return Some("sources are not downloaded: download it first, and name the file or folder".to_owned());
    }
    // A name alone may be a folder that is not there.
    let requirement = pep508_rs::Requirement::<pep508_rs::VerbatimUrl>::from_str(text).ok()?;
    let is_more = requirement.version_or_url.is_some() || !requirement.extras.is_empty();
    is_more.then(|| {
        format!(
            "sources are not downloaded: download it first, with `pip download --no-deps --no-binary :all: '{text}'`"
        )
    })
}

/// The source itself is not what it should be.
pub(super) fn invalid_source(error: impl ToString) -> HookError {
    HookError::new(ErrorKind::InvalidSource, error.to_string())
}

/// A hook returned, and what it made in this temporary folder is not what PEP
/// 517 asks for.
pub(super) fn wrong_result(hook: Hook, folder: &Path, error: impl std::fmt::Display) -> HookError {
    // The folder says nothing to anybody, and is gone when the message is read.
    let reason = error.to_string().replace(&format!("{}/", folder.display()), "");
    HookError::new(ErrorKind::HookRuntimeError, format!("what {hook} made cannot be used: {reason}"))
}

/// A source was built under another name or version than its own.
pub(super) fn inconsistent_metadata(source: &Path, other: &InconsistentMetadata) -> HookError {
    let error = HookError::new(ErrorKind::InconsistentMetadata, format!("{}: {other}", source.display()));
    if !other.is_nameless() {
        return error;
    }
    error.with_hint(
        "the build backend found no name for the project: is it in setup.py, in setup.cfg, or in [project] in \
         pyproject.toml, which needs setuptools 61 or newer?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_take_gets_a_hint() {
        let hint = |named: &str| HookError::from(SourceError::Missing { path: named.into() }).hint.unwrap_or_default();
        for address in ["https://example.org/a-1.tar.gz", "git+https://example.org/a", "file:///a"] {
            assert!(hint(address).contains("download it first"), "{address}");
        }
        for requirement in ["six==1.16.0", "requests[socks]", "a>=1,<2"] {
            assert!(hint(requirement).contains(&format!("'{requirement}'")), "{requirement}");
        }
        for path in ["six", "six-1.16.0.tar.gz", "./a b", "/no/such/tree"] {
            assert_eq!(hint(path), "", "{path}");
        }
    }
}
