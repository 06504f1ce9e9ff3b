//! An environment that is in use, and what is known of it.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hookpool_supervisor::files::LockFile;
use hookpool_supervisor::{BuildEnvironment, Interpreter};
use serde::{Deserialize, Serialize};

use super::contents::{Distribution, site_packages};
use super::distributions::{Kept, Link};
use super::error::EnvironmentError;
use super::python_of;
use super::seal::{LastLook, Seal, remove_bytecode};
use super::settings::InstallerKind;
use super::store::Store;
use super::wanted::Wanted;
use crate::files::try_write_json;

/// A build environment. No process removes it while a clone of this exists.
#[derive(Clone)]
pub struct Environment {
    pub(super) in_use: Arc<InUse>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) store: Arc<Store>,
}

impl Environment {
    /// Its interpreter.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.in_use.python
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.in_use.manifest.folder
    }

    /// Its folder, and those that it links to.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let kept = self.in_use.kept.iter().map(|kept| kept.folder.clone());
        std::iter::once(self.folder().to_owned()).chain(kept).collect()
    }

    /// The same for the same distributions and interpreter.
    #[must_use]
    pub fn content_id(&self) -> &str {
        &self.in_use.manifest.content_id
    }

    /// The installed distributions, sorted by name.
    #[must_use]
    pub fn installed(&self) -> &[Distribution] {
        &self.in_use.manifest.installed
    }

    /// Whether this process made it.
    #[must_use]
    pub fn was_made(&self) -> bool {
        self.in_use.made_here
    }

    /// The files that were changed, added or removed since it was made; none if its seal is
    /// unbroken. Otherwise it is discarded, and the next [`Environments::get`] makes another
    /// one. Blocks.
    ///
    /// # Errors
    /// [`EnvironmentError::System`].
    ///
    /// [`Environments::get`]: super::Environments::get
    pub fn check_seal(&self) -> Result<Vec<PathBuf>, EnvironmentError> {
        let differences = self.store.check_seal(&self.in_use)?;
        Ok(differences.into_iter().map(|path| self.folder().join(path)).collect())
    }
}

/// Without the requirements and the installer's settings, which may hold
/// credentials.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Environment").field("folder", &self.folder()).finish_non_exhaustive()
    }
}

impl BuildEnvironment for Environment {
    fn python(&self) -> &Path {
        &self.in_use.python
    }
}

/// An environment on the disk that this process uses. All requirements that lead
/// to it share this.
pub(super) struct InUse {
    pub name: String,
    pub python: PathBuf,
    pub manifest: Manifest,
    /// The distributions that it links to, in the order of the manifest.
    kept: Vec<Arc<Kept>>,
    /// Bytecode of its own that may have been cut short.
    unchecked: Mutex<Vec<PathBuf>>,
    last_look: LastLook,
    /// When the last look at all of it began.
    looked_at: Mutex<Instant>,
    /// Shared with other processes that use it; keeps all from removing it.
    lock: LockFile,
    pub made_here: bool,
    /// Whether nothing new may use it.
    discarded: AtomicBool,
}

/// What is kept of a complete environment.
#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The folder that it was made in. In a cache folder that was moved, scripts
    /// lead to the old place.
    pub folder: PathBuf,
    pub content_id: String,
    pub installed: Vec<Distribution>,
    pub installer: InstallerKind,
    /// Nanoseconds since 1970.
    pub made_at: u64,
    /// Whether only the process that made it may use it.
    pub private: bool,
    pub seal: Seal,
    /// The distributions that it links to.
    pub links: Vec<Link>,
    /// What its interpreter says about itself; `None` if it was asked and gave no answer in
    /// time.
    pub interpreter: Option<Interpreter>,
}

impl InUse {
    pub fn new(name: String, manifest: Manifest, kept: Vec<Arc<Kept>>, lock: LockFile, made_here: bool) -> Self {
        lock.touch();
        let python = python_of(&manifest.folder);
        let (unchecked, discarded) = (Mutex::default(), AtomicBool::new(false));
        let (last_look, looked_at) = (LastLook::default(), Mutex::new(Instant::now()));
        Self { name, python, manifest, kept, unchecked, last_look, looked_at, lock, made_here, discarded }
    }

    /// Whether it, or a distribution in it, was discarded.
    pub fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire) || self.kept.iter().any(|kept| kept.is_discarded())
    }

    /// False if it was discarded before.
    pub fn discard(&self) -> bool {
        !self.discarded.swap(true, Ordering::AcqRel)
    }

    /// Whether what every hook needs still exists. Blocks.
    pub fn exists(&self) -> bool {
        let folder = &self.manifest.folder;
        let has_packages = || site_packages(folder).is_ok_and(|folders| !folders.is_empty());
        self.python.exists() && folder.join("pyvenv.cfg").exists() && has_packages()
    }

    /// The files that were changed, added or removed. Blocks.
    pub fn differences(&self) -> Result<Differences, EnvironmentError> {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let folder = &self.manifest.folder;
        let own = self.last_look.differences(&self.manifest.seal, folder);
        let own = own.map_err(EnvironmentError::system("look at", folder))?;
        let mut differences = Differences { own, ..Differences::default() };
        for (link, kept) in self.manifest.links.iter().zip(&self.kept) {
            let found = kept.differences().map_err(EnvironmentError::system("look at", &kept.folder))?;
            if !found.is_empty() {
                differences.changed.push(kept.clone());
                differences.linked.extend(found.iter().map(|path| link.packages.join(path)));
            }
        }
        Ok(differences)
    }

    /// When the last look at its seal began; at the latest when this process opened it.
    pub fn looked_at(&self) -> Instant {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytecode that has to be checked before anything is imported.
    pub fn unchecked_bytecode(&self) -> Vec<PathBuf> {
        let own = self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.into_iter().chain(self.kept.iter().flat_map(|kept| kept.unchecked())).collect()
    }

    /// Ends the check of bytecode: removes what is not whole, and records the rest,
    /// so that it is not checked again. Blocks.
    pub fn end_check(&self, store: &Store, checked: &[PathBuf], whole: &HashSet<PathBuf>) {
        remove_bytecode(checked.iter().filter(|path| !whole.contains(*path)));
        let within = |folder: &Path| -> Vec<PathBuf> {
            checked.iter().filter(|path| whole.contains(*path) && path.starts_with(folder)).cloned().collect()
        };
        for kept in &self.kept {
            store.distributions.end_check(kept, &within(&kept.folder));
        }
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        store.add_bytecode(&self.name, &within(&self.manifest.folder));
    }

    /// The own files that were changed, added or removed. If only times differ,
    /// writes the new ones to the manifest, so that the files are not read again.
    pub fn restore(&mut self, manifest: &Path) -> Result<Vec<PathBuf>, EnvironmentError> {
        let folder = &self.manifest.folder;
        let look = self.manifest.seal.look(folder).map_err(EnvironmentError::system("look at", folder))?;
        remove_bytecode(&look.alien_bytecode);
        self.unchecked = Mutex::new(look.bytecode);
        if let Some(seal) = look.restored {
            self.manifest.seal = seal;
            try_write_json(manifest, &self.manifest);
        }
        Ok(look.differences)
    }
}

/// What differs from what was installed.
#[derive(Default)]
pub(super) struct Differences {
    /// Paths of the environment's own files, relative to it.
    own: Vec<PathBuf>,
    /// Those of files that it links to.
    linked: Vec<PathBuf>,
    /// The distributions that those belong to.
    pub changed: Vec<Arc<Kept>>,
}

impl Differences {
    /// All paths, relative to the environment.
    pub fn all(&self) -> Vec<PathBuf> {
        let mut all = [self.own.as_slice(), self.linked.as_slice()].concat();
        all.sort_unstable();
        all
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.lock.touch();
    }
}
