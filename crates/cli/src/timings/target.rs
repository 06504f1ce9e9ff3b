//! The file that the report goes to.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::refuse_foreign_links;
use tempfile::NamedTempFile;

use crate::cache::innermost;

/// A file that can be written, as far as could be seen before there was
/// anything to write.
#[derive(Debug)]
pub struct Target {
    /// Absolute, and where the content shall lie: symbolic links are resolved.
    path: PathBuf,
    folder: PathBuf,
}

/// Why the report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is a device, a pipe or a folder, which a rename would replace, or
    /// fail at.
    #[error("--timings {}: is there and is no regular file", path.display())]
    NoFile { path: PathBuf },
    /// The system says no.
    #[error("--timings {}: cannot be written: {reason}", path.display())]
    System { path: PathBuf, reason: String },
}

impl Target {
    /// Looks whether a file could be written there, by making another beside
    /// it.
    pub fn check(path: &Path) -> Result<Self, TargetError> {
        let failed = |error: io::Error| system(path, error);
        refuse_foreign_links(path)
            .map_err(|error| TargetError::System { path: path.to_owned(), reason: error.to_string() })?;
        // One that is not there yet cannot be resolved, and need not be.
        let resolved = path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(failed)?;
        if resolved.metadata().is_ok_and(|metadata| !metadata.is_file()) || resolved.file_name().is_none() {
            return Err(TargetError::NoFile { path: path.to_owned() });
        }
        let folder = resolved.parent().unwrap_or(Path::new("/")).to_owned();
        let target = Self { path: resolved, folder };
        target.draft().map_err(failed)?;
        Ok(target)
    }

    /// Writes the file, so that it is there as a whole or not at all.
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
        // The umask takes from that, as from every file that a user makes.
        builder.prefix(".hookpool-timings-").permissions(Permissions::from_mode(0o666)).tempfile_in(&self.folder)
    }
}

fn system(path: &Path, error: io::Error) -> TargetError {
    // It names the draft, which nobody knows.
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
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/null"), Path::new("/")] {
            assert!(matches!(Target::check(path), Err(TargetError::NoFile { .. })), "{}", path.display());
        }
        let missing = folder.path().join("missing/report.html");
        let message = Target::check(&missing).unwrap_err().to_string();
        let expected = format!("--timings {}: cannot be written: No such file or directory", missing.display());
        assert!(message.starts_with(&expected), "{message}");
        assert!(Target::check(Path::new("")).is_err());
    }
}
