//! Environments put on the shelf, taken from it, and thrown away. Everything
//! here blocks, as files do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hookpool_supervisor::{LockFile, kept};

use super::error::EnvironmentError;
use super::event::EnvironmentEvent;
use super::handle::Held;
use super::manifest::{Answer, Manifest, now};
use super::store::{Store, is_name};
use crate::files::{read_json, write_json};

/// Somebody who is told what happens.
pub(super) type Observer = Arc<dyn Fn(&EnvironmentEvent) + Send + Sync>;

pub(super) struct Shelf {
    pub store: Store,
    pub observer: Observer,
    /// What this process uses, by name: one lock each, one look at each seal.
    in_use: Mutex<HashMap<String, Weak<Held>>>,
}

impl Shelf {
    pub fn new(store: Store, observer: Observer) -> Self {
        Self { store, observer, in_use: Mutex::default() }
    }

    /// The environment that a list resolved to, if that was asked since
    /// `not_before` (nanoseconds since 1970) and it is still as it was made, for
    /// this interpreter.
    pub fn known(&self, key: &str, not_before: u64, executable: &Path) -> Result<Option<Arc<Held>>, EnvironmentError> {
        let Some(answer) = read_json::<Answer>(&self.store.answer(key)) else { return Ok(None) };
        if answer.asked_at < not_before {
            return Ok(None);
        }
        let held = match self.take(&answer.name)? {
            Some(held) => Some(held),
            None => self.with_content(&answer.content_id)?,
        };
        let Some(held) = held else { return Ok(None) };
        // An environment has a link to the interpreter by the name that it was
        // made with, which may lead to another one by now.
        self.unless_replaced(held, executable)
    }

    fn unless_replaced(&self, held: Arc<Held>, executable: &Path) -> Result<Option<Arc<Held>>, EnvironmentError> {
        let leads_to = |path: &Path| path.canonicalize().ok();
        if leads_to(&held.python) == leads_to(executable) {
            return Ok(Some(held));
        }
        self.discard(&held, "its interpreter was replaced".to_owned())?;
        Ok(None)
    }

    fn with_content(&self, content_id: &str) -> Result<Option<Arc<Held>>, EnvironmentError> {
        if !is_name(content_id) {
            return Ok(None);
        }
        match self.store.named(content_id) {
            Some(name) => self.take(&name),
            None => Ok(None),
        }
    }

    /// Takes an environment for use, if it is there, complete and unchanged.
    fn take(&self, name: &str) -> Result<Option<Arc<Held>>, EnvironmentError> {
        if !is_name(name) {
            return Ok(None);
        }
        if let Some(held) = self.in_use().get(name).and_then(Weak::upgrade) {
            return Ok((!held.is_discarded()).then_some(held));
        }
        let lock_path = self.store.environment_lock(name);
        let lock = LockFile::try_shared(&lock_path).map_err(EnvironmentError::system("lock", &lock_path))?;
        let Some(lock) = lock else { return Ok(None) };
        let Some(manifest) = read_json::<Manifest>(&self.store.manifest(name)) else { return Ok(None) };
        if manifest.private {
            return Ok(None);
        }
        let moved = manifest.folder != self.store.environment(name);
        let mut held = Held::new(name.to_owned(), manifest, lock, false);
        let reason = if moved {
            Some("its folder was moved".to_owned())
        } else {
            changed(&held.restore(&self.store.manifest(name))?)
        };
        let held = Arc::new(held);
        if let Some(reason) = reason {
            self.discard(&held, reason)?;
            return Ok(None);
        }
        Ok(Some(self.remember(held)))
    }

    /// Of two that took the same at once, the first counts.
    fn remember(&self, held: Arc<Held>) -> Arc<Held> {
        let mut in_use = self.in_use();
        if let Some(first) = in_use.get(&held.name).and_then(Weak::upgrade) {
            return first;
        }
        in_use.retain(|_, held| held.strong_count() > 0);
        in_use.insert(held.name.clone(), Arc::downgrade(&held));
        held
    }

    /// Puts an environment that is complete on the shelf, or throws it away for
    /// one with the same content that is there. Says which one counts.
    pub fn put(&self, made: Held, key: &str) -> Result<Arc<Held>, EnvironmentError> {
        let made = Arc::new(made);
        let content_id = made.manifest.content_id.clone();
        let lock_path = self.store.contents_lock();
        // Held for milliseconds.
        let _lock = LockFile::exclusive(&lock_path).map_err(EnvironmentError::system("lock", &lock_path))?;
        let existing = match self.with_content(&content_id)? {
            Some(existing) => self.unless_replaced(existing, &made.python)?,
            None => None,
        };
        let held = match existing {
            Some(existing) => {
                self.remove_own(&made)?;
                existing
            }
            None => {
                let path = self.store.content(&content_id);
                kept::write(&path, made.name.as_bytes()).map_err(EnvironmentError::system("write", &path))?;
                self.remember(made)
            }
        };
        let answer = Answer { name: held.name.clone(), content_id, asked_at: now() };
        let path = self.store.answer(key);
        write_json(&path, &answer).map_err(EnvironmentError::system("write", &path))?;
        Ok(held)
    }

    /// Sees to it that nobody takes it any more, in any process. Its folder is
    /// removed when nobody uses it.
    pub fn discard(&self, held: &Arc<Held>, reason: String) -> Result<(), EnvironmentError> {
        if !held.discard() {
            return Ok(());
        }
        let manifest = self.store.manifest(&held.name);
        kept::remove(&manifest).map_err(EnvironmentError::system("remove", &manifest))?;
        (self.observer)(&EnvironmentEvent::Discarded { folder: held.manifest.folder.clone(), reason });
        Ok(())
    }

    /// Whether an environment that is in use may go on being used: it is
    /// discarded where somebody has removed it. Blocks.
    pub fn keeps(&self, held: &Arc<Held>) -> bool {
        if !held.is_discarded() && !held.is_there() {
            // What is left of it is removed by who removes leftovers.
            let _ = self.discard(held, "it was removed".to_owned());
        }
        !held.is_discarded()
    }

    /// Removes an environment that nobody else has heard of.
    fn remove_own(&self, made: &Held) -> Result<(), EnvironmentError> {
        self.store.remove(&made.name).map_err(EnvironmentError::system("remove", &made.manifest.folder))
    }

    /// Removes what other runs left. Answers with their number.
    pub fn remove_leftovers(&self) -> usize {
        self.store.names().iter().filter(|name| self.store.remove_leftover(name)).count()
    }

    fn in_use(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Held>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason to discard an environment that differs.
pub(super) fn changed(differences: &[PathBuf]) -> Option<String> {
    let first = differences.first()?;
    let others = match differences.len() - 1 {
        0 => String::new(),
        1 => " and another file".to_owned(),
        others => format!(" and {others} other files"),
    };
    Some(format!("its seal is broken: {}{others} changed since it was made", first.display()))
}
