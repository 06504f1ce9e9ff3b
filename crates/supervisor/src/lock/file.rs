//! Files that exist for their lock.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::files::kept;

/// The lock of a file in the cache folder, until it is dropped.
///
/// Whoever holds it exclusively may remove the file. A lock of a file that has
/// lost its name excludes nobody, so each attempt checks that afterwards.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Takes the lock with others. `None` where there is no such file, or
    /// another process holds the lock exclusively.
    ///
    /// # Errors
    /// The system refuses to open or to lock the file.
    pub fn try_shared(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = kept::find_lock(path)? else { return Ok(None) };
        if !was_free(file.try_lock_shared())? {
            return Ok(None);
        }
        let lock = Self { path: path.to_owned(), file };
        Ok(lock.is_current()?.then_some(lock))
    }

    /// Takes the lock exclusively; makes the file where it is missing. `None`
    /// where another process holds the lock.
    ///
    /// # Errors
    /// The system refuses to make or to lock the file.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let lock = Self { path: path.to_owned(), file: kept::make_lock(path)? };
            if !was_free(lock.file.try_lock())? {
                return Ok(None);
            }
            // Its holder may have removed it after it was opened here.
            if lock.is_current()? {
                return Ok(Some(lock));
            }
        }
    }

    /// Takes a lock exclusively that is held for milliseconds only. Blocks, for
    /// a minute at most: a holder that is stopped must not stop all others.
    ///
    /// # Errors
    /// As [`LockFile::try_exclusive`], and [`io::ErrorKind::TimedOut`].
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        wait_for(|| Self::try_exclusive(path))
    }

    /// Takes a lock with others; makes the file where it is missing. Blocks while
    /// another process holds it exclusively, for a minute at most.
    ///
    /// # Errors
    /// As [`LockFile::try_shared`], and [`io::ErrorKind::TimedOut`].
    pub fn shared(path: &Path) -> io::Result<Self> {
        wait_for(|| {
            kept::make_lock(path)?;
            Self::try_shared(path)
        })
    }

    /// Turns an exclusive lock into a shared one. In between another process may
    /// take the lock and remove the file: then the result is false.
    ///
    /// # Errors
    /// The system refuses.
    pub fn share(&self) -> io::Result<bool> {
        // std does not say what locking a locked file does.
        self.file.unlock()?;
        while let Err(error) = self.file.lock_shared() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.is_current()
    }

    /// Records the time of this use, which decides when the file is old.
    pub fn touch(&self) {
        // A wrong time costs no more than a removal too early or too late.
        let _ = self.file.set_modified(SystemTime::now());
    }

    fn is_current(&self) -> io::Result<bool> {
        let locked = self.file.metadata()?;
        match self.path.symlink_metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Attempts for a minute at most.
fn wait_for(attempt: impl Fn() -> io::Result<Option<LockFile>>) -> io::Result<LockFile> {
    const PATIENCE: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(5);
    let began = Instant::now();
    loop {
        if let Some(lock) = attempt()? {
            return Ok(lock);
        }
        if began.elapsed() >= PATIENCE {
            let words = format!("another process has kept it locked for {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether an attempt has taken the lock.
pub(crate) fn was_free(attempt: Result<(), TryLockError>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_exclude_removers_and_the_lock_of_a_removed_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(LockFile::try_shared(&path).unwrap().is_none());
        let maker = LockFile::try_exclusive(&path).unwrap().unwrap();
        assert!(LockFile::try_shared(&path).unwrap().is_none());
        assert!(maker.share().unwrap());
        let user = LockFile::try_shared(&path).unwrap().unwrap();
        assert!(LockFile::try_exclusive(&path).unwrap().is_none());
        drop((maker, user));
        let remover = LockFile::try_exclusive(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!remover.is_current().unwrap());
        let other = LockFile::exclusive(&path).unwrap();
        assert!(other.is_current().unwrap());
        assert!(!remover.share().unwrap());
    }
}
