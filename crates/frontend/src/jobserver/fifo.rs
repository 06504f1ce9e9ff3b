//! The fifo that contains the tokens, a byte for each.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tempfile::TempDir;
use tokio::net::unix::pipe::{self, Receiver};

/// The byte that make itself uses.
const TOKEN: u8 = b'+';

/// The least capacity of a pipe on any system, and so the limit for one read and for
/// the number of tokens.
pub(super) const CAPACITY: usize = 4096;

/// Our end of the fifo. It is open for reading and writing, so that the fifo keeps its
/// content, and no client waits until the other end is opened.
#[derive(Debug)]
pub(super) struct Fifo {
    file: File,
}

impl Fifo {
    /// Makes a fifo in a private folder of its own, which is removed when the
    /// [`TempDir`] is dropped.
    pub fn make(parent: &Path) -> io::Result<(Self, TempDir, PathBuf)> {
        let parent = std::path::absolute(place(parent))?;
        let folder = tempfile::Builder::new()
            .prefix("jobserver-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let path = folder.path().join("tokens");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // This does not make clients non-blocking: they open the path themselves.
        let file = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
        Ok((Self { file }, folder, path))
    }

    /// A reader to wait with for tokens. To be called within a tokio runtime.
    pub fn receiver(path: &Path) -> io::Result<Receiver> {
        pipe::OpenOptions::new().open_receiver(path)
    }

    /// Whether `path` is a fifo that this process may use.
    pub fn is_usable(path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt;
        path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
            && OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).is_ok()
    }

    /// Takes at most this number of tokens without waiting, and returns how many.
    pub fn take(&self, most: usize) -> usize {
        let mut buffer = [0; CAPACITY];
        loop {
            match (&self.file).read(&mut buffer[..most.min(CAPACITY)]) {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is empty, or cannot be read: either way there are no tokens.
                Err(_) => return 0,
            }
        }
    }

    /// Puts this number of tokens back.
    pub fn put(&self, tokens: usize) {
        let buffer = [TOKEN; CAPACITY];
        let tokens = &buffer[..tokens.min(CAPACITY)];
        // A write of this size is atomic. If it fails, a client has filled the pipe
        // with too many tokens, and ours are not missed.
        while (&self.file).write(tokens).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
    }

    /// Sets the number of tokens in it, and returns the number before.
    pub fn refill(&self, tokens: usize) -> usize {
        /// A client that does not stop writing must not block us.
        const MOST_READS: usize = 256;
        let mut found = 0;
        for _ in 0..MOST_READS {
            let taken = self.take(CAPACITY);
            found += taken;
            if taken < CAPACITY {
                break;
            }
        }
        self.put(tokens);
        found
    }
}

/// A folder whose path needs no escaping: `MAKEFLAGS` is split at blanks, make expands
/// what looks like a variable, and clients disagree about how to escape.
fn place(parent: &Path) -> PathBuf {
    let temporary = hookpool_supervisor::files::temporary_folder();
    [parent, &temporary].into_iter().find(|path| is_plain(path.as_os_str())).unwrap_or(Path::new("/tmp")).to_owned()
}

fn is_plain(path: &OsStr) -> bool {
    path.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,@:".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_put_and_taken() {
        let parent = tempfile::tempdir().unwrap();
        let (fifo, folder, path) = Fifo::make(parent.path()).unwrap();
        assert_eq!(fifo.take(5), 0);
        fifo.put(3);
        assert_eq!((fifo.take(2), fifo.take(2), fifo.take(2)), (2, 1, 0));
        fifo.put(7);
        assert_eq!(fifo.refill(2), 7);
        assert_eq!(fifo.refill(CAPACITY), 2);
        assert_eq!(fifo.refill(1), CAPACITY);
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_full_pipe_does_not_block() {
        let parent = tempfile::tempdir().unwrap();
        let (fifo, _folder, _path) = Fifo::make(parent.path()).unwrap();
        for _ in 0..1000 {
            fifo.put(CAPACITY);
        }
        assert!(fifo.refill(3) > CAPACITY);
        assert_eq!(fifo.take(CAPACITY), 3);
    }

    #[test]
    fn only_a_fifo_is_usable() {
        let parent = tempfile::tempdir().unwrap();
        let (_fifo, folder, path) = Fifo::make(parent.path()).unwrap();
        assert!(Fifo::is_usable(&path));
        assert!(!Fifo::is_usable(folder.path()));
        assert!(!Fifo::is_usable(Path::new("/dev/null")));
        assert!(!Fifo::is_usable(Path::new("/nowhere/GMfifo1")));
    }

    #[test]
    fn a_path_that_clients_would_misread_is_not_used() {
        for path in ["/a b", "/a$b", "/a\\b", "/a#b", "/ä"] {
            assert!(!is_plain(OsStr::new(path)), "{path}");
        }
        assert!(is_plain(OsStr::new("/tmp/hookpool-1000/run-aB3_/x.y")));
        assert_ne!(place(Path::new("/a b")), Path::new("/a b"));
    }
}
