//! Folders that nobody else may look into or write to.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It belongs to another user, who could change what is in it.
    #[error("{path} belongs to user {owner}: expected a folder of user {expected}")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The number of the user that it belongs to.
        owner: u32,
        /// The number of the user that this process runs as.
        expected: u32,
    },
    /// Others may write to it.
    #[error("{path} can be written by others (mode {mode:04o}): expected a folder that only its owner can write")]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user's link decides what the path leads to.
    #[error("{path} is a symbolic link of user {owner}, in a folder where everybody may make one")]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The number of the user that it belongs to.
        owner: u32,
    },
    /// It is something else than a folder.
    #[error("{path} is not a folder")]
    NotAFolder {
        /// What is not a folder.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot make or use the folder {path}: {source}")]
    System {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The system's folder for temporary files: what `TMPDIR` names, unless that is
/// empty.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is what is to be called in its place")]
pub fn temporary_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    if folder.as_os_str().is_empty() { PathBuf::from("/tmp") } else { folder }
}

/// Makes the folder, 0700, with its parents, or checks the one that is there:
/// it must belong to this user, and nobody else may write to it.
///
/// # Errors
/// [`FolderError`], which names the folder.
pub fn private_folder(path: &Path) -> Result<(), FolderError> {
    let system = |source: io::Error| match source.kind() {
        // Of making it: something else is there.
        io::ErrorKind::AlreadyExists => FolderError::NotAFolder { path: path.to_owned() },
        _ => FolderError::System { path: path.to_owned(), source },
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system)?;
    // Of the folder itself, not of what a symbolic link points to: whoever can
    // change the link decides where we write.
    let metadata = std::fs::symlink_metadata(path).map_err(system)?;
    if !metadata.is_dir() {
        return Err(FolderError::NotAFolder { path: path.to_owned() });
    }
    let (owner, expected) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    if owner != expected {
        return Err(FolderError::Foreign { path: path.to_owned(), owner, expected });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(FolderError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Refuses a path that leads through another user's symbolic link in a folder
/// where everybody may make one, such as `/tmp`: whoever made it decides where
/// we write. The rule is that of `fs.protected_symlinks` (proc_sys_fs(5)), which
/// guards opening only.
///
/// # Errors
/// [`FolderError::ForeignLink`].
pub fn refuse_foreign_links(path: &Path) -> Result<(), FolderError> {
    const STICKY: u32 = 0o1000;
    const BY_OTHERS: u32 = 0o002;
    let own = nix::unistd::geteuid().as_raw();
    for place in path.ancestors() {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // What is not there leads nowhere.
        let (Ok(link), Ok(folder)) = (place.symlink_metadata(), folder.metadata()) else { continue };
        let is_open = folder.mode() & (STICKY | BY_OTHERS) == STICKY | BY_OTHERS;
        if link.is_symlink() && is_open && link.uid() != own && link.uid() != folder.uid() {
            return Err(FolderError::ForeignLink { path: place.to_owned(), owner: link.uid() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_a_private_folder_and_accepts_it_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        private_folder(&path).unwrap();
        private_folder(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn refuses_what_others_can_write_and_what_is_no_folder() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        private_folder(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(&open).unwrap_err().to_string().contains("0777"));
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        assert!(matches!(private_folder(&link), Err(FolderError::NotAFolder { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(private_folder(file.path()), Err(FolderError::NotAFolder { .. })));
    }
}
