//! The environments on the disk: what is kept of them, and what this process uses
//! of that. Everything here blocks, as files do.
//!
//! ```text
//! environments/1/
//!   made/NAME/          an environment; it cannot be moved, its scripts contain its path
//!   made/NAME.lock      exclusive while it is made, shared while it is used; its time is the last use
//!   made/NAME.json      the manifest: written last, so that an environment with one is complete
//!   distributions/      see `Distributions`
//!   models/ID.json      the virtual environment of an interpreter, as `Model` keeps it
//!   contents/ID         the name of an environment with this content
//!   contents.lock       held while contents get their names
//!   resolutions/KEY.json    the environment that a key was resolved to, and when
//!   resolutions/KEY.lock    held while a key is resolved
//! ```

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::Removed;
use hookpool_supervisor::files::{FolderError, LockFile, kept};
use serde::{Deserialize, Serialize};

use super::contents::Distribution;
use super::distributions::{Distributions, Kept};
use super::error::{EnvironmentError, EnvironmentEvent};
use super::handle::{InUse, Manifest};
use crate::files::{disk_space, random, read_json, try_write_json, write_json};

/// The version of the layout and of the files' formats.
const FORMAT: &str = "1";

/// The environment that a key was resolved to.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredResolution {
    pub name: String,
    /// Another environment with this content does as well.
    pub content_id: String,
    pub installed: Vec<Distribution>,
    /// When the installer was asked, in nanoseconds since 1970.
    pub asked_at: u64,
}

/// Called with each event.
pub(super) type EnvironmentObserver = Arc<dyn Fn(&EnvironmentEvent) + Send + Sync>;

pub(super) struct Store {
    root: PathBuf,
    observer: EnvironmentObserver,
    pub distributions: Distributions,
    /// Held while a model is made, so that others wait for it.
    pub model_turn: tokio::sync::Mutex<()>,
    /// The environments that this process uses, by name: each is locked and its
    /// seal inspected once.
    in_use: ByName<InUse>,
}

/// Where things are.
impl Store {
    /// The store in a cache folder, which need not exist.
    pub fn new(cache_folder: &Path, observer: EnvironmentObserver) -> Self {
        let root = cache_folder.join("environments").join(FORMAT);
        let distributions = Distributions::new(root.join("distributions"));
        Self { root, observer, distributions, model_turn: tokio::sync::Mutex::default(), in_use: ByName::default() }
    }

    /// Makes the folders that are missing.
    pub fn make_folders(&self) -> Result<(), FolderError> {
        let parents = [self.root.parent().unwrap_or(&self.root), &self.root].map(Path::to_owned);
        parents
            .iter()
            .chain(&[self.made(), self.contents(), self.resolutions(), self.models()])
            .try_for_each(|path| kept::folder(path))?;
        self.distributions.make_folders()
    }

    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// The virtual environment of an interpreter.
    pub fn model(&self, interpreter_id: &str) -> PathBuf {
        self.models().join(format!("{interpreter_id}.json"))
    }

    fn made(&self) -> PathBuf {
        self.root.join("made")
    }

    pub fn contents(&self) -> PathBuf {
        self.root.join("contents")
    }

    pub fn resolutions(&self) -> PathBuf {
        self.root.join("resolutions")
    }

    pub fn environment(&self, name: &str) -> PathBuf {
        self.made().join(name)
    }

    pub fn environment_lock(&self, name: &str) -> PathBuf {
        self.made().join(format!("{name}.lock"))
    }

    pub fn manifest(&self, name: &str) -> PathBuf {
        self.made().join(format!("{name}.json"))
    }

    pub fn content(&self, content_id: &str) -> PathBuf {
        self.contents().join(content_id)
    }

    pub fn contents_lock(&self) -> PathBuf {
        self.root.join("contents.lock")
    }

    pub fn resolution(&self, key: &str) -> PathBuf {
        self.resolutions().join(format!("{key}.json"))
    }

    pub fn resolution_lock(&self, key: &str) -> PathBuf {
        self.resolutions().join(format!("{key}.lock"))
    }

    /// The names of all environments, complete or not.
    pub fn names(&self) -> Vec<String> {
        names_in(&self.made())
    }

    /// The name of the environment that was noted for a content.
    pub fn name_of_content(&self, content_id: &str) -> Option<String> {
        String::from_utf8(kept::read(&self.content(content_id)).ok()?).ok()
    }
}

/// From the disk into use, and back.
impl Store {
    /// The environment that a key was resolved to, if the installer was asked at
    /// `not_before` (nanoseconds since 1970) or later, and the environment is
    /// unchanged and belongs to this interpreter.
    pub fn find(&self, key: &str, not_before: u64, executable: &Path) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        let Some(resolution) = self.resolved(key, not_before) else { return Ok(None) };
        let found = match self.open(&resolution.name)? {
            Some(in_use) => Some(in_use),
            None => self.open_content(&resolution.content_id)?,
        };
        match found {
            Some(in_use) => self.unless_replaced(in_use, executable),
            None => Ok(None),
        }
    }

    /// What a key was resolved to, if the installer was asked at `not_before` or later.
    pub fn resolved(&self, key: &str, not_before: u64) -> Option<StoredResolution> {
        let resolution = read_json::<StoredResolution>(&self.resolution(key))?;
        (resolution.asked_at >= not_before).then_some(resolution)
    }

    /// Opens an environment for use, if it is complete and unchanged.
    fn open(&self, name: &str) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        if !is_name(name) {
            return Ok(None);
        }
        if let Some(in_use) = self.in_use.get(name) {
            return Ok(self.is_usable(&in_use).then_some(in_use));
        }
        let lock_path = self.environment_lock(name);
        let lock = LockFile::try_shared(&lock_path).map_err(EnvironmentError::system("lock", &lock_path))?;
        let Some(lock) = lock else { return Ok(None) };
        let Some(manifest) = read_json::<Manifest>(&self.manifest(name)) else { return Ok(None) };
        if manifest.private {
            return Ok(None);
        }
        let moved = manifest.folder != self.environment(name);
        let kept = self.open_links(&manifest)?;
        let is_whole = kept.len() == manifest.links.len();
        let mut in_use = InUse::new(name.to_owned(), manifest, kept, lock, false);
        let reason = if moved {
            Some("its folder was moved".to_owned())
        } else if !is_whole {
            Some("a distribution in it was changed or removed".to_owned())
        } else {
            broken_seal(&in_use.restore(&self.manifest(name))?)
        };
        let in_use = Arc::new(in_use);
        if let Some(reason) = reason {
            self.discard(&in_use, reason)?;
            return Ok(None);
        }
        Ok(Some(self.in_use.remember(name.to_owned(), in_use)))
    }

    /// The distributions that an environment links to, as far as they are complete
    /// and unchanged.
    pub fn open_links(&self, manifest: &Manifest) -> Result<Vec<Arc<Kept>>, EnvironmentError> {
        let mut kept = Vec::new();
        for link in &manifest.links {
            let folder = self.distributions.folder(&link.name);
            kept.extend(self.distributions.open(&link.name).map_err(EnvironmentError::system("look at", &folder))?);
        }
        Ok(kept)
    }

    fn open_content(&self, content_id: &str) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        if !is_name(content_id) {
            return Ok(None);
        }
        match self.name_of_content(content_id) {
            Some(name) => self.open(&name),
            None => Ok(None),
        }
    }

    /// An environment links to its interpreter by a path, which may lead to
    /// another interpreter by now.
    fn unless_replaced(&self, in_use: Arc<InUse>, executable: &Path) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        let leads_to = |path: &Path| path.canonicalize().ok();
        if leads_to(&in_use.python) == leads_to(executable) {
            return Ok(Some(in_use));
        }
        self.discard(&in_use, "its interpreter was replaced".to_owned())?;
        Ok(None)
    }

    /// Takes in an environment that was made for a key: or, if there is one with
    /// the same content, removes the new one and returns that.
    pub fn add(&self, made: InUse, key: &str) -> Result<Arc<InUse>, EnvironmentError> {
        let made = Arc::new(made);
        let content_id = made.manifest.content_id.clone();
        let lock_path = self.contents_lock();
        // Held for milliseconds.
        let _lock = LockFile::exclusive(&lock_path).map_err(EnvironmentError::system("lock", &lock_path))?;
        let existing = match self.open_content(&content_id)? {
            Some(existing) => self.unless_replaced(existing, &made.python)?,
            None => None,
        };
        let in_use = match existing {
            Some(existing) => {
                self.remove(&made.name).map_err(EnvironmentError::system("remove", &made.manifest.folder))?;
                existing
            }
            None => {
                let path = self.content(&content_id);
                kept::write(&path, made.name.as_bytes()).map_err(EnvironmentError::system("write", &path))?;
                self.in_use.remember(made.name.clone(), made)
            }
        };
        self.set_resolution(key, &in_use)?;
        Ok(in_use)
    }

    /// The environment with this content, if there is one that belongs to this
    /// interpreter. Then that is what the key was resolved to.
    pub fn resolve_to(
        &self,
        key: &str,
        content_id: &str,
        executable: &Path,
    ) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        let Some(found) = self.open_content(content_id)? else { return Ok(None) };
        let found = self.unless_replaced(found, executable)?;
        if let Some(in_use) = &found {
            self.set_resolution(key, in_use)?;
        }
        Ok(found)
    }

    /// Records what a key was just resolved to.
    fn set_resolution(&self, key: &str, in_use: &InUse) -> Result<(), EnvironmentError> {
        let Manifest { content_id, installed, .. } = &in_use.manifest;
        let (content_id, installed) = (content_id.clone(), installed.clone());
        let path = self.resolution(key);
        let resolution = StoredResolution { name: in_use.name.clone(), content_id, installed, asked_at: now() };
        write_json(&path, &resolution).map_err(EnvironmentError::system("write", &path))
    }

    /// Records bytecode of an environment's own that is known to be whole.
    pub fn add_bytecode(&self, name: &str, files: &[PathBuf]) {
        if files.is_empty() {
            return;
        }
        let path = self.manifest(name);
        // As it is on the disk now: another process may have added some.
        if let Some(mut manifest) = read_json::<Manifest>(&path) {
            manifest.seal.add(&self.environment(name), files);
            try_write_json(&path, &manifest);
        }
    }

    /// Keeps all processes from opening an environment again. Its folder is
    /// removed when nobody uses it.
    pub fn discard(&self, in_use: &InUse, reason: String) -> Result<(), EnvironmentError> {
        if !in_use.discard() {
            return Ok(());
        }
        let manifest = self.manifest(&in_use.name);
        kept::remove(&manifest).map_err(EnvironmentError::system("remove", &manifest))?;
        (self.observer)(&EnvironmentEvent::Discarded { folder: in_use.manifest.folder.clone(), reason });
        Ok(())
    }

    /// Whether an environment in use may be used again. Discards it if somebody
    /// has removed it.
    pub fn is_usable(&self, in_use: &InUse) -> bool {
        let exists = || self.manifest(&in_use.name).exists() && in_use.exists();
        if !in_use.is_discarded() && !exists() {
            // What is left of it is a leftover, which is removed later.
            let _ = self.discard(in_use, "it was removed".to_owned());
        }
        !in_use.is_discarded()
    }

    /// Whether the seal is unbroken. If it is not, or if that cannot be seen, the environment
    /// is not to be used; see [`Store::check_seal`].
    pub fn is_unbroken(&self, in_use: &InUse) -> bool {
        self.check_seal(in_use).is_ok_and(|differences| differences.is_empty())
    }

    /// Inspects the seal: the files that differ. Discards an environment whose
    /// seal is broken; a changed distribution with all environments that have it.
    pub fn check_seal(&self, in_use: &InUse) -> Result<Vec<PathBuf>, EnvironmentError> {
        let tell = |error: &EnvironmentError| {
            tracing::warn!("cannot look at the build environment {}: {error}", in_use.manifest.folder.display());
        };
        self.discard_if_changed(in_use).inspect_err(tell)
    }

    fn discard_if_changed(&self, in_use: &InUse) -> Result<Vec<PathBuf>, EnvironmentError> {
        let differences = in_use.differences()?;
        if let Some(reason) = broken_seal(&differences.all()) {
            self.discard(in_use, reason)?;
        }
        for kept in &differences.changed {
            self.distributions.discard(kept).map_err(EnvironmentError::system("remove", &kept.folder))?;
        }
        if !differences.changed.is_empty() {
            self.discard_those_with(&differences.changed)?;
        }
        Ok(differences.all())
    }

    /// Keeps all processes from using the environments that link to these.
    fn discard_those_with(&self, changed: &[Arc<Kept>]) -> Result<(), EnvironmentError> {
        for name in self.names() {
            let path = self.manifest(&name);
            let Some(manifest) = read_json::<Manifest>(&path) else { continue };
            if manifest.links.iter().any(|link| changed.iter().any(|kept| kept.name == link.name)) {
                kept::remove(&path).map_err(EnvironmentError::system("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// From a new name to the end.
impl Store {
    /// Chooses a name for an environment that is going to be made, and locks it exclusively.
    pub fn reserve_name(&self) -> Result<(String, LockFile), EnvironmentError> {
        loop {
            let name = random_name();
            let path = self.environment_lock(&name);
            let lock = LockFile::try_exclusive(&path).map_err(EnvironmentError::system("lock", &path))?;
            if let Some(lock) = lock
                && !self.environment(&name).exists()
            {
                return Ok((name, lock));
            }
        }
    }

    /// Removes an environment. To be called with its exclusive lock, or if nobody
    /// else knows its name. The manifest goes first: if this is interrupted, what
    /// stays is a leftover. The lock goes last.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        kept::remove(&self.manifest(name))?;
        kept::remove(&self.environment(name))?;
        kept::remove(&self.environment_lock(name))
    }

    /// Whether an environment is incomplete, or private to one process.
    pub fn is_leftover(&self, name: &str) -> bool {
        read_json::<Manifest>(&self.manifest(name)).is_none_or(|manifest| manifest.private)
    }

    /// Removes the distributions that no environment has, and that were not used
    /// since or are not complete: discarded, or left by a process that has died.
    pub fn remove_distributions(&self, unused_since: SystemTime) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let kept = &self.distributions;
        let is_old = |name: &String| kept.last_use(name).is_none_or(|last| last < unused_since);
        let old: Vec<String> = kept.names().into_iter().filter(is_old).collect();
        if old.is_empty() {
            return Ok(removed);
        }
        // Processes that link to distributions hold it shared.
        let Some(_lock) = LockFile::try_exclusive(&kept.lock())? else { return Ok(removed) };
        let mut linked = HashSet::new();
        for name in self.names() {
            match read_json::<Manifest>(&self.manifest(&name)) {
                Some(manifest) => linked.extend(manifest.links.into_iter().map(|link| link.name)),
                // A discarded environment that is in use: its links are unknown.
                None if LockFile::try_exclusive(&self.environment_lock(&name))?.is_none() => return Ok(removed),
                None => {}
            }
        }
        for name in old.iter().filter(|name| is_old(name) && !linked.contains(*name)) {
            removed += Removed { count: 1, bytes: disk_space(&kept.folder(name)) };
            kept.remove(name)?;
        }
        Ok(removed)
    }

    /// Removes the leftovers of processes that have died. Returns their number.
    pub fn remove_leftovers(&self) -> usize {
        self.names().iter().filter(|name| self.remove_leftover(name)).count()
    }

    fn remove_leftover(&self, name: &str) -> bool {
        if !self.is_leftover(name) {
            return false;
        }
        let Ok(Some(_lock)) = LockFile::try_exclusive(&self.environment_lock(name)) else { return false };
        // It may have been completed before its maker released the lock.
        self.is_leftover(name) && self.remove(name).is_ok()
    }
}

/// What this process uses of the things on the disk, by their names: each is locked
/// and its seal inspected once.
pub(super) struct ByName<T>(Mutex<HashMap<String, Weak<T>>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ByName<T> {
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.locked().get(name).and_then(Weak::upgrade)
    }

    /// If two threads have opened the same thing at once, the first counts.
    pub fn remember(&self, name: String, opened: Arc<T>) -> Arc<T> {
        let mut in_use = self.locked();
        if let Some(first) = in_use.get(&name).and_then(Weak::upgrade) {
            return first;
        }
        in_use.retain(|_, other| other.strong_count() > 0);
        in_use.insert(name, Arc::downgrade(&opened));
        opened
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Weak<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an environment with these changed files is discarded.
fn broken_seal(differences: &[PathBuf]) -> Option<String> {
    let first = differences.first()?;
    let others = match differences.len() - 1 {
        0 => String::new(),
        1 => " and another file".to_owned(),
        others => format!(" and {others} other files"),
    };
    Some(format!("its seal is broken: {}{others} changed since it was made", first.display()))
}

/// The names of the files in a folder, without their endings.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| name(entry.path())).filter(|name| is_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn random_name() -> String {
    format!("{:016x}", random() ^ random().rotate_left(32))
}

/// Whether a text may be a name of ours, and not a path from a damaged file.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
