//! Where hooks' output lies while they run: a folder of each run's own, removed
//! at its end, and by the next run where it was killed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::private_folder;
use nix::fcntl::{Flock, FlockArg};

use crate::exit::Failure;

/// The folder of this run.
#[derive(Debug)]
pub struct CaptureFolder {
    path: PathBuf,
    /// Tells other runs that the folder is in use; ends with this process.
    _in_use: Flock<File>,
    /// Our own parent folder, which goes with the last run in it.
    parent: Option<PathBuf>,
}

/// How the folders of runs are named in their parent folder, in which all such
/// folders are ours.
const PREFIX: &str = "run-";

impl CaptureFolder {
    /// Makes the folder, in `parent` or else in a folder of this user among the
    /// temporary files.
    pub fn make(parent: Option<&Path>) -> Result<Self, Failure> {
        if let Some(parent) = parent {
            let parent = std::path::absolute(parent).map_err(Failure::pool)?;
            private_folder(&parent).map_err(|error| Failure::pool(format!("--capture-dir: {error}")))?;
            return Self::make_in(&parent).map_err(|error| named(&parent, &error));
        }
        let temporary = std::path::absolute(std::env::temp_dir()).map_err(Failure::pool)?;
        let own = temporary.join(format!("hookpool-{}-output", nix::unistd::geteuid()));
        // Another run may end now and remove the parent folder under us.
        for _ in 0..3 {
            // A folder for temporary files that is not there is not made.
            if !temporary.is_dir() || private_folder(&own).is_err() {
                break;
            }
            if let Ok(mut folder) = Self::make_in(&own) {
                folder.parent = Some(own);
                return Ok(folder);
            }
        }
        // Somebody else took the name: a folder of no fixed name cannot be
        // found by the next run, but it is private too.
        Self::make_in(&temporary).map_err(|error| named(&temporary, &error))
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        // A folder that is made and not yet locked would look like one whose
        // run has died: it gets its name once it is locked.
        let draft =
            tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
        let in_use = lock(File::open(draft.path())?, FlockArg::LockExclusiveNonblock)?;
        let random = draft.path().file_name().unwrap_or_default().to_string_lossy().replacen(".new-", PREFIX, 1);
        let path = parent.join(random);
        std::fs::rename(draft.path(), &path)?;
        // Its old name is gone; from here on `Drop` removes it.
        let _ = draft.keep();
        Ok(Self { path, _in_use: in_use, parent: None })
    }

    /// The folder's absolute path: workers have another working directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaptureFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.path);
        if let Some(parent) = &self.parent {
            // Not while other runs have folders in it.
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// Removes the folders of runs that were killed. Only in a folder that nobody
/// else can write to is everything of that name ours.
fn remove_abandoned(parent: &Path) {
    if !parent.is_dir() || private_folder(parent).is_err() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_run = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_run
            && is_folder
            && let Ok(folder) = File::open(entry.path())
            && lock(folder, FlockArg::LockExclusiveNonblock).is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn lock(file: File, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

fn named(parent: &Path, error: &io::Error) -> Failure {
    Failure::pool(format!("cannot make a temporary folder in {}: {error}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(parent: &Path) -> usize {
        std::fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn the_folder_is_removed_and_its_parent_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("output");
        let folder = CaptureFolder::make(Some(&path)).unwrap();
        assert_eq!(folder.path().parent(), Some(path.as_path()));
        drop(folder);
        assert_eq!(entries(&path), 0);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = CaptureFolder::make(Some(parent.path())).unwrap();
        let abandoned = parent.path().join("run-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("hookd-1.stdout"), "lost").unwrap();
        std::fs::create_dir(parent.path().join("notes")).unwrap();
        let second = CaptureFolder::make(Some(parent.path())).unwrap();
        assert!(!abandoned.exists());
        assert!(living.path().is_dir() && second.path().is_dir() && parent.path().join("notes").is_dir());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = CaptureFolder::make(Some(&file.path().join("x"))).unwrap_err();
        assert!(format!("{failure:?}").contains(file.path().to_str().unwrap()));
    }
}
