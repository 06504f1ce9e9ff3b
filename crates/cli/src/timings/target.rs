//! The file of the report.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::refuse_foreign_links;
use tempfile::NamedTempFile;

use crate::folders::innermost;

/// A file that could be written when it was checked.
#[derive(Debug)]
pub struct Target {
    /// Absolute, with symbolic links resolved.
    path: PathBuf,
    folder: PathBuf,
}

/// Why the report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is a device, a pipe or a folder: writing the report would replace it or fail.
    #[error("--timings {}: exists and is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The system refuses to write it.
    #[error("--timings {}: cannot be written: {reason}", path.display())]
    System { path: PathBuf, reason: String },
}

impl Target {
    /// Checks that the file can be written, by creating a temporary file beside it.
    pub fn check(path: &Path) -> Result<Self, TargetError> {
        let failed = |error: io::Error| system(path, error);
        refuse_foreign_links(path)
            .map_err(|error| TargetError::System { path: path.to_owned(), reason: error.to_string() })?;
        // A file that does not exist yet cannot be resolved.
        let resolved = path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(failed)?;
        if resolved.metadata().is_ok_and(|metadata| !metadata.is_file()) || resolved.file_name().is_none() {
            return Err(TargetError::NotAFile { path: path.to_owned() });
        }
        let folder = resolved.parent().unwrap_or(Path::new("/")).to_owned();
        let target = Self { path: resolved, folder };
        target.draft().map_err(failed)?;
        Ok(target)
    }

    /// Replaces the file atomically.
    pub fn write(&self, content: &str) -> Result<(), TargetError> {
        let write = || {
            let mut draft = self.draft()?;
            draft.write_all(content.as_bytes())?;
            draft.persist(&self.path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|error| system(&self.path, error))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn draft(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        // The umask applies.
        builder.prefix(".hookpool-timings-").permissions(Permissions::from_mode(0o666)).tempfile_in(&self.folder)
    }
}

fn system(path: &Path, error: io::Error) -> TargetError {
    // The error names the temporary file, which means nothing to the user.
    let reason = error.get_ref().map_or_else(|| error.to_string(), innermost);
    TargetError::System { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let target = Target::check(&path).unwrap();
        assert!(!path.exists());
        for content in ["first", "second"] {
            target.write(content).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn writes_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        Target::check(&link).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/null"), Path::new("/")] {
            assert!(matches!(Target::check(path), Err(TargetError::NotAFile { .. })), "{}", path.display());
        }
        let missing = folder.path().join("missing/report.html");
        let message = Target::check(&missing).unwrap_err().to_string();
        let expected = format!("--timings {}: cannot be written: No such file or directory", missing.display());
        assert!(message.starts_with(&expected), "{message}");
        assert!(Target::check(Path::new("")).is_err());
    }
}
