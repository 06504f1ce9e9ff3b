//! Whether what was imported is still what lies on the disk.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Interpreter;
use super::stamp::Watched;

/// The fingerprint of an import cache, and the checks of it.
///
/// Once stale, stale for good: whatever it belongs to is recycled.
#[derive(Debug)]
pub(crate) struct Freshness {
    watched: Arc<Mutex<Vec<Watched>>>,
    /// What had changed.
    stale: OnceLock<PathBuf>,
    /// Held during a check; who waits for it meanwhile shares the next one.
    last_check: tokio::sync::Mutex<Option<LastCheck>>,
}

#[derive(Clone, Copy, Debug)]
struct LastCheck {
    began: Instant,
    took: Duration,
}

impl Freshness {
    /// A check that takes so long belongs on a thread of its own.
    const SLOW: Duration = Duration::from_millis(5);

    pub fn new(watched: Vec<Watched>) -> Self {
        Self {
            watched: Arc::new(Mutex::new(watched)),
            stale: OnceLock::new(),
            last_check: tokio::sync::Mutex::new(None),
        }
    }

    /// Of an environment as such: what makes `sys.path`, and what every
    /// interpreter in it imports at its start. It was asked who it is at
    /// `asked_at`, or after.
    pub fn of_environment(interpreter: &Interpreter, asked_at: SystemTime) -> Self {
        let configuration = [interpreter.prefix.join("pyvenv.cfg")];
        let files = std::iter::once(&interpreter.executable).chain(&interpreter.startup_files);
        let watched: Vec<Watched> = configuration
            .iter()
            .map(|path| Watched::content(path))
            .chain(interpreter.site_folders.iter().map(|folder| Watched::path_files(folder)))
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
        self.watched().extend(more.into_iter().filter(|watched| seen.insert(watched.clone())));
    }

    /// Whether it is known to be stale, without another look.
    pub fn is_stale(&self) -> bool {
        self.stale.get().is_some()
    }

    /// What has changed since, if anything has. The look at the disk began
    /// after this was called; simultaneous callers share it.
    pub async fn change(&self) -> Option<PathBuf> {
        let called_at = Instant::now();
        let mut last = self.last_check.lock().await;
        if let Some(path) = self.stale.get() {
            return Some(path.clone());
        }
        if last.is_some_and(|check| check.began > called_at) {
            return None;
        }
        let began = Instant::now();
        // On a local disk it takes less than waking a thread for it.
        let change = if last.is_some_and(|check| check.took < Self::SLOW) {
            first_change(&mut self.watched())
        } else {
            let watched = self.watched.clone();
            let look = move || first_change(&mut watched.lock().unwrap_or_else(PoisonError::into_inner));
            tokio::task::spawn_blocking(look).await.unwrap_or_default()
        };
        *last = Some(LastCheck { began, took: began.elapsed() });
        let path = change?;
        Some(self.stale.get_or_init(|| path).clone())
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_change(watched: &mut [Watched]) -> Option<PathBuf> {
    watched.iter_mut().find_map(Watched::change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn once_stale_always_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.py");
        fs::write(&path, "a").unwrap();
        let freshness = Freshness::new(vec![Watched::file(&path)]);
        assert_eq!(freshness.change().await, None);
        let metadata = path.metadata().unwrap();
        fs::write(&path, "ab").unwrap();
        assert_eq!(freshness.change().await, Some(path.clone()));
        fs::write(&path, "a").unwrap();
        fs::File::open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
        assert_eq!(freshness.change().await, Some(path));
    }

    #[tokio::test]
    async fn what_changes_while_it_is_imported_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.py");
        let before = SystemTime::now();
        fs::write(&path, "a").unwrap();
        let freshness = Freshness::new(Vec::new());
        freshness.watch(vec![Watched::file(&path)], before);
        assert_eq!(freshness.change().await, Some(path));
    }
}
