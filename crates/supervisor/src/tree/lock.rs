//! One process at a time in a tree: `flock(2)` on its folder.
//!
//! setuptools, pdm-backend and hatch-mypyc fail when two hooks run in one tree
//! at once; the dispatcher sees to that within this process, the lock between
//! processes. It ends with its descriptor, so a dead process never holds it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::identity::{Tree, TreeId, TreePath, invalid};
use crate::error::{ErrorKind, HookError};
use crate::kept;

/// The right to run hooks in a tree, until it is dropped.
#[derive(Debug)]
pub(crate) struct TreeLock {
    /// The folder that is locked.
    pub tree: TreeId,
    /// Whether to drop it may take time: network file systems ask their server.
    pub is_slow_to_drop: bool,
    own: OwnLocks,
    /// Held until this is dropped.
    file: Option<Flock<File>>,
}

/// The locks of this process, and the paths of the queues that have them.
/// Locked for a look-up only.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnLocks(Arc<Mutex<HashMap<TreeId, TreePath>>>);

impl OwnLocks {
    /// Notes that a queue is about to lock a tree, unless another has it or is
    /// about to: which one.
    fn claim(&self, tree: TreeId, queue: &TreePath) -> Option<TreePath> {
        match self.paths().entry(tree) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                entry.insert(queue.clone());
                None
            }
        }
    }

    fn give_up(&self, tree: TreeId) {
        self.paths().remove(&tree);
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<TreeId, TreePath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TreeLock {
    fn drop(&mut self) {
        // In this order: whoever finds it locked has to find out that it is by us.
        drop(self.file.take());
        self.own.give_up(self.tree);
    }
}

/// What came of asking for a lock.
#[derive(Debug)]
pub(crate) enum TryLock {
    Locked(TreeLock),
    /// This process has it, for the queue of that path.
    Ours(TreePath),
    /// Somebody else has it. Whoever unlocks it closes this file or folder.
    Busy(PathBuf),
}

/// Asks for the lock of `tree` and does not wait.
///
/// The folder itself is locked; where it cannot be (not readable, or a file
/// system without locks), a file in `fallback_folder` that stands for it.
///
/// `queue` is the path of the queue that wants it.
pub(crate) fn try_lock(
    tree: &Tree,
    queue: &TreePath,
    own: &OwnLocks,
    fallback_folder: &Path,
) -> Result<TryLock, HookError> {
    if let Some(ours) = own.claim(tree.id, queue) {
        return Ok(TryLock::Ours(ours));
    }
    let locked = lock_folder_or(tree, fallback_folder);
    if !matches!(locked, Ok(Attempt::Locked(_))) {
        own.give_up(tree.id);
    }
    Ok(match locked? {
        Attempt::Locked(file) => TryLock::Locked(TreeLock {
            tree: tree.id,
            is_slow_to_drop: !is_on_a_disk(&file),
            own: own.clone(),
            file: Some(file),
        }),
        Attempt::Busy(path) => TryLock::Busy(path),
    })
}

/// The file that stands for a tree which cannot be locked itself.
pub(super) fn stand_in(tree: &Tree, fallback_folder: &Path) -> PathBuf {
    fallback_folder.join(format!("{}-{}", tree.id.device, tree.id.inode))
}

enum Attempt {
    Locked(Flock<File>),
    Busy(PathBuf),
}

fn lock_folder_or(tree: &Tree, fallback_folder: &Path) -> Result<Attempt, HookError> {
    match File::open(&tree.path) {
        Ok(folder) => match attempt(folder, &tree.path) {
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EBADF | Errno::EIO) => {}
            outcome => return outcome.map_err(|errno| lock_failed(&tree.path, &errno.into())),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(invalid(&tree.path, &error)),
    }
    let stand_in = stand_in(tree, fallback_folder);
    let made = kept::folder(fallback_folder).map_err(io::Error::other);
    let file = made.and_then(|()| kept::make_lock(&stand_in)).map_err(|error| lock_failed(&stand_in, &error))?;
    attempt(file, &stand_in).map_err(|errno| lock_failed(&stand_in, &errno.into()))
}

fn attempt(file: File, path: &Path) -> Result<Attempt, Errno> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Attempt::Locked(file)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Attempt::Busy(path.to_owned())),
        Err((_, errno)) => Err(errno),
    }
}

/// Whether the file lies on a file system of this machine, one of those that are
/// known to give up locks without asking anybody (statfs(2)).
#[cfg(target_os = "linux")]
fn is_on_a_disk(file: &File) -> bool {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
    };
    let known = [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC];
    fstatfs(file).is_ok_and(|status| known.contains(&status.filesystem_type()))
}

#[cfg(not(target_os = "linux"))]
fn is_on_a_disk(_: &File) -> bool {
    false
}

fn lock_failed(path: &Path, error: &io::Error) -> HookError {
    HookError::new(ErrorKind::SystemRefused, format!("cannot lock {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::identity::tree_path;
    use super::*;

    #[test]
    fn one_at_a_time_and_none_after_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::find(folder.path()).unwrap();
        let (queue, own) = (tree_path(folder.path()).unwrap(), OwnLocks::default());
        let locked = || try_lock(&tree, &queue, &own, Path::new("/nonexistent")).unwrap();
        let TryLock::Locked(holder) = locked() else { panic!("the tree is free") };
        assert!(matches!(locked(), TryLock::Ours(ours) if ours == queue));
        let of_others = try_lock(&tree, &queue, &OwnLocks::default(), Path::new("/nonexistent")).unwrap();
        assert!(matches!(of_others, TryLock::Busy(path) if path == tree.path));
        drop(holder);
        assert!(matches!(locked(), TryLock::Locked(_)));
    }

    #[test]
    fn a_lock_that_cannot_be_taken_is_not_the_trees_fault() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree { path: folder.path().join("tree"), ..Tree::find(folder.path()).unwrap() };
        std::fs::create_dir(&tree.path).unwrap();
        // The folder for stand-ins is a file.
        let fallback = folder.path().join("locks");
        std::fs::write(&fallback, "").unwrap();
        std::fs::set_permissions(&tree.path, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
        let queue = tree_path(&tree.path).unwrap();
        if let Err(error) = try_lock(&tree, &queue, &OwnLocks::default(), &fallback) {
            assert_eq!(error.kind, ErrorKind::SystemRefused, "{error}");
        } else {
            assert!(nix::unistd::geteuid().is_root(), "only root may read everything");
        }
    }
}
