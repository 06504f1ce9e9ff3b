//! Opens a pipe of standard input or output once more, in non-blocking mode.
//!
//! `O_NONBLOCK` belongs to the open file description, which other processes share: the
//! shell and whatever else it has started. A pipe can be opened again by its name in
//! `/proc/self/fd` (proc(5)); the result has a description of its own.
//!
//! This only works for anonymous pipes. A reader that opens a named pipe (fifo(7))
//! does not notice that the last writer has closed it before, and reads on when the
//! next writer comes. Opening any other file may have side effects: a terminal may
//! become the controlling terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// A reading end for the event loop.
///
/// # Errors
/// The file is not an anonymous pipe that is open for reading, it belongs to another
/// user, or the system is not Linux.
pub fn receiver(file: impl AsFd) -> io::Result<Receiver> {
    expect_pipe(&file, OFlag::O_RDONLY)?;
    OpenOptions::new().open_receiver(name(file))
}

/// A writing end for the event loop.
///
/// # Errors
/// Those of [`receiver`].
pub fn sender(file: impl AsFd) -> io::Result<Sender> {
    expect_pipe(&file, OFlag::O_WRONLY)?;
    OpenOptions::new().open_sender(name(file))
}

/// Checks the access mode, since either end of a pipe can be opened again in any mode.
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
    async fn the_shared_file_description_stays_blocking() {
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
    async fn everything_but_an_anonymous_pipe_is_refused() {
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
