//! Removing from the cache folder what was not used for a long time.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::files::{FolderError, LockFile, kept, private_folder};
use hookpool_supervisor::{Removed, prune_learned_modules, prune_worker_programs};
use walkdir::WalkDir;

use super::store::{Store, StoredAnswer, names_in};
use crate::durations::Durations;
use crate::files::read_json;
use crate::frontend::LogFolder;

/// What was removed from a cache folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Environments, including incomplete ones.
    pub environments: Removed,
    /// Answers whose environment is gone.
    pub answers: Removed,
    /// Lists of modules to preload.
    pub learned: Removed,
    /// Unpacked worker programs.
    pub programs: Removed,
    /// Logs of failed hooks.
    pub logs: Removed,
    /// The number of environments that stay because they are in use.
    pub in_use: usize,
    /// The number of other environments that stay.
    pub kept: usize,
}

impl Pruned {
    /// The disk space that was freed, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        [self.environments, self.answers, self.learned, self.programs, self.logs]
            .iter()
            .map(|removed| removed.bytes)
            .sum()
    }
}

/// Removes from a cache folder what was not used for `unused_for`, what is incomplete, and what
/// refers to something that is gone; nothing that a process uses. Blocks.
///
/// # Errors
/// The folder is not safe to use, or an operation failed after some things were removed.
pub fn prune(cache_folder: &Path, unused_for: Duration) -> Result<Pruned, FolderError> {
    if !cache_folder.exists() {
        return Ok(Pruned::default());
    }
    private_folder(cache_folder)?;
    let unused_since = SystemTime::now().checked_sub(unused_for).unwrap_or(UNIX_EPOCH);
    let failed = |source| FolderError::System { path: cache_folder.to_owned(), source };
    let pruning = Pruning { store: Store::new(cache_folder, Arc::new(|_| {})), unused_since };
    let mut pruned = Pruned::default();
    pruning.environments(&mut pruned).map_err(failed)?;
    pruned.answers = pruning.answers().map_err(failed)?;
    pruned.learned = prune_learned_modules(cache_folder, unused_since).map_err(failed)?;
    pruned.programs = prune_worker_programs(cache_folder, unused_since).map_err(failed)?;
    pruned.logs = logs(&LogFolder::path_in(cache_folder), unused_since).map_err(failed)?;
    Durations::prune(cache_folder, unused_since).map_err(failed)?;
    Ok(pruned)
}

/// Logs are old by the time they were written: reading one does not count.
fn logs(folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for entry in WalkDir::new(folder).max_depth(1).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let modified = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
        if modified.is_some_and(|modified| modified < unused_since) {
            removed += Removed { count: 1, bytes: size(entry.path()) };
            kept::remove(entry.path())?;
        }
    }
    Ok(removed)
}

struct Pruning {
    store: Store,
    unused_since: SystemTime,
}

impl Pruning {
    fn environments(&self, pruned: &mut Pruned) -> io::Result<()> {
        for name in self.store.names() {
            if !self.store.is_leftover(&name) && self.used_last(&name) >= self.unused_since {
                pruned.kept += 1;
                continue;
            }
            match LockFile::try_exclusive(&self.store.environment_lock(&name))? {
                // A process may have used it and released it since.
                Some(_lock) if self.is_to_go(&name) => {
                    let bytes = size(&self.store.environment(&name));
                    self.store.remove(&name)?;
                    pruned.environments += Removed { count: 1, bytes };
                }
                Some(_) => pruned.kept += 1,
                None => pruned.in_use += 1,
            }
        }
        Ok(())
    }

    fn is_to_go(&self, name: &str) -> bool {
        self.store.is_leftover(name) || self.used_last(name) < self.unused_since
    }

    /// The time of the lock file. Without one the environment cannot be used.
    fn used_last(&self, name: &str) -> SystemTime {
        let lock = self.store.environment_lock(name).metadata();
        lock.and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH)
    }

    /// Removes contents and answers whose environment is gone, and locks that nobody holds.
    fn answers(&self) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let is_there = |name: &str| self.store.manifest(name).is_file();
        {
            // Until it is released, no environment is added to the store.
            let lock = self.store.contents_lock();
            let _lock = if lock.is_file() { Some(LockFile::exclusive(&lock)?) } else { None };
            for content in names_in(&self.store.contents()) {
                let path = self.store.content(&content);
                if !self.store.name_of_content(&content).is_some_and(|name| is_there(&name)) {
                    kept::remove(&path)?;
                }
            }
        }
        for key in names_in(&self.store.answers()) {
            // Held while the key is answered.
            let lock = self.store.answer_lock(&key);
            let Some(_lock) = LockFile::try_exclusive(&lock)? else { continue };
            let path = self.store.answer(&key);
            let answer = read_json::<StoredAnswer>(&path);
            let leads_somewhere =
                answer.is_some_and(|answer| is_there(&answer.name) || self.store.content(&answer.content_id).is_file());
            if !leads_somewhere {
                removed += Removed { count: usize::from(path.is_file()), bytes: size(&path) };
                kept::remove(&path)?;
            }
            kept::remove(&lock)?;
        }
        Ok(removed)
    }
}

/// The disk space of a file, or of a folder with its content, in bytes.
fn size(path: &Path) -> u64 {
    let sizes = WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    sizes.map(|metadata| metadata.blocks() * 512).sum()
}
