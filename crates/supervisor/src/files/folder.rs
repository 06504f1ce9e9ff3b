//! Folders that other users can neither read nor change.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It belongs to another user, who could change its content.
    #[error("{path} belongs to user {owner}: expected a folder of user {expected}")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        expected: u32,
    },
    /// Other users can write to it.
    #[error("{path} can be written by others (mode {mode:04o}): expected a folder that only its owner can write")]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link of another user decides where the path leads.
    #[error("{path} is a symbolic link of user {owner}, in a folder where everybody may make one")]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// It is not a folder.
    #[error("{path} is not a folder")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot make or use the folder {path}: {source}")]
    System {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The system's folder for temporary files. Unlike [`std::env::temp_dir`], it
/// ignores an empty `TMPDIR`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is what is to be called in its place")]
pub fn temporary_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    if folder.as_os_str().is_empty() { PathBuf::from("/tmp") } else { folder }
}

/// Makes a folder and its parents with mode 0700. A folder that exists must
/// belong to this user, and no other user may write to it.
///
/// # Errors
/// [`FolderError`].
pub fn private_folder(path: &Path) -> Result<(), FolderError> {
    let system = |source: io::Error| match source.kind() {
        // Something that is not a folder exists.
        io::ErrorKind::AlreadyExists => FolderError::NotAFolder { path: path.to_owned() },
        _ => FolderError::System { path: path.to_owned(), source },
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system)?;
    // The path itself and not the target of a link: whoever can change the link
    // decides where we write.
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

/// Refuses a path through a symbolic link that another user has made in a folder
/// such as `/tmp`, where everybody can: that user would decide where we write.
/// The rule is that of `fs.protected_symlinks` (proc_sys_fs(5)), which protects
/// opening files only.
///
/// # Errors
/// [`FolderError::ForeignLink`].
pub fn refuse_foreign_links(path: &Path) -> Result<(), FolderError> {
    const STICKY: u32 = 0o1000;
    const BY_OTHERS: u32 = 0o002;
    let own = nix::unistd::geteuid().as_raw();
    for place in path.ancestors() {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A path that does not exist is not a link.
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
