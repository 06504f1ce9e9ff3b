//! One process at a time in a tree: `flock(2)` on its folder.
//!
//! setuptools, pdm-backend and hatch-mypyc fail when two hooks run in one tree
//! at once; the dispatcher sees to that within this process, the lock between
//! processes. It ends with its descriptor, so a dead process never holds it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::oneshot;

use super::identity::{Tree, TreeId, invalid, replaced};
use crate::error::{ErrorKind, HookError};

/// The right to run hooks in a tree, until it is dropped.
#[derive(Debug)]
pub(crate) struct TreeLock {
    /// Held for its `Drop`, which unlocks.
    _file: Flock<File>,
}

/// What came of asking for a lock without waiting.
#[derive(Debug)]
pub(crate) enum TryLock {
    Locked(TreeLock),
    /// Another process has it; this is what to wait on.
    Busy(BusyTree),
}

/// A tree that another process works in.
#[derive(Debug)]
pub(crate) struct BusyTree {
    file: File,
    name: PathBuf,
}

/// Asks for the lock of `tree` and does not wait.
///
/// The folder itself is locked; where it cannot be (not readable, or a file
/// system without locks), a file in `fallback_folder` that stands for it.
pub(crate) fn try_lock(tree: &Tree, fallback_folder: &Path) -> Result<TryLock, HookError> {
    match File::open(&tree.path) {
        Ok(folder) => {
            let metadata = folder.metadata().map_err(|error| invalid(&tree.path, &error.to_string()))?;
            if TreeId::of(&metadata) != tree.id {
                return Err(replaced(&tree.path));
            }
            match attempt(folder, tree.path.clone()) {
                Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EBADF | Errno::EIO) => {}
                outcome => return outcome.map_err(|errno| lock_failed(&tree.path, errno.into())),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(invalid(&tree.path, &error.to_string())),
    }
    let stand_in = fallback_folder.join(format!("{}-{}", tree.id.device, tree.id.inode));
    let file = std::fs::create_dir_all(fallback_folder)
        .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(&stand_in))
        .map_err(|error| lock_failed(&stand_in, error))?;
    attempt(file, stand_in.clone()).map_err(|errno| lock_failed(&stand_in, errno.into()))
}

fn attempt(file: File, name: PathBuf) -> Result<TryLock, Errno> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(TryLock::Locked(TreeLock { _file: file })),
        Err((file, Errno::EWOULDBLOCK)) => Ok(TryLock::Busy(BusyTree { file, name })),
        Err((_, errno)) => Err(errno),
    }
}

fn lock_failed(path: &Path, error: io::Error) -> HookError {
    HookError::new(ErrorKind::InvalidSource, format!("cannot lock {}: {error}", path.display()))
}

impl BusyTree {
    /// Waits for the lock on a thread of its own.
    ///
    /// `flock` cannot be waited for without a thread, and the thread cannot be
    /// called off; when the receiver is dropped it goes on waiting, gets the
    /// lock at last, and lets go of it at once. The dispatcher bounds how many
    /// wait.
    pub fn wait(self) -> oneshot::Receiver<Result<TreeLock, HookError>> {
        let (sender, receiver) = oneshot::channel();
        let name = self.name.clone();
        let spawned = std::thread::Builder::new().name("hookpool-lock".into()).stack_size(64 * 1024).spawn(move || {
            let BusyTree { file, name } = self;
            let outcome = lock_blocking(file)
                .map(|file| TreeLock { _file: file })
                .map_err(|errno| lock_failed(&name, errno.into()));
            let _ = sender.send(outcome);
        });
        match spawned {
            Ok(_) => receiver,
            Err(error) => {
                let (sender, receiver) = oneshot::channel();
                let _ = sender.send(Err(lock_failed(&name, error)));
                receiver
            }
        }
    }
}

fn lock_blocking(mut file: File) -> Result<Flock<File>, Errno> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Err((same, Errno::EINTR)) => file = same,
            outcome => return outcome.map_err(|(_, errno)| errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(tree: &Tree) -> TryLock {
        try_lock(tree, Path::new("/nonexistent")).unwrap()
    }

    #[tokio::test]
    async fn a_waiter_gets_the_lock_when_the_holder_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::find(folder.path()).unwrap();
        let TryLock::Locked(holder) = locked(&tree) else { panic!("the tree is free") };
        let TryLock::Busy(busy) = locked(&tree) else { panic!("the tree is held") };
        let mut waiter = busy.wait();
        assert!(waiter.try_recv().is_err());
        drop(holder);
        waiter.await.unwrap().unwrap();
        assert!(matches!(locked(&tree), TryLock::Locked(_)));
    }

    #[test]
    fn a_folder_that_was_replaced_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("tree");
        std::fs::create_dir(&path).unwrap();
        let tree = Tree::find(&path).unwrap();
        std::fs::rename(&path, parent.path().join("old")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = try_lock(&tree, Path::new("/nonexistent")).unwrap_err();
        assert!(error.message.contains("replaced"), "{}", error.message);
    }
}
