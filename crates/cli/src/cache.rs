//! Where what is kept from run to run lies.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use hookpool_frontend::LogFolder;
use hookpool_supervisor::{FolderError, private_folder, temporary_folder};
use tempfile::TempDir;

use crate::exit::Failure;

/// A folder, and if it is a temporary one its end.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Removes the folder when it is dropped.
    temporary: Option<TempDir>,
}

impl Drop for Folder {
    /// Logs of failed hooks stay, as errors name them.
    fn drop(&mut self) {
        let logs = LogFolder::path_in(&self.path);
        if logs.is_dir()
            && let Some(folder) = self.temporary.take()
        {
            let entries = folder.keep().read_dir();
            for entry in entries.into_iter().flatten().flatten().filter(|entry| entry.path() != logs) {
                // What is not removed is the system's to remove.
                let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
            }
        }
    }
}

impl Folder {
    /// The folder's absolute path: workers have another working directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new private folder in `parent`, until it is dropped.
    pub fn temporary(parent: &Path) -> Result<Self, Failure> {
        let made = std::path::absolute(parent).and_then(|parent| {
            let mut builder = tempfile::Builder::new();
            builder.prefix("hookpool-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)
        });
        let folder = made.map_err(|error| {
            // It names a folder that does not exist; the parent is what can be mended.
            let reason = error.get_ref().map_or_else(|| error.to_string(), innermost);
            Failure::pool(format!("cannot make a temporary folder in {}: {reason}", parent.display()))
        })?;
        Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) })
    }
}

/// What the system said, without what was put around it.
pub fn innermost(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The cache folder for one run. One that cannot be trusted or used is not:
/// a temporary folder takes its place, and that is said.
pub fn for_this_run(chosen: Option<PathBuf>) -> Result<Folder, Failure> {
    match usable(chosen) {
        Ok(path) => Ok(Folder { path, temporary: None }),
        Err(reason) => {
            let folder = Folder::temporary(&temporary_folder())?;
            tracing::warn!(
                folder = %folder.path().display(),
                "the cache folder is not used, a private temporary folder takes its place: {reason}"
            );
            Ok(folder)
        }
    }
}

/// A cache folder that outlives this process: another program runs from it.
pub fn lasting(chosen: Option<PathBuf>) -> Result<PathBuf, Failure> {
    usable(chosen).or_else(|reason| {
        // Always the same one, so that they do not pile up. Its name can be
        // taken by somebody else; then it is refused too.
        let path = temporary_folder().join(format!("hookpool-{}", nix::unistd::geteuid()));
        tracing::warn!(folder = %path.display(), "the cache folder is not used, another takes its place: {reason}");
        writable(&path).map_err(Failure::pool)?;
        Ok(path)
    })
}

/// The path of the cache folder, which may not be there, or not be usable.
pub fn path(chosen: Option<PathBuf>) -> Result<PathBuf, String> {
    let path = match chosen {
        Some(path) => path,
        None => default().ok_or("this user has no home folder")?,
    };
    std::path::absolute(path).map_err(|error| error.to_string())
}

fn usable(chosen: Option<PathBuf>) -> Result<PathBuf, String> {
    let path = path(chosen)?;
    writable(&path).map_err(|error| error.to_string())?;
    Ok(path)
}

fn default() -> Option<PathBuf> {
    let strategy = etcetera::base_strategy::choose_native_strategy().ok()?;
    Some(strategy.cache_dir().join("hookpool"))
}

fn writable(path: &Path) -> Result<(), FolderError> {
    private_folder(path)?;
    // Permissions do not tell: the file system may be read-only or full.
    let trial = tempfile::tempfile_in(path);
    trial.map(drop).map_err(|source| FolderError::System { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_folder_is_used_and_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/cache");
        let folder = for_this_run(Some(path.clone())).unwrap();
        assert_eq!(folder.path(), path);
        drop(folder);
        assert!(path.is_dir());
    }

    #[test]
    fn a_folder_that_others_can_write_is_replaced_by_a_temporary_one() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), Permissions::from_mode(0o777)).unwrap();
        let folder = for_this_run(Some(parent.path().to_owned())).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && path != parent.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
