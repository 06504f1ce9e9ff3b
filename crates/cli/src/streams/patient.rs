//! Blocking reads and writes, even if another process has set `O_NONBLOCK`.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A file whose reads and writes block. `O_NONBLOCK` belongs to the open file
/// description: any process that shares the terminal or the pipe may have set it.
#[derive(Debug)]
pub struct Patient(File);

impl Patient {
    /// Duplicates the descriptor.
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

/// Waits for one of the events, or until the other end is closed, which poll(2) always
/// reports.
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
    fn blocks_although_the_file_does_not() {
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
    fn a_closed_reader_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        wait_for(&writer, PollFlags::empty()).unwrap();
    }
}
