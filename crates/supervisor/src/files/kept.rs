//! Files and folders that are kept in the cache folder between runs.
//!
//! Other users cannot write there, but files may still be damaged: by a full
//! disk, by a cleanup, by a hook. So files are read as regular files up to a
//! limit, and whatever cannot be used is removed and made again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::libc;

use crate::files::{FolderError, private_folder};
use crate::files::{Links, read_regular_file};

/// In bytes; no file that is read as a whole is larger.
const LARGEST: u64 = 64 << 20;

/// Reads a file.
///
/// # Errors
/// It is missing or damaged, and has to be made again.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular_file(path, Links::Refuse, LARGEST)
}

/// Writes a draft and renames it, so that the file is always complete.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(parent)?;
    draft.write_all(content)?;
    let draft = draft.into_temp_path();
    draft.persist(path).or_else(|refused| {
        // rename(2) does not replace a folder by a file.
        if !path.is_dir() {
            return Err(refused.error);
        }
        remove(path)?;
        refused.path.persist(path).map_err(|refused| refused.error)
    })
}

/// Removes a file or a folder, if it exists.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    let outcome = path.symlink_metadata().and_then(|found| match found.is_dir() {
        true => remove_folder(path),
        false => std::fs::remove_file(path),
    });
    match outcome {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        outcome => outcome,
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        // It has folders without permission to write.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        outcome => outcome,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes a folder in the cache folder. Anything else in its place is removed, as
/// is a folder that other users own or can write to.
///
/// # Errors
/// [`FolderError`].
pub fn folder(path: &Path) -> Result<(), FolderError> {
    let usable = private_folder(path).and_then(|()| give_back(path));
    match usable {
        Err(FolderError::Foreign { .. } | FolderError::Writable { .. } | FolderError::NotAFolder { .. }) => {
            let system = |source| FolderError::System { path: path.to_owned(), source };
            put_aside(path).map_err(system)?;
            private_folder(path)
        }
        usable => usable,
    }
}

/// Restores the owner's permissions.
fn give_back(path: &Path) -> Result<(), FolderError> {
    let mode = path.metadata().map(|metadata| metadata.mode());
    let mend = mode.and_then(|mode| match mode & 0o700 {
        0o700 => Ok(()),
        _ => std::fs::set_permissions(path, Permissions::from_mode(0o700)),
    });
    mend.map_err(|source| FolderError::System { path: path.to_owned(), source })
}

/// Removes a path. What cannot be removed, because other users own it, is
/// renamed.
pub(crate) fn put_aside(path: &Path) -> io::Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(".unusable-")
        .make_in(path.parent().unwrap_or(Path::new("/")), |aside| {
            // The name is random, and so not in use.
            std::fs::rename(path, aside)
        })?
        .into_temp_path();
    let aside = aside.keep().map_err(|error| error.error)?;
    if let Err(error) = remove(&aside) {
        tracing::debug!("{} stays: {error}", aside.display());
    }
    Ok(())
}

/// Opens a lock file, and makes it if it is missing. Anything else in its place
/// is removed, since nobody can hold its lock.
///
/// # Errors
/// The system refuses.
pub(crate) fn make_lock(path: &Path) -> io::Result<File> {
    open_lock(path, true)
}

/// Opens a lock file, if it exists.
///
/// # Errors
/// The system refuses.
pub(crate) fn find_lock(path: &Path) -> io::Result<Option<File>> {
    match open_lock(path, false) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_lock(path: &Path, make: bool) -> io::Result<File> {
    let error = match try_open_lock(path, make) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => remove(path)?,
        // It is not removed, since another process may hold its lock.
        Ok(_) if error.kind() == io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).or_else(|_| remove(path))?;
        }
        _ => return Err(error),
    }
    try_open_lock(path, make)
}

fn try_open_lock(path: &Path, make: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not truncated, since another process may hold its lock.
    options.create(make).append(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("expected a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    /// Puts each thing that a path can be, but a good file, in its place.
    fn damages(path: &Path) -> [Box<dyn Fn() + '_>; 4] {
        [
            Box::new(move || nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
            Box::new(move || symlink("/dev/zero", path).unwrap()),
            Box::new(move || symlink("/nowhere", path).unwrap()),
            Box::new(move || {
                std::fs::create_dir(path).unwrap();
                std::fs::write(path.join("file"), "").unwrap();
                std::fs::set_permissions(path, Permissions::from_mode(0o500)).unwrap();
            }),
        ]
    }

    #[test]
    fn whatever_is_in_the_place_of_a_file_or_of_a_lock_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("kept");
        for damage in damages(&path) {
            damage();
            assert!(read(&path).is_err());
            write(&path, b"whole").unwrap();
            assert_eq!(read(&path).unwrap(), b"whole");
            remove(&path).unwrap();
            damage();
            assert!(find_lock(&path).unwrap().is_none());
            damage();
            assert!(make_lock(&path).is_ok());
            remove(&path).unwrap();
        }
        remove(&path).unwrap();
        assert!(find_lock(&path).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        assert!(find_lock(&path).unwrap().is_some());
        assert_eq!(parent.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn whatever_is_in_the_place_of_a_folder_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("kept");
        for damage in damages(&path) {
            damage();
            folder(&path).unwrap();
            assert_eq!(path.symlink_metadata().unwrap().mode() & 0o777, 0o700);
            remove(&path).unwrap();
        }
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        std::fs::write(path.join("anybodys"), "").unwrap();
        folder(&path).unwrap();
        assert_eq!(path.read_dir().unwrap().count(), 0);
        assert_eq!(parent.path().read_dir().unwrap().count(), 1);
    }
}
