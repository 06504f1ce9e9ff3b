//! An environment that is in use, and what is known of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hookpool_supervisor::files::{LockFile, kept, unblock};
use hookpool_supervisor::{BuildEnvironment, Interpreter};
use serde::{Deserialize, Serialize};

use super::contents::{Distribution, site_packages};
use super::error::EnvironmentError;
use super::python_of;
use super::seal::{Look, Seal};
use super::settings::InstallerKind;
use super::wanted::Wanted;
use crate::files::write_json;

/// A build environment. No process removes it while a clone of this exists.
#[derive(Clone)]
pub struct Environment {
    pub(super) in_use: Arc<InUse>,
    pub(super) wanted: Arc<Wanted>,
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

    /// The files that were changed, added or removed since it was made, as paths
    /// within its folder; empty if its seal is unbroken.
    ///
    /// # Errors
    /// [`EnvironmentError::System`].
    pub async fn inspect_seal(&self) -> Result<Vec<PathBuf>, EnvironmentError> {
        let in_use = self.in_use.clone();
        unblock(move || in_use.differences()).await
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
    /// What its interpreter says about itself; `None` if it gave no answer in time.
    pub interpreter: Option<Interpreter>,
}

impl InUse {
    pub fn new(name: String, manifest: Manifest, lock: LockFile, made_here: bool) -> Self {
        lock.touch();
        let python = python_of(&manifest.folder);
        Self { name, python, manifest, lock, made_here, discarded: AtomicBool::new(false) }
    }

    pub fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
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
    pub fn differences(&self) -> Result<Vec<PathBuf>, EnvironmentError> {
        Ok(self.look()?.differences)
    }

    fn look(&self) -> Result<Look, EnvironmentError> {
        let folder = &self.manifest.folder;
        self.manifest.seal.look(folder).map_err(EnvironmentError::system("look at", folder))
    }

    /// As [`differences`](Self::differences); removes bytecode that differs. If
    /// only times differ, writes the new ones to the manifest, so that the files
    /// are not read again.
    pub fn restore(&mut self, manifest: &Path) -> Result<Vec<PathBuf>, EnvironmentError> {
        let look = self.look()?;
        for path in &look.bytecode {
            if let Err(error) = kept::remove(path) {
                tracing::debug!("{}: {error}", path.display());
            }
        }
        if let Some(seal) = look.restored {
            self.manifest.seal = seal;
            if let Err(error) = write_json(manifest, &self.manifest) {
                tracing::debug!("{}: {error}", manifest.display());
            }
        }
        Ok(look.differences)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.lock.touch();
    }
}
