//! Folders of one run: private, removed at its end, and by the next run where it
//! was killed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{private_folder, temporary_folder, unblock};
use tempfile::TempDir;

/// A folder of this run, 0700, until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Tells other runs that the folder is in use; ends with this process.
    _in_use: File,
    /// Our own parent folder, which goes with the last run in it.
    parent: Option<PathBuf>,
}

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a temporary folder in {parent}: {source}")]
pub struct RunFolderError {
    /// Where it was to be.
    pub parent: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A folder within one that has the name of a content.
const INNER: &str = "inner";

/// How the folders of runs are named in a parent folder of our own.
const PREFIX: &str = "run-";

impl RunFolder {
    /// A folder among the temporary files, in one of this user for all runs.
    /// `purpose` is a part of that one's name.
    ///
    /// # Errors
    /// The system's, with the name of the parent folder.
    pub fn temporary(purpose: &str) -> Result<Self, RunFolderError> {
        Self::temporary_named(purpose, None)
    }

    /// The same, under a name that tells what it is for, so that it is the same
    /// in the next run; where another run has it just now, under any name.
    fn temporary_named(purpose: &str, name: Option<&str>) -> Result<Self, RunFolderError> {
        let temporary = absolute(&temporary_folder())?;
        let own = temporary.join(format!("hookpool-{}-{purpose}", nix::unistd::geteuid()));
        // Another run may end now and remove the parent folder under us.
        for _ in 0..3 {
            // A folder for temporary files that is not there is not made.
            if !temporary.is_dir() || private_folder(&own).is_err() {
                break;
            }
            let named = name.and_then(|name| make(&own, PREFIX, Some(name)).ok());
            if let Some(mut folder) = named.or_else(|| make(&own, PREFIX, None).ok()) {
                folder.parent = Some(own);
                return Ok(folder);
            }
        }
        // Somebody else took the name: a folder of no fixed name cannot be
        // found by the next run, but it is private too.
        make(&temporary, PREFIX, None).map_err(|source| RunFolderError { parent: temporary, source })
    }

    /// A folder in `parent`, whose name starts with `prefix`. Folders of that
    /// prefix there are taken for ours, and removed if their run is dead.
    ///
    /// # Errors
    /// The system's, with the name of the parent folder.
    pub fn within(parent: &Path, prefix: &str) -> Result<Self, RunFolderError> {
        let parent = absolute(parent)?;
        make(&parent, prefix, None).map_err(|source| RunFolderError { parent, source })
    }

    /// The folder's absolute path: workers have another working directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An empty folder for one piece of work. Removed, off the event loop, when it is
/// dropped: there may be thousands of files in it.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    folder: Option<Removed>,
    path: PathBuf,
}

/// What removes a folder when it is dropped.
#[derive(Debug)]
enum Removed {
    WithinRun(#[expect(dead_code, reason = "it is dropped")] TempDir),
    OfItsOwn(#[expect(dead_code, reason = "it is dropped")] RunFolder),
}

impl WorkFolder {
    /// Makes one in this folder. Blocks.
    pub fn within(run: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(run)?;
        Ok(Self { path: folder.path().to_owned(), folder: Some(Removed::WithinRun(folder)) })
    }

    /// Makes one for what has this digest. It has the same path in each run, but
    /// where two have the same at once. Blocks.
    pub fn of_content(purpose: &str, digest: &str) -> Result<Self, RunFolderError> {
        let folder = RunFolder::temporary_named(purpose, Some(digest))?;
        let path = folder.path().join(INNER);
        let made = std::fs::create_dir(&path);
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(RunFolderError { parent: path, source })
            }
            _ => Ok(Self { path, folder: Some(Removed::OfItsOwn(folder)) }),
        }
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and waits for that.
    pub async fn remove(mut self) {
        let folder = self.folder.take();
        unblock(move || drop(folder)).await;
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        // What is not removed goes with the folder of the run.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => std::mem::drop(runtime.spawn_blocking(move || std::mem::drop(folder))),
            Err(_) => std::mem::drop(folder),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RunFolderError> {
    std::path::absolute(path).map_err(|source| RunFolderError { parent: path.to_owned(), source })
}

fn make(parent: &Path, prefix: &str, name: Option<&str>) -> io::Result<RunFolder> {
    const DRAFT: &str = ".new-";
    remove_abandoned(parent, prefix);
    // A folder that is made and not yet locked would look like one whose run
    // has died: it gets its name once it is locked.
    let draft = tempfile::Builder::new().prefix(DRAFT).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
    let in_use = File::open(draft.path())?;
    in_use.try_lock()?;
    if name.is_some() {
        // An empty folder of another run would be replaced: rename(2).
        std::fs::create_dir(draft.path().join(INNER))?;
    }
    let random = draft.path().file_name().unwrap_or_default().to_string_lossy().replacen(DRAFT, prefix, 1);
    let path = parent.join(name.map_or(random, |name| format!("{prefix}{name}")));
    std::fs::rename(draft.path(), &path)?;
    // Its old name is gone; from here on `Drop` removes it.
    let _ = draft.keep();
    Ok(RunFolder { path, _in_use: in_use, parent: None })
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run; a hook may have
        // put a file in its place.
        let _ = std::fs::remove_dir_all(&self.path).or_else(|_| std::fs::remove_file(&self.path));
        if let Some(parent) = &self.parent {
            // Not while other runs have folders in it.
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// Removes the folders of runs that were killed. Only in a folder that nobody
/// else can write to is everything of that name ours.
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
    fn the_folder_is_removed_and_its_parent_kept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::within(parent.path(), "run-").unwrap();
        assert_eq!(folder.path().parent(), Some(parent.path()));
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_is_in_use_is_not() {
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
