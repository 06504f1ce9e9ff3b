//! Locks between processes: `flock(2)` on small files, which end with their
//! process whatever ends that.
//!
//! A lock file may be removed by who holds it, so that whoever got a lock looks
//! whether it is of the file that is there under the name.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use hookpool_supervisor::kept;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A lock, until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    file: Flock<File>,
}

impl FileLock {
    /// For use, with others. None where there is no such file, or somebody has
    /// it for itself.
    pub fn try_shared(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = kept::find_lock(path)? else { return Ok(None) };
        attempt(file, path, FlockArg::LockSharedNonblock)
    }

    /// For oneself. None where somebody else has it; the file is made.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = kept::make_lock(path)?;
            if let Some(lock) = attempt(file, path, FlockArg::LockExclusiveNonblock)? {
                return Ok(Some(lock));
            }
            // Held by somebody, or removed between both steps.
            if is_held(path)? {
                return Ok(None);
            }
        }
    }

    /// For oneself, after those that have it, which is for milliseconds: a
    /// process that was stopped meanwhile must not keep all others. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after a minute.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(60);
        const PAUSE: Duration = Duration::from_millis(5);
        let began = Instant::now();
        loop {
            if let Some(lock) = Self::try_exclusive(path)? {
                return Ok(lock);
            }
            if began.elapsed() >= PATIENCE {
                let words = format!("another process has kept it locked for {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets others use what was made. They may be faster, to use or to remove
    /// it: false if it was removed.
    pub fn share(&self, path: &Path) -> io::Result<bool> {
        loop {
            match self.file.relock(FlockArg::LockShared) {
                Ok(()) => return is_current(&self.file, path),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Notes that it was used now: the file's time.
    pub fn touch(&self) {
        // Only cleaning up looks at it.
        let _ = self.file.set_modified(SystemTime::now());
    }
}

fn attempt(file: File, path: &Path, kind: FlockArg) -> io::Result<Option<FileLock>> {
    match Flock::lock(file, kind) {
        Ok(file) => Ok(is_current(&file, path)?.then_some(FileLock { file })),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn is_held(path: &Path) -> io::Result<bool> {
    let Some(file) = kept::find_lock(path)? else { return Ok(false) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    let locked = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_keep_removers_out_and_removed_locks_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(FileLock::try_shared(&path).unwrap().is_none());
        let maker = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::try_shared(&path).unwrap().is_none());
        assert!(maker.share(&path).unwrap());
        let user = FileLock::try_shared(&path).unwrap().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop((maker, user));
        let remover = FileLock::try_exclusive(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_current(&remover.file, &path).unwrap());
        let other = FileLock::exclusive(&path).unwrap();
        assert!(is_current(&other.file, &path).unwrap());
    }
}
