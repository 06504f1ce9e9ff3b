//! The worker's program: hookd, embedded, and unpacked where Python finds it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::folder::{FolderError, private_folder};

include!(concat!(env!("OUT_DIR"), "/hookd_files.rs"));

/// Where hookd lies: a folder that Python can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProgram {
    path: PathBuf,
}

/// Why hookd could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The folder for it cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Writing failed.
    #[error("cannot unpack hookd to {path}: {source}")]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WorkerProgram {
    /// Uses the hookd in this folder, the project's own `python/hookd` for
    /// example.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Unpacks the embedded hookd below `cache_folder`, in a folder named by
    /// its digest, so that its bytecode is kept from run to run. What is there
    /// already is compared, and made anew if it is not the same.
    ///
    /// # Errors
    /// [`UnpackError`], which names the folder.
    pub fn unpack(cache_folder: &Path) -> Result<Self, UnpackError> {
        let parent = cache_folder.join("hookd");
        private_folder(&parent)?;
        let home = parent.join(digest());
        let path = home.join("hookd");
        if !is_complete(&path) {
            let write = |source| UnpackError::Write { path: home.clone(), source };
            write_files(&parent, &home).map_err(write)?;
        }
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn digest() -> String {
    let mut hasher = Sha256::new();
    for (name, content) in HOOKD_FILES {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_complete(path: &Path) -> bool {
    HOOKD_FILES.iter().all(|(name, content)| std::fs::read(path.join(name)).is_ok_and(|found| found == *content))
}

/// Writes to a folder of its own and renames it, so that nobody ever sees half
/// of it; whoever else did the same at the same time wrote the same.
fn write_files(parent: &Path, home: &Path) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    let package = draft.path().join("hookd");
    std::fs::create_dir(&package)?;
    for (name, content) in HOOKD_FILES {
        let mut file = std::fs::File::create_new(package.join(name))?;
        file.write_all(content)?;
    }
    match std::fs::rename(draft.path(), home) {
        Ok(()) => {
            // It is not there any more under this name.
            let _ = draft.keep();
            Ok(())
        }
        Err(_) if is_complete(&home.join("hookd")) => Ok(()),
        // Something incomplete is in the way: damaged, or cut off by a crash
        // of the machine.
        Err(_) => {
            let aside = tempfile::Builder::new().prefix(".damaged-").tempdir_in(parent)?;
            std::fs::rename(home, aside.path().join("hookd"))?;
            std::fs::rename(draft.path(), home)?;
            let _ = draft.keep();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_once_and_mends_what_was_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let program = WorkerProgram::unpack(cache.path()).unwrap();
        let main = program.path().join("__main__.py");
        let written = main.metadata().unwrap().modified().unwrap();
        assert_eq!(WorkerProgram::unpack(cache.path()).unwrap(), program);
        assert_eq!(main.metadata().unwrap().modified().unwrap(), written);
        std::fs::write(&main, "damaged").unwrap();
        WorkerProgram::unpack(cache.path()).unwrap();
        assert_ne!(std::fs::read(&main).unwrap(), b"damaged");
        assert_eq!(std::fs::read_dir(cache.path().join("hookd")).unwrap().count(), 1);
    }
}
