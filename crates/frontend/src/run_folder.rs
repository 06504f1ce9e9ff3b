//! Private folders of one run. They are removed at its end, or by the next run if it is killed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{private_folder, temporary_folder};
use tempfile::TempDir;

/// A folder of this run, with mode 0700. It is removed when this is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked: tells other runs that the folder is in use. Ends with this process.
    _in_use: File,
    /// The parent folder, if it is ours: removed with the last run in it.
    parent: Option<PathBuf>,
}

/// Why a folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a temporary folder in {parent}: {source}")]
pub struct RunFolderError {
    /// Its parent folder.
    pub parent: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

/// The prefix of run folders in a parent folder of our own.
const PREFIX: &str = "run-";

impl RunFolder {
    /// Makes a folder among the temporary files, in a folder that all runs of this user share.
    /// `purpose` is part of the name of that.
    ///
    /// # Errors
    /// [`RunFolderError`], which names the parent folder.
    pub fn temporary(purpose: &str) -> Result<Self, RunFolderError> {
        let temporary = absolute(&temporary_folder())?;
        let own = temporary.join(format!("hookpool-{}-{purpose}", nix::unistd::geteuid()));
        // Another run may end and remove the parent folder at the same time.
        for _ in 0..3 {
            // A folder for temporary files that does not exist is not made.
            if !temporary.is_dir() || private_folder(&own).is_err() {
                break;
            }
            if let Ok(mut folder) = make(&own, PREFIX) {
                folder.parent = Some(own);
                return Ok(folder);
            }
        }
        // Another user has taken the name of the parent folder. Without that, the next run
        // cannot find the folder, but it is private too.
        make(&temporary, PREFIX).map_err(|source| RunFolderError { parent: temporary, source })
    }

    /// Makes a folder in `parent`, whose name starts with `prefix`. Other folders there with
    /// this prefix count as run folders, and are removed if their run has died.
    ///
    /// # Errors
    /// [`RunFolderError`], which names the parent folder.
    pub fn within(parent: &Path, prefix: &str) -> Result<Self, RunFolderError> {
        let parent = absolute(parent)?;
        make(&parent, prefix).map_err(|source| RunFolderError { parent, source })
    }

    /// The folder's absolute path: workers have another working directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An empty folder for a single task. It is removed when this is dropped, off the event loop:
/// there may be thousands of files in it.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    folder: Option<TempDir>,
    path: PathBuf,
}

impl WorkFolder {
    /// Makes a folder in the folder `run`. Blocks.
    pub fn within(run: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(run)?;
        Ok(Self { path: folder.path().to_owned(), folder: Some(folder) })
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        // If this fails, the folder is removed with the folder of the run.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => std::mem::drop(runtime.spawn_blocking(move || std::mem::drop(folder))),
            Err(_) => std::mem::drop(folder),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RunFolderError> {
    std::path::absolute(path).map_err(|source| RunFolderError { parent: path.to_owned(), source })
}

fn make(parent: &Path, prefix: &str) -> io::Result<RunFolder> {
    const DRAFT: &str = ".new-";
    remove_abandoned(parent, prefix);
    // A run folder that is not locked counts as one whose run has died. So the folder gets its
    // name after it is locked.
    let draft = tempfile::Builder::new().prefix(DRAFT).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
    let in_use = File::open(draft.path())?;
    in_use.try_lock()?;
    let random = draft.path().file_name().unwrap_or_default().to_string_lossy().replacen(DRAFT, prefix, 1);
    let path = parent.join(random);
    std::fs::rename(draft.path(), &path)?;
    // `RunFolder` removes it from here on, by its new name.
    let _ = draft.keep();
    Ok(RunFolder { path, _in_use: in_use, parent: None })
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // A hook may have put a file in its place. If removing fails, the next run does it.
        let _ = std::fs::remove_dir_all(&self.path).or_else(|_| std::fs::remove_file(&self.path));
        if let Some(parent) = &self.parent {
            // This fails while other runs have folders in it.
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// Removes the folders of runs that were killed; only in a private folder, where all folders
/// with this prefix are ours.
fn remove_abandoned(parent: &Path, prefix: &str) {
    if !parent.is_dir() || private_folder(parent).is_err() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_run = entry.file_name().to_string_lossy().starts_with(prefix);
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_run
            && is_folder
            && let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_removed_and_its_parent_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::within(parent.path(), "run-").unwrap();
        assert_eq!(folder.path().parent(), Some(parent.path()));
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_killed_runs_are_removed_and_those_in_use_stay() {
        let parent = tempfile::tempdir().unwrap();
        let living = RunFolder::within(parent.path(), ".hookpool-").unwrap();
        let abandoned = parent.path().join(".hookpool-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("half.whl"), "lost").unwrap();
        std::fs::create_dir(parent.path().join("notes")).unwrap();
        let second = RunFolder::within(parent.path(), ".hookpool-").unwrap();
        assert!(!abandoned.exists());
        assert!(living.path().is_dir() && second.path().is_dir() && parent.path().join("notes").is_dir());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = RunFolder::within(file.path(), "run-").unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
}
