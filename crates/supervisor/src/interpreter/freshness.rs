//! Whether what was imported is still what lies on the disk.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use super::Interpreter;
use super::stamp::{OpenFolder, Watched};

/// The fingerprint of an import cache, and the checks of it.
///
/// Once stale, stale for good: whatever it belongs to is recycled.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// Held across looks at the disk, by threads that may wait for it. Who waits
    /// for one that hangs would hang at the same file.
    watched: Mutex<Looked>,
    /// What is watched in addition from the next look on. Locked for a moment
    /// only.
    more: Mutex<Vec<Watched>>,
    /// What had changed.
    stale: OnceLock<PathBuf>,
}

#[derive(Debug, Default)]
struct Looked {
    watched: Vec<Watched>,
    /// When the last look began that found everything as it was.
    at: Option<Instant>,
}

impl Freshness {
    pub fn new(watched: Vec<Watched>) -> Self {
        Self { more: Mutex::new(watched), ..Self::default() }
    }

    /// Of an environment as such: what makes `sys.path`, and what every
    /// interpreter in it imports at its start. It was asked who it is at
    /// `asked_at`, or after. Blocks.
    pub fn of_environment(interpreter: &Interpreter, asked_at: SystemTime) -> Self {
        let configuration = [interpreter.prefix.join("pyvenv.cfg")];
        let files = std::iter::once(&interpreter.executable).chain(&interpreter.startup_files);
        let watched: Vec<Watched> = configuration
            .iter()
            .map(|path| Watched::content(path))
            .chain(interpreter.site_folders.iter().map(|folder| Watched::site_files(folder)))
            .chain(files.map(|file| Watched::file(file)))
            .collect();
        let freshness = Self::new(Vec::new());
        freshness.watch(watched, asked_at);
        freshness
    }

    /// Watches more, which was looked at after `since`. What was changed after
    /// that may have been imported as it was before, or as it is now.
    pub fn watch(&self, more: Vec<Watched>, since: SystemTime) {
        if let Some(unsettled) = more.iter().find(|watched| watched.was_changed_since(since)) {
            let _ = self.stale.set(unsettled.path().to_owned());
        }
        self.watch_as_it_is(more);
    }

    /// Watches more, whenever it was changed.
    pub fn watch_as_it_is(&self, more: Vec<Watched>) {
        // The interpreter has some of its modules under two names.
        let mut seen = HashSet::new();
        lock(&self.more).extend(more.into_iter().filter(|watched| seen.insert(watched.clone())));
    }

    /// Whether it is known to be stale, without another look.
    pub fn is_stale(&self) -> bool {
        self.stale.get().is_some()
    }

    /// What has changed since, if anything has. The look at the disk began after
    /// this was called; simultaneous callers share it. Blocks.
    pub fn change(&self) -> Option<PathBuf> {
        let called_at = Instant::now();
        let mut looked = lock(&self.watched);
        if let Some(path) = self.stale.get() {
            return Some(path.clone());
        }
        if looked.at.is_some_and(|at| at > called_at) {
            return None;
        }
        let began = Instant::now();
        let mut more = std::mem::take(&mut *lock(&self.more));
        if !more.is_empty() {
            looked.watched.append(&mut more);
            // Those of one folder together: it is opened once for them.
            looked.watched.sort_by(|one, other| one.path().cmp(other.path()));
        }
        let mut folder = OpenFolder::default();
        let Some(path) = looked.watched.iter_mut().find_map(|watched| watched.change_in(&mut folder)) else {
            looked.at = Some(began);
            return None;
        };
        Some(self.stale.get_or_init(|| path).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn once_stale_always_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.py");
        fs::write(&path, "a").unwrap();
        let freshness = Freshness::new(vec![Watched::file(&path)]);
        assert_eq!(freshness.change(), None);
        let metadata = path.metadata().unwrap();
        fs::write(&path, "ab").unwrap();
        assert_eq!(freshness.change(), Some(path.clone()));
        fs::write(&path, "a").unwrap();
        fs::File::open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
        assert_eq!(freshness.change(), Some(path));
    }

    #[test]
    fn what_changes_while_it_is_imported_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.py");
        let before = SystemTime::now();
        fs::write(&path, "a").unwrap();
        let freshness = Freshness::new(Vec::new());
        freshness.watch(vec![Watched::file(&path)], before);
        assert_eq!(freshness.change(), Some(path));
    }
}
