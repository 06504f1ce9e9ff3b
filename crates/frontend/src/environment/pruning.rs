//! Removing environments that were not used for a long time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hookpool_supervisor::Removed;
use hookpool_supervisor::files::{LockFile, kept};

use super::store::{Store, StoredResolution, names_in};
use crate::files::{disk_space, read_json};

/// What was removed.
#[derive(Default)]
pub(crate) struct PrunedEnvironments {
    pub environments: Removed,
    /// Distributions that no environment has.
    pub distributions: Removed,
    pub resolutions: Removed,
    /// The number of environments that stay because they are in use.
    pub in_use: usize,
    /// The number of other environments that stay.
    pub kept: usize,
}

/// Removes the environments that were not used since, and resolutions without an environment. Blocks.
pub(crate) fn prune_environments(cache_folder: &Path, unused_since: SystemTime) -> io::Result<PrunedEnvironments> {
    let pruning = Pruning { store: Store::new(cache_folder, Arc::new(|_| {})), unused_since };
    let mut pruned = PrunedEnvironments::default();
    pruning.environments(&mut pruned)?;
    pruned.distributions = pruning.store.remove_distributions(unused_since)?;
    pruning.store.distributions.remove_dead_pins()?;
    pruned.resolutions = pruning.resolutions()?;
    pruning.models()?;
    Ok(pruned)
}

struct Pruning {
    store: Store,
    unused_since: SystemTime,
}

impl Pruning {
    fn environments(&self, pruned: &mut PrunedEnvironments) -> io::Result<()> {
        for name in self.store.names() {
            if !self.store.is_leftover(&name) && self.used_last(&name) >= self.unused_since {
                pruned.kept += 1;
                continue;
            }
            match LockFile::try_exclusive(&self.store.environment_lock(&name))? {
                // A process may have used it and released it since.
                Some(_lock) if self.is_to_go(&name) => {
                    let bytes = disk_space(&self.store.environment(&name));
                    self.store.remove(&name)?;
                    pruned.environments += Removed { count: 1, bytes };
                }
                Some(_) => pruned.kept += 1,
                None => pruned.in_use += 1,
            }
        }
        Ok(())
    }

    /// Models are made again in no time, so it does not matter when they were used.
    fn models(&self) -> io::Result<()> {
        for name in names_in(&self.store.models()) {
            let path = self.store.model(&name);
            if path.symlink_metadata()?.modified()? < self.unused_since {
                kept::remove(&path)?;
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

    /// Removes contents and resolutions whose environment is gone, and locks that nobody holds.
    fn resolutions(&self) -> io::Result<Removed> {
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
        for key in names_in(&self.store.resolutions()) {
            // Held while the key is resolved.
            let lock = self.store.resolution_lock(&key);
            let Some(_lock) = LockFile::try_exclusive(&lock)? else { continue };
            let path = self.store.resolution(&key);
            let resolution = read_json::<StoredResolution>(&path);
            let leads_somewhere = resolution.is_some_and(|resolution| {
                is_there(&resolution.name) || self.store.content(&resolution.content_id).is_file()
            });
            if !leads_somewhere {
                removed += Removed { count: usize::from(path.is_file()), bytes: disk_space(&path) };
                kept::remove(&path)?;
            }
            kept::remove(&lock)?;
        }
        Ok(removed)
    }
}
