//! Whether files that were imported are unchanged on the disk.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use super::Interpreter;
use super::stamp::{OpenFolder, Watched};

/// The files and folders that something was imported from, to be compared with
/// the disk.
///
/// Once it is stale it stays so, and its owner is replaced.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// The mutex is held during file access. Threads that wait for one that hangs
    /// would hang at the same file themselves.
    watched: Mutex<Looked>,
    /// Watched in addition from the next check on. The mutex is held for a moment
    /// only.
    more: Mutex<Vec<Watched>>,
    /// The path that has changed.
    stale: OnceLock<PathBuf>,
}

#[derive(Debug, Default)]
struct Looked {
    watched: Vec<Watched>,
    /// When the last check began that found no change.
    at: Option<Instant>,
}

impl Freshness {
    pub fn new(watched: Vec<Watched>) -> Self {
        Self { more: Mutex::new(watched), ..Self::default() }
    }

    /// Watches an environment: the files that define `sys.path`, and those that
    /// every interpreter imports at its start. The interpreter was queried at
    /// `asked_at` or later. Blocks.
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

    /// Watches more paths, which were imported after `since`. A file that was
    /// changed after that time counts as stale, since either version may have
    /// been imported.
    pub fn watch(&self, more: Vec<Watched>, since: SystemTime) {
        if let Some(unsettled) = more.iter().find(|watched| watched.was_changed_since(since)) {
            let _ = self.stale.set(unsettled.path().to_owned());
        }
        self.watch_as_it_is(more);
    }

    /// Watches more paths, whenever they were changed.
    pub fn watch_as_it_is(&self, more: Vec<Watched>) {
        // The interpreter has some of its modules under two names.
        let mut seen = HashSet::new();
        lock(&self.more).extend(more.into_iter().filter(|watched| seen.insert(watched.clone())));
    }

    /// Whether it is known to be stale, without file access.
    pub fn is_stale(&self) -> bool {
        self.stale.get().is_some()
    }

    /// The path that has changed, if one has. The check begins after the call;
    /// simultaneous callers share one. Blocks.
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
            // Sorted, so that each folder is opened once.
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
    use crate::interpreter::file_clock;
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
        let before = file_clock();
        fs::write(&path, "a").unwrap();
        let freshness = Freshness::new(Vec::new());
        freshness.watch(vec![Watched::file(&path)], before);
        assert_eq!(freshness.change(), Some(path));
    }
}
