//! An open file of our own for a pipe that others have open as well.
//!
//! `O_NONBLOCK` belongs to the open file, and so to everybody who shares it: the
//! shell, and whatever else it has started. But a pipe can be opened once more,
//! by its name in `/proc/self/fd` (proc(5)), and what comes of that is ours.
//!
//! Anonymous pipes only. One with a name (fifo(7)) does not tell that its last
//! writer was gone before it was opened, and goes on with the next writer after
//! it has told its end. Anything else might do who knows what when it is opened:
//! a terminal becomes that of the session.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// A reading end for the event loop.
///
/// # Errors
/// It is no anonymous pipe that is open for reading, or belongs to another user,
/// or this is not Linux.
pub fn receiver(file: impl AsFd) -> io::Result<Receiver> {
    expect_pipe(&file, OFlag::O_RDONLY)?;
    OpenOptions::new().open_receiver(name(file))
}

/// A writing end for the event loop.
///
/// # Errors
/// As with [`receiver`].
pub fn sender(file: impl AsFd) -> io::Result<Sender> {
    expect_pipe(&file, OFlag::O_WRONLY)?;
    OpenOptions::new().open_sender(name(file))
}

/// Whoever opens it anew could do so for reading and for writing, whatever it
/// was open for.
fn expect_pipe(file: impl AsFd, access: OFlag) -> io::Result<()> {
    let found = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    let may = found == access || found == OFlag::O_RDWR;
    if may && is_anonymous_pipe(file)? { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

#[cfg(target_os = "linux")]
fn is_anonymous_pipe(file: impl AsFd) -> io::Result<bool> {
    /// statfs(2)
    const PIPEFS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x5049_5045);
    Ok(nix::sys::statfs::fstatfs(&file)?.filesystem_type() == PIPEFS)
}

#[cfg(not(target_os = "linux"))]
fn is_anonymous_pipe(_: impl AsFd) -> io::Result<bool> {
    Ok(false)
}

fn name(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn the_file_that_is_shared_stays_as_it_is() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let (own_reader, own_writer) = (receiver(&reader).unwrap(), sender(&writer).unwrap());
        own_writer.writable().await.unwrap();
        assert_eq!(own_writer.try_write(b"to the others").unwrap(), 13);
        let mut bytes = [0; 13];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"to the others");
        writer.write_all(b"to us").unwrap();
        own_reader.readable().await.unwrap();
        assert_eq!(own_reader.try_read(&mut bytes).unwrap(), 5);
        assert_eq!(own_reader.try_read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for flags in [fcntl(&reader, FcntlArg::F_GETFL), fcntl(&writer, FcntlArg::F_GETFL)] {
            assert!(!OFlag::from_bits_retain(flags.unwrap()).contains(OFlag::O_NONBLOCK));
        }
    }

    #[tokio::test]
    async fn what_is_no_pipe_is_refused() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(receiver(&socket).is_err() && sender(&socket).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(receiver(&file).is_err() && sender(&file).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let named = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        assert!(receiver(&named).is_err() && sender(&named).is_err());
    }

    #[tokio::test]
    async fn the_wrong_end_is_refused() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(receiver(&writer).is_err() && sender(&reader).is_err());
    }
}
