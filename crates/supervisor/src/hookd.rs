//! hookd, the worker's program: embedded here, and unpacked to where Python can
//! run it.

use std::collections::BTreeSet;
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

/// The location of hookd, for Python to run.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    path: PathBuf,
    /// `None` if it is not the embedded one.
    unpacked: Option<Arc<Unpacked>>,
}

#[derive(Debug)]
struct Unpacked {
    cache_folder: PathBuf,
    /// The shared lock by which other processes do not remove it.
    in_use: Mutex<Option<File>>,
}

impl PartialEq for WorkerProgram {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for WorkerProgram {}

/// Why hookd cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The folder for it cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It cannot be written.
    #[error("cannot unpack hookd to {path}: {source}")]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WorkerProgram {
    /// The hookd at this path, `python/hookd` of a checkout for example.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), unpacked: None }
    }

    /// A digest of the embedded hookd.
    #[must_use]
    pub fn embedded_digest() -> String {
        digest()
    }

    /// Unpacks the embedded hookd below `cache_folder`, in a folder that is named
    /// by its digest, so that its bytecode is kept between runs. Files that are
    /// there already are compared, and replaced if they differ.
    ///
    /// # Errors
    /// [`UnpackError`], which names the folder.
    pub fn unpack(cache_folder: &Path) -> Result<Self, UnpackError> {
        let (path, in_use) = unpack(cache_folder)?;
        let unpacked = Unpacked { cache_folder: cache_folder.to_owned(), in_use: Mutex::new(in_use) };
        Ok(Self { path, unpacked: Some(Arc::new(unpacked)) })
    }

    /// Unpacks it again if it was removed or damaged. Call this before it is run.
    /// Blocks.
    pub(crate) fn mend(&self) -> Result<(), UnpackError> {
        let Some(unpacked) = &self.unpacked else { return Ok(()) };
        let mut in_use = unpacked.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.path.parent().is_some_and(is_complete) {
            (_, *in_use) = unpack(&unpacked.cache_folder)?;
        }
        Ok(())
    }

    /// The path for Python to run: a file, or a folder with a `__main__.py`.
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
    // Not the folder: Python would keep bytecode of its `__main__`, and would
    // not recover from damage to that.
    let path = folder.join("__main__.py");
    let write = |source| UnpackError::Write { path: home.clone(), source };
    for _ in 0..ATTEMPTS {
        let in_use = use_folder(&home).map_err(write)?;
        // It was locked before this check, so nobody removes it after.
        if is_complete(&folder) {
            return Ok((path, in_use));
        }
        drop(in_use);
        match write_files(&parent, &home) {
            // Another process removes what nobody uses, before it could be locked.
            Err(error) if is_missing(&error) => kept::folder(&parent)?,
            written => written.map_err(write)?,
        }
    }
    Err(write(io::Error::other("another process removes it again and again")))
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

/// Takes a shared lock of the folder, if it exists, and records the time.
fn use_folder(home: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    // Anything else than a folder is replaced later, as it is not complete.
    let Ok(folder) = OpenOptions::new().read(true).custom_flags(flags).open(home) else { return Ok(None) };
    // The time only decides when it is pruned.
    let _ = folder.set_modified(SystemTime::now());
    // Whoever holds the lock exclusively is removing the folder, which is quick.
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
    HOOKD_FILES.iter().all(|(name, content)| is_whole(name, content))
        && packages().iter().all(|package| has_readable_bytecode(&path.join(package)))
}

/// The folders of the program, by their relative paths: that of hookd itself
/// (empty) and those of its packages.
fn packages() -> BTreeSet<&'static Path> {
    HOOKD_FILES.iter().filter_map(|(name, _)| Path::new(name).parent()).collect()
}

/// Whether Python can read the bytecode to its end, as it does without a check.
/// hookd itself checks the content.
fn has_readable_bytecode(path: &Path) -> bool {
    const LARGEST: u64 = 1 << 20;
    let folder = path.join("__pycache__");
    let is_readable = |entry: io::Result<DirEntry>| {
        let found = entry.and_then(|entry| entry.metadata());
        found.map_or_else(|error| is_missing(&error), |found| found.is_file() && found.len() <= LARGEST)
    };
    match folder.read_dir() {
        Ok(mut entries) => entries.all(is_readable),
        Err(error) => is_missing(&error) && !folder.is_symlink(),
    }
}

/// Another process may be replacing it.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Writes a new folder and renames it, so that it is complete under its name.
/// Processes that do this at the same time write the same.
fn write_files(parent: &Path, home: &Path) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    let _in_use = use_folder(draft.path())?;
    let hookd = draft.path().join("hookd");
    for package in packages() {
        std::fs::create_dir_all(hookd.join(package))?;
    }
    for (name, content) in HOOKD_FILES {
        let mut file = File::create_new(hookd.join(name))?;
        file.write_all(content)?;
    }
    match std::fs::rename(draft.path(), home) {
        Ok(()) => {
            // It was renamed, so there is nothing to remove.
            let _ = draft.keep();
            Ok(())
        }
        Err(_) if is_complete(&home.join("hookd")) => Ok(()),
        // The folder there is incomplete, because of damage or of a crash of the
        // machine.
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
