//! Files that wait, also where somebody else has made them not wait.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A file whose reads and writes wait. `O_NONBLOCK` belongs to the open file,
/// and so to everybody who shares a terminal or a pipe: any of them may have
/// set it.
#[derive(Debug)]
pub struct Patient(File);

impl Patient {
    /// A descriptor of its own for the same open file.
    pub fn share(descriptor: impl AsFd) -> io::Result<Self> {
        Ok(Self(File::from(descriptor.as_fd().try_clone_to_owned()?)))
    }
}

impl AsFd for Patient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::POLLIN)?,
                outcome => return outcome,
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::POLLOUT)?,
                outcome => return outcome,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits for one of the events, or for the other end to be closed, which the
/// system tells without being asked for.
pub fn wait_for(file: impl AsFd, events: PollFlags) -> io::Result<()> {
    let mut descriptors = [PollFd::new(file.as_fd(), events)];
    loop {
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn waits_where_the_file_does_not() {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let (mut near, mut far) = (Patient::share(near).unwrap(), Patient::share(far).unwrap());
        let sent = vec![b'x'; 4 * 1024 * 1024];
        let expected = sent.clone();
        let writer = std::thread::spawn(move || near.write_all(&sent).unwrap());
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert_eq!(received, expected);
    }

    #[test]
    fn a_reader_that_goes_away_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        wait_for(&writer, PollFlags::empty()).unwrap();
    }
}
