//! Which tree a path names: the folder itself, not its spelling.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{ErrorKind, HookError};

/// The path of a tree as the caller named it, made absolute without file access.
/// Requests of one path share a queue, and so do paths that are found to lead to
/// one folder.
pub(crate) type TreePath = Arc<Path>;

/// The path of a tree, by which its queue is found.
pub(crate) fn tree_path(path: &Path) -> Result<TreePath, HookError> {
    std::path::absolute(path).map(Into::into).map_err(|error| invalid(path, &error))
}

/// The identity of a folder: the same for all paths to it, and another for a
/// folder that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreeId {
    pub device: u64,
    pub inode: u64,
}

/// A source tree that exists, or existed when it was visited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tree {
    pub id: TreeId,
    /// Absolute, symbolic links resolved.
    pub path: PathBuf,
}

impl Tree {
    /// Resolves a path. Blocks.
    pub fn find(path: &Path) -> Result<Self, HookError> {
        let canonical = path.canonicalize().map_err(|error| invalid(path, &error))?;
        let metadata = canonical.metadata().map_err(|error| invalid(path, &error))?;
        if !metadata.is_dir() {
            return Err(invalid(path, &io::Error::other("it is not a folder")));
        }
        Ok(Self { id: TreeId::of(&metadata), path: canonical })
    }
}

impl TreeId {
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The error of a tree that was replaced by another folder.
pub(crate) fn replaced(path: &Path) -> HookError {
    invalid(path, &io::Error::other("it was replaced by another folder while hooks ran there"))
}

pub(crate) fn invalid(path: &Path, error: &io::Error) -> HookError {
    let message = format!("source tree {}: expected a folder that can be read: {error}", path.display());
    HookError::at_file(ErrorKind::InvalidSource, error, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_folder_are_one_tree() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert_eq!(Tree::find(folder.path()).unwrap(), Tree::find(&link).unwrap());
        let with_slash = format!("{}/.//", folder.path().display());
        assert_eq!(tree_path(Path::new(&with_slash)).unwrap(), tree_path(folder.path()).unwrap());
    }

    #[test]
    fn a_file_and_a_missing_path_are_no_trees() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Tree::find(file.path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidSource);
        assert!(error.message.contains("not a folder"), "{}", error.message);
        let error = Tree::find(Path::new("/no/such/tree")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidSource);
        assert!(error.message.contains("/no/such/tree"), "{}", error.message);
        assert_eq!(tree_path(Path::new("")).unwrap_err().kind, ErrorKind::InvalidSource);
    }
}
