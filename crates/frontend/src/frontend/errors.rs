//! The errors of a build, as callers see them: their kinds, and what may help.

use std::path::Path;
use std::str::FromStr;

use hookpool_supervisor::{ErrorKind, Hook, HookError, Setting, SourceInstead};

use super::claim::InconsistentMetadata;
use super::report::Origin;
use crate::archive::{ArchiveError, ArchiveProblem};
use crate::extensions::WhenRequired;
use crate::metadata::{CoreMetadata, WheelError, WheelProblem};
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
                .with_hint("choose another output folder, or remove that wheel"),
        }
    }
}

/// A hint for a source that does not exist: it may be an address or a
/// requirement, which other tools take.
fn not_a_path(named: &Path) -> Option<String> {
    let text = named.to_str()?;
    if text.contains("://") {
        return Some("sources are not downloaded: download it first, and name the file or folder".to_owned());
    }
    // A name alone may also be a folder that does not exist.
    let requirement = pep508_rs::Requirement::<pep508_rs::VerbatimUrl>::from_str(text).ok()?;
    let is_more = requirement.version_or_url.is_some() || !requirement.extras.is_empty();
    is_more.then(|| {
        format!(
            "sources are not downloaded: download it first, with `pip download --no-deps --no-binary :all: '{text}'`"
        )
    })
}

/// Whether it is the hook that failed, or its backend.
pub(crate) fn is_raised_by_hook(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::HookRuntimeError | ErrorKind::HookCrashed | ErrorKind::BackendImportError)
}

/// The source is invalid.
pub(super) fn invalid_source(error: impl ToString) -> HookError {
    HookError::new(ErrorKind::InvalidSource, error.to_string())
}

/// A hook succeeded, but what it made in this temporary folder is not what PEP 517
/// asks for.
pub(super) fn wrong_result(hook: Hook, folder: &Path, error: impl std::fmt::Display) -> HookError {
    // Nobody knows the folder, and it is gone when the message is read.
    let reason = error.to_string().replace(&format!("{}/", folder.display()), "");
    HookError::new(ErrorKind::HookRuntimeError, format!("what {hook} made cannot be used: {reason}"))
}

/// The product has another name or version than the source claims.
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

/// Metadata require extensions that are not supported.
pub(super) fn required_extension(
    source: &Path,
    metadata: &CoreMetadata,
    missing: &[String],
    origin: Origin,
    when_required: WhenRequired,
) -> HookError {
    let (plural, are) = if missing.len() == 1 { ("", "is") } else { ("s", "are") };
    let message = format!(
        "{}: {} {} requires the extension{plural} {}, which {are} not supported",
        source.display(),
        metadata.name,
        metadata.version,
        missing.join(", ")
    );
    let source = match (origin, when_required) {
        (Origin::Wheel, WhenRequired::Fail) => SourceInstead::NotWanted,
        (Origin::Wheel, WhenRequired::UseSource) => SourceInstead::NotNamed,
        _ => SourceInstead::Impossible,
    };
    let (extension, distribution) = (missing[0].clone(), metadata.name.clone());
    HookError::new(ErrorKind::RequiredExtension, message)
        .with_hint(format!("declare {extension} as supported, if the installer of {distribution} understands it"))
        .with_setting(Setting::RequiredExtension { extension, distribution, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_requirements_get_a_hint() {
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
