//! The folders that a command works in: the cache folder, temporary folders, and
//! the folder with the output of running hooks.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use hookpool_frontend::{LogFolder, RunFolder};
use hookpool_supervisor::files::{FolderError, private_folder, temporary_folder};
use tempfile::TempDir;

use crate::exit::Failure;

/// A folder; a temporary one is removed on drop.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Drop for Folder {
    /// Keeps the logs of failed hooks: error messages name them.
    fn drop(&mut self) {
        let logs = LogFolder::path_in(&self.path);
        if logs.is_dir()
            && let Some(folder) = self.temporary.take()
        {
            let entries = folder.keep().read_dir();
            for entry in entries.into_iter().flatten().flatten().filter(|entry| entry.path() != logs) {
                // The system clears its temporary folder of what this leaves.
                let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
            }
        }
    }
}

impl Folder {
    /// The folder's absolute path: workers have a different working directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a private temporary folder in `parent`.
    pub fn temporary(parent: &Path) -> Result<Self, Failure> {
        let made = std::path::absolute(parent).and_then(|parent| {
            let mut builder = tempfile::Builder::new();
            builder.prefix("hookpool-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)
        });
        let folder = made.map_err(|error| {
            // The error names the new folder, which does not exist; the user can only
            // change its parent.
            let reason = error.get_ref().map_or_else(|| error.to_string(), innermost);
            Failure::pool(format!("cannot make a temporary folder in {}: {reason}", parent.display()))
        })?;
        Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) })
    }
}

/// The innermost cause of an error: the message of the system alone.
pub fn innermost(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The cache folder for one run. If it cannot be trusted or used, a private
/// temporary folder takes its place, with a warning.
pub fn cache_for_this_run(chosen: Option<PathBuf>) -> Result<Folder, Failure> {
    match usable_cache(chosen) {
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

/// A cache folder that outlives this process, for a program that runs from it.
pub fn lasting_cache(chosen: Option<PathBuf>) -> Result<PathBuf, Failure> {
    usable_cache(chosen).or_else(|reason| {
        // The name is fixed so that such folders do not accumulate. Another user can
        // take the name first; then the folder is refused.
        let path = temporary_folder().join(format!("hookpool-{}", nix::unistd::geteuid()));
        tracing::warn!(folder = %path.display(), "the cache folder is not used, another takes its place: {reason}");
        check_writable(&path).map_err(Failure::pool)?;
        Ok(path)
    })
}

/// The absolute path of the cache folder, which need not exist or be usable.
pub fn cache_path(chosen: Option<PathBuf>) -> Result<PathBuf, String> {
    let path = match chosen {
        Some(path) => path,
        None => default_cache().ok_or("this user has no home folder")?,
    };
    std::path::absolute(path).map_err(|error| error.to_string())
}

/// Creates this run's folder for the output of hooks, in `parent` or else in the
/// user's folder among the temporary files.
pub fn capture(parent: Option<&Path>) -> Result<RunFolder, Failure> {
    let Some(parent) = parent else { return RunFolder::temporary("output").map_err(Failure::pool) };
    let refused = |reason: &dyn std::fmt::Display| Failure::pool(format!("--capture-dir: {reason}"));
    let parent = std::path::absolute(parent).map_err(|error| refused(&error))?;
    private_folder(&parent).map_err(|error| refused(&error))?;
    RunFolder::within(&parent, "run-").map_err(|error| refused(&error))
}

fn usable_cache(chosen: Option<PathBuf>) -> Result<PathBuf, String> {
    let path = cache_path(chosen)?;
    check_writable(&path).map_err(|error| error.to_string())?;
    Ok(path)
}

fn default_cache() -> Option<PathBuf> {
    let strategy = etcetera::base_strategy::choose_native_strategy().ok()?;
    Some(strategy.cache_dir().join("hookpool"))
}

fn check_writable(path: &Path) -> Result<(), FolderError> {
    private_folder(path)?;
    // Permissions are not enough: the file system may be read-only or full.
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
        let folder = cache_for_this_run(Some(path.clone())).unwrap();
        assert_eq!(folder.path(), path);
        drop(folder);
        assert!(path.is_dir());
    }

    #[test]
    fn a_folder_that_others_can_write_is_replaced_by_a_temporary_one() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), Permissions::from_mode(0o777)).unwrap();
        let folder = cache_for_this_run(Some(parent.path().to_owned())).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && path != parent.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
