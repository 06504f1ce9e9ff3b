//! Removing unused files from the cache folder.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::lock::was_free;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The number of entries.
    pub count: usize,
    /// The disk space that they took.
    pub bytes: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// Removes the unpacked versions of hookd that no supervisor uses, and that none
/// has used since `unused_since`.
///
/// # Errors
/// A file cannot be read or removed. Others may have been removed before.
pub fn prune_worker_programs(cache_folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for (path, metadata) in entries(&cache_folder.join("hookd"))? {
        if !metadata.is_dir() || metadata.modified()? >= unused_since {
            continue;
        }
        let bytes = size(&path)?;
        // Supervisors that run from it hold a shared lock.
        let folder = match File::open(&path) {
            // It was a draft, which has its name now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            folder => folder?,
        };
        if was_free(folder.try_lock())? {
            std::fs::remove_dir_all(&path)?;
            removed += Removed { count: 1, bytes };
        }
    }
    Ok(removed)
}

/// Removes the lists of learned modules that no supervisor has read since
/// `unused_since`, among them those of environments that were removed. A list in
/// use is read at the start only, so removing it does no harm.
///
/// # Errors
/// A file cannot be read or removed. Others may have been removed before.
pub fn prune_learned_modules(cache_folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
    prune_files(&cache_folder.join("learned"), unused_since)
}

/// Removes what interpreters have said of themselves, if no supervisor has used it
/// since `unused_since`.
///
/// # Errors
/// A file cannot be read or removed. Others may have been removed before.
pub fn prune_interpreters(cache_folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
    prune_files(&cache_folder.join("interpreters"), unused_since)
}

fn prune_files(folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for (path, metadata) in entries(folder)? {
        if metadata.is_file() && metadata.modified()? < unused_since {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removed += Removed { count: 1, bytes: metadata.blocks() * 512 },
            }
        }
    }
    Ok(removed)
}

fn entries(folder: &Path) -> io::Result<Vec<(std::path::PathBuf, Metadata)>> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => found.push((entry.path(), metadata?)),
        }
    }
    Ok(found)
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (path, metadata) in entries(folder)? {
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += size(&path)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::WorkerProgram;

    #[test]
    fn programs_in_use_and_new_ones_stay() {
        let cache = tempfile::tempdir().unwrap();
        let program = WorkerProgram::unpack(cache.path()).unwrap();
        let (past, future) = (SystemTime::now() - Duration::from_secs(60), SystemTime::now() + Duration::from_secs(60));
        assert_eq!(prune_worker_programs(cache.path(), future).unwrap(), Removed::default());
        let path = program.path().to_owned();
        drop(program);
        assert_eq!(prune_worker_programs(cache.path(), past).unwrap(), Removed::default());
        assert!(path.exists());
        let removed = prune_worker_programs(cache.path(), future).unwrap();
        assert!(removed.count == 1 && removed.bytes > 100_000, "{removed:?}");
        assert!(!path.exists());
        WorkerProgram::unpack(cache.path()).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn old_lists_go() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(prune_learned_modules(cache.path(), SystemTime::now()).unwrap(), Removed::default());
        std::fs::create_dir(cache.path().join("learned")).unwrap();
        for (name, age) in [("old", 100), ("new", 10)] {
            let file = File::create(cache.path().join("learned").join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let removed = prune_learned_modules(cache.path(), SystemTime::now() - Duration::from_secs(50)).unwrap();
        assert_eq!(removed.count, 1);
        assert!(cache.path().join("learned/new").exists());
    }
}
