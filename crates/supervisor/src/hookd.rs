//! The worker's program: hookd, embedded, and unpacked where Python finds it.

use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::libc;
use sha2::{Digest, Sha256};

use crate::files::FolderError;
use crate::files::kept;
use crate::files::{Links, read_regular_file};

include!(concat!(env!("OUT_DIR"), "/hookd_files.rs"));

/// Where hookd lies: what Python is to run.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    path: PathBuf,
    /// Where it was unpacked by us.
    unpacked: Option<Arc<Unpacked>>,
}

#[derive(Debug)]
struct Unpacked {
    cache_folder: PathBuf,
    /// Keeps other processes from removing it. Locked while it is looked at.
    in_use: Mutex<Option<File>>,
}

impl PartialEq for WorkerProgram {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for WorkerProgram {}

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
    /// Uses the hookd of this path, the project's own `python/hookd` for
    /// example.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), unpacked: None }
    }

    /// Unpacks the embedded hookd below `cache_folder`, in a folder named by
    /// its digest, so that its bytecode is kept from run to run. What is there
    /// already is compared, and made anew if it is not the same.
    ///
    /// # Errors
    /// [`UnpackError`], which names the folder.
    pub fn unpack(cache_folder: &Path) -> Result<Self, UnpackError> {
        let (path, in_use) = unpack(cache_folder)?;
        let unpacked = Unpacked { cache_folder: cache_folder.to_owned(), in_use: Mutex::new(in_use) };
        Ok(Self { path, unpacked: Some(Arc::new(unpacked)) })
    }

    /// Unpacks it again, if it was removed or damaged since: to be called before
    /// it is run. Blocks.
    pub(crate) fn mend(&self) -> Result<(), UnpackError> {
        let Some(unpacked) = &self.unpacked else { return Ok(()) };
        let mut in_use = unpacked.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.path.parent().is_some_and(is_complete) {
            (_, *in_use) = unpack(&unpacked.cache_folder)?;
        }
        Ok(())
    }

    /// What Python is to run: a file, or a folder with a `__main__.py`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn unpack(cache_folder: &Path) -> Result<(PathBuf, Option<File>), UnpackError> {
    const ATTEMPTS: usize = 5;
    let parent = cache_folder.join("hookd");
    kept::folder(&parent)?;
    let home = parent.join(digest());
    let folder = home.join("hookd");
    // Not the folder, of whose `__main__` Python keeps bytecode, where
    // nobody could help it if that is damaged.
    let path = folder.join("__main__.py");
    let write = |source| UnpackError::Write { path: home.clone(), source };
    for _ in 0..ATTEMPTS {
        let in_use = use_folder(&home).map_err(write)?;
        // Locked before it is looked at: now nobody removes it.
        if is_complete(&folder) {
            return Ok((path, in_use));
        }
        drop(in_use);
        write_files(&parent, &home).map_err(write)?;
    }
    Err(write(io::Error::other("somebody else removes it at once")))
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

/// Locks the folder, if it is there, with all others who use it, and notes the
/// time.
fn use_folder(home: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    // What cannot be opened as a folder is not complete.
    let Ok(folder) = OpenOptions::new().read(true).custom_flags(flags).open(home) else { return Ok(None) };
    // Only cleaning up looks at the time.
    let _ = folder.set_modified(SystemTime::now());
    // Whoever has it alone removes it, which does not take long.
    match folder.lock_shared() {
        Ok(()) => Ok(Some(folder)),
        Err(error) if has_no_locks(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is an error of a file system without locks.
fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::EINVAL))
}

fn is_complete(path: &Path) -> bool {
    let is_whole = |name: &str, content: &[u8]| {
        read_regular_file(&path.join(name), Links::Refuse, content.len() as u64).is_ok_and(|found| found == content)
    };
    HOOKD_FILES.iter().all(|(name, content)| is_whole(name, content)) && has_readable_bytecode(path)
}

/// Whether Python, which reads whatever there is of bytecode, can come to its
/// end. hookd finds out by itself whether it is whole.
fn has_readable_bytecode(path: &Path) -> bool {
    const LARGEST: u64 = 1 << 20;
    let folder = path.join("__pycache__");
    let is_readable = |entry: io::Result<DirEntry>| {
        let found = entry.and_then(|entry| entry.metadata());
        found.map_or_else(is_missing, |found| found.is_file() && found.len() <= LARGEST)
    };
    match folder.read_dir() {
        Ok(mut entries) => entries.all(is_readable),
        Err(error) => is_missing(error) && !folder.is_symlink(),
    }
}

/// Another process may have replaced it just now.
fn is_missing(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Writes to a folder of its own and renames it, so that nobody ever sees half
/// of it; whoever else did the same at the same time wrote the same.
fn write_files(parent: &Path, home: &Path) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    let package = draft.path().join("hookd");
    std::fs::create_dir(&package)?;
    for (name, content) in HOOKD_FILES {
        let mut file = File::create_new(package.join(name))?;
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
            kept::put_aside(home)?;
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
        let main = program.path();
        let written = main.metadata().unwrap().modified().unwrap();
        assert_eq!(WorkerProgram::unpack(cache.path()).unwrap(), program);
        assert_eq!(main.metadata().unwrap().modified().unwrap(), written);
        std::fs::write(main, "damaged").unwrap();
        program.mend().unwrap();
        assert_ne!(std::fs::read(main).unwrap(), b"damaged");
        assert_eq!(std::fs::read_dir(cache.path().join("hookd")).unwrap().count(), 1);
    }
}
