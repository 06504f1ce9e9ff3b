//! The lock of a source tree: one process at a time works in it.
//!
//! setuptools, pdm-backend and hatch-mypyc fail when two hooks run in one tree
//! at once. The dispatcher prevents that within this process, the lock between
//! processes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;

use super::file::was_free;
use crate::error::{ErrorKind, HookError};
use crate::files::kept;
use crate::tree::{Tree, TreeId, TreePath, invalid};

/// The right to run hooks in a tree, until it is dropped.
#[derive(Debug)]
pub(crate) struct TreeLock {
    /// The folder that is locked.
    pub tree: TreeId,
    /// Whether dropping it may take time: a network file system asks its server.
    pub is_slow_to_drop: bool,
    own: OwnLocks,
    /// Held until this is dropped.
    file: Option<File>,
}

/// The trees that this process has locked, each with the path of the queue that
/// holds the lock. The mutex is held for a look-up only.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnLocks(Arc<Mutex<HashMap<TreeId, TreePath>>>);

impl OwnLocks {
    /// Records that `queue` is about to lock the tree. If another queue has
    /// recorded that before, returns the path of that queue instead.
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
        // In this order: another queue of this process that finds the tree locked
        // must also find which queue holds the lock.
        drop(self.file.take());
        self.own.give_up(self.tree);
    }
}

/// The result of an attempt to take a lock.
#[derive(Debug)]
pub(crate) enum TryLock {
    Locked(TreeLock),
    /// This process holds it, for the queue of this path.
    Ours(TreePath),
    /// Another process holds it, and will close this file or folder when it
    /// releases it.
    Busy(PathBuf),
}

/// Tries to lock `tree` for the queue of the path `queue`. Does not wait.
///
/// Locks the folder itself. Where that is not possible (it is not readable, or
/// its file system has no locks), locks a file in `fallback_folder` instead.
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

/// The file that is locked in place of a tree that cannot be locked itself.
pub(super) fn stand_in(tree: &Tree, fallback_folder: &Path) -> PathBuf {
    fallback_folder.join(format!("{}-{}", tree.id.device, tree.id.inode))
}

enum Attempt {
    Locked(File),
    Busy(PathBuf),
}

fn lock_folder_or(tree: &Tree, fallback_folder: &Path) -> Result<Attempt, HookError> {
    match File::open(&tree.path) {
        Ok(folder) => match attempt(folder, &tree.path) {
            Err(error) if cannot_be_locked(&error) => {}
            outcome => return outcome.map_err(|error| lock_failed(&tree.path, &error)),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(invalid(&tree.path, &error)),
    }
    let stand_in = stand_in(tree, fallback_folder);
    let made = kept::folder(fallback_folder).map_err(io::Error::other);
    let file = made.and_then(|()| kept::make_lock(&stand_in)).map_err(|error| lock_failed(&stand_in, &error))?;
    attempt(file, &stand_in).map_err(|error| lock_failed(&stand_in, &error))
}

fn attempt(file: File, path: &Path) -> io::Result<Attempt> {
    Ok(if was_free(file.try_lock())? { Attempt::Locked(file) } else { Attempt::Busy(path.to_owned()) })
}

/// Whether a file system has no locks, or none of folders, or none just now.
fn cannot_be_locked(error: &io::Error) -> bool {
    use libc::{EBADF, EINVAL, EIO, ENOLCK, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(ENOLCK | EOPNOTSUPP | EINVAL | EBADF | EIO))
}

/// Whether the file lies on a local file system that is known to release locks
/// without asking a server (statfs(2)).
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
    use super::*;
    use crate::tree::tree_path;

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
