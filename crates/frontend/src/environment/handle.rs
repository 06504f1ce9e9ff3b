//! An environment that is in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hookpool_supervisor::{BuildEnvironment, KnownInterpreter, LockFile, kept, unblock};

use super::contents::{Distribution, site_packages};
use super::error::EnvironmentError;
use super::installer::python_of;
use super::manifest::Manifest;
use super::seal::Look;
use crate::files::write_json;

/// A build environment. Nobody removes it while a clone of this is held, by any
/// process.
#[derive(Clone, Debug)]
pub struct Environment {
    pub(super) held: Arc<Held>,
    /// The one that it was made from.
    pub(super) interpreter: Arc<KnownInterpreter>,
    pub(super) requires: Arc<[String]>,
}

impl Environment {
    /// Its interpreter.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.held.python
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.held.manifest.folder
    }

    /// The same for the same distributions and interpreter.
    #[must_use]
    pub fn content_id(&self) -> &str {
        &self.held.manifest.content_id
    }

    /// What is installed, in order of the names.
    #[must_use]
    pub fn installed(&self) -> &[Distribution] {
        &self.held.manifest.installed
    }

    /// The list that it was asked for with.
    #[must_use]
    pub fn requires(&self) -> &[String] {
        &self.requires
    }

    /// Whether it was made by this process.
    #[must_use]
    pub fn was_made(&self) -> bool {
        self.held.made_here
    }

    /// What differs from how it was made, as paths within its folder; nothing
    /// where its seal holds.
    ///
    /// # Errors
    /// [`EnvironmentError::System`].
    pub async fn inspect_seal(&self) -> Result<Vec<PathBuf>, EnvironmentError> {
        let held = self.held.clone();
        unblock(move || held.differences()).await
    }
}

impl BuildEnvironment for Environment {
    fn python(&self) -> &Path {
        &self.held.python
    }
}

/// What all clones, and all lists that lead to the same environment, have in
/// common.
#[derive(Debug)]
pub(super) struct Held {
    pub name: String,
    pub python: PathBuf,
    pub manifest: Manifest,
    pub lock: LockFile,
    pub made_here: bool,
    /// It must not be used for anything new.
    discarded: AtomicBool,
}

impl Held {
    pub fn new(name: String, manifest: Manifest, lock: LockFile, made_here: bool) -> Self {
        lock.touch();
        let python = python_of(&manifest.folder);
        Self { name, python, manifest, lock, made_here, discarded: AtomicBool::new(false) }
    }

    pub fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
    }

    /// Whether it was not discarded before.
    pub fn discard(&self) -> bool {
        !self.discarded.swap(true, Ordering::AcqRel)
    }

    /// Whether it was not removed: a look at what no hook can do without. Blocks.
    pub fn is_there(&self) -> bool {
        let folder = &self.manifest.folder;
        let has_packages = || site_packages(folder).is_ok_and(|folders| !folders.is_empty());
        self.python.exists() && folder.join("pyvenv.cfg").exists() && has_packages()
    }

    /// Blocks, as looking at files does.
    pub fn differences(&self) -> Result<Vec<PathBuf>, EnvironmentError> {
        Ok(self.look()?.differences)
    }

    fn look(&self) -> Result<Look, EnvironmentError> {
        let folder = &self.manifest.folder;
        self.manifest.seal.look(folder).map_err(EnvironmentError::system("look at", folder))
    }

    /// What differs. Bytecode that does is removed. Where it is the times of
    /// files alone, the new ones are written to the manifest, so that the files
    /// are not read again. Blocks.
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

impl Drop for Held {
    fn drop(&mut self) {
        self.lock.touch();
    }
}
