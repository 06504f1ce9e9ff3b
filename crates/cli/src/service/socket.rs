//! The Unix socket of a service: where it is, and how it gets there.
//!
//! A socket is bound under another name and renamed into place when the service is
//! ready, so that whoever finds it is answered, and a new service can take the place
//! of an old one without a gap.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{FolderError, private_folder};
use nix::fcntl::{Flock, FlockArg};

use crate::folders;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The folder is not safe.
    #[error("the folder of the socket: {0}")]
    Folder(#[from] FolderError),
    /// The path is not one of a socket.
    #[error("{path}: expected a path with a folder and at most {longest} bytes")]
    Path { path: PathBuf, longest: usize },
    /// No default is known.
    #[error("no path for the socket is known: {reason}")]
    NoDefault { reason: String },
    /// Something else has the name.
    #[error("{path} exists and is not a socket")]
    Taken { path: PathBuf },
    /// Another service answers.
    #[error("another service listens at {path}")]
    InUse { path: PathBuf },
    /// The system refuses.
    #[error("cannot listen at {path}: {source}")]
    System { path: PathBuf, source: io::Error },
}

/// The path of the service: the chosen one, else the default.
pub fn path_or_default(chosen: Option<PathBuf>, cache: Option<PathBuf>) -> Result<PathBuf, SocketError> {
    chosen.map_or_else(|| default_path(cache), Ok)
}

/// The path at which a user's service is found, unless one is chosen: in the
/// user's folder for sockets and the like (XDG Base Directory), else in the cache.
fn default_path(cache: Option<PathBuf>) -> Result<PathBuf, SocketError> {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => Ok(PathBuf::from(folder).join("hookpool").join(NAME)),
        None => {
            let cache = folders::cache_path(cache).map_err(|reason| SocketError::NoDefault { reason })?;
            Ok(cache.join("service").join(NAME))
        }
    }
}

const NAME: &str = "hookpool.sock";

/// The longest path of a socket, in bytes (unix(7)).
const LONGEST: usize = 107;

/// A socket that listens under another name than its own.
#[derive(Debug)]
pub struct HiddenSocket {
    listener: UnixListener,
    path: PathBuf,
    hidden: PathBuf,
}

/// A socket in its place. Dropping it removes it, unless another one has taken its
/// place.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    identity: (u64, u64),
}

impl HiddenSocket {
    /// Binds a socket in a folder that only this user can change. With `take_over`,
    /// another service may be listening at the path.
    pub fn bind(path: &Path, take_over: bool) -> Result<Self, SocketError> {
        let wrong = || SocketError::Path { path: path.to_owned(), longest: LONGEST };
        let system = |source| SocketError::System { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(|_| wrong())?;
        let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else { return Err(wrong()) };
        // A short name, for folders with long ones.
        let hidden = folder.join(format!(".{}", std::process::id()));
        if path.as_os_str().len().max(hidden.as_os_str().len()) > LONGEST {
            return Err(wrong());
        }
        private_folder(folder)?;
        check_place(&path, take_over)?;
        // Of a process that had the same number and was killed.
        let _ = std::fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).map_err(system)?;
        let socket = Self { listener, path, hidden };
        std::fs::set_permissions(&socket.hidden, Permissions::from_mode(0o600)).map_err(system)?;
        socket.listener.set_nonblocking(true).map_err(system)?;
        Ok(socket)
    }

    /// The place that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the socket into its place.
    pub fn publish(self, take_over: bool) -> Result<(Socket, UnixListener), SocketError> {
        let system = |source| SocketError::System { path: self.path.clone(), source };
        let _lock = lock(&self.path).map_err(system)?;
        // Another service may have come meanwhile.
        check_place(&self.path, take_over)?;
        std::fs::rename(&self.hidden, &self.path).map_err(system)?;
        let metadata = std::fs::symlink_metadata(&self.path).map_err(system)?;
        let socket = Socket { path: self.path.clone(), identity: (metadata.dev(), metadata.ino()) };
        Ok((socket, self.listener.try_clone().map_err(system)?))
    }
}

impl Drop for HiddenSocket {
    fn drop(&mut self) {
        // It is gone if the socket was moved.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Without the lock, a socket that takes this one's place now would be removed.
        let Ok(_lock) = lock(&self.path) else { return };
        let is_ours = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What has the path must be a socket, and nobody may listen there.
fn check_place(path: &Path, take_over: bool) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::Taken { path: path.to_owned() });
    }
    if !take_over && UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned() });
    }
    Ok(())
}

/// Held while a socket is moved or removed.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(name)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_is_private_and_removed_at_its_end() {
        let folder = private();
        let path = folder.path().join("made").join("s");
        let hidden = HiddenSocket::bind(&path, false).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "nobody finds it before it is ready");
        let (socket, _listener) = hidden.publish(false).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_service_is_replaced_only_if_that_is_wanted() {
        let folder = private();
        let path = folder.path().join("s");
        let (old, _listener) = HiddenSocket::bind(&path, false).unwrap().publish(false).unwrap();
        assert!(matches!(HiddenSocket::bind(&path, false), Err(SocketError::InUse { .. })));
        let (new, _listener) = HiddenSocket::bind(&path, true).unwrap().publish(true).unwrap();
        drop(old);
        UnixStream::connect(&path).expect("the old service does not remove the new socket");
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_service_left_is_replaced() {
        let folder = private();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        drop(HiddenSocket::bind(&path, false).unwrap().publish(false).unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(matches!(HiddenSocket::bind(&path, true), Err(SocketError::Taken { .. })));
    }

    #[test]
    fn folders_of_others_and_long_paths_are_refused() {
        let folder = private();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(HiddenSocket::bind(&open.join("s"), false), Err(SocketError::Folder(_))));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(matches!(HiddenSocket::bind(&link.join("s"), false), Err(SocketError::Folder(_))));
        let long = folder.path().join("x".repeat(LONGEST));
        assert!(matches!(HiddenSocket::bind(&long, false), Err(SocketError::Path { .. })));
    }
}
