//! Standard input, or what another task reads, in pieces as they come.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::own_pipe;
use super::patient::Patient;

/// The most that is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Reads the pieces.
#[derive(Debug)]
pub struct Input {
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    /// The event loop reads a pipe when it is readable: for one line, two switches
    /// between threads would take longer than reading it.
    EventLoop { pipe: Receiver, file: Patient, buffer: Vec<u8> },
    /// A thread reads everything else of standard input. It is never joined; the
    /// process just ends.
    Channel(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Input {
    /// Starts reading standard input.
    pub fn start() -> io::Result<Self> {
        Self::of(io::stdin())
    }

    /// Takes the pieces from a channel; its end is the end of the input.
    pub fn from_channel(pieces: mpsc::Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { reader: Reader::Channel(pieces) }
    }

    fn of(file: impl AsFd) -> io::Result<Self> {
        let shared = Patient::share(&file)?;
        let reader = match own_pipe::receiver(&file) {
            Ok(pipe) => Reader::EventLoop { pipe, file: shared, buffer: vec![0; PIECE] },
            Err(_) => Reader::Channel(read_in_thread(shared)?),
        };
        Ok(Self { reader })
    }

    /// The next piece; an empty one at the end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut empty_reads = 0;
        loop {
            match &mut self.reader {
                Reader::Channel(pieces) => return pieces.recv().await.unwrap_or_else(|| Ok(Vec::new())),
                Reader::EventLoop { pipe, file, buffer } => {
                    pipe.readable().await?;
                    match pipe.try_read(buffer) {
                        Ok(length) => return Ok(buffer[..length].to_vec()),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        // The pipe was empty, or another process has read it. If it is reported readable
                        // again at once, its last writer had gone and another process has opened it
                        // for writing since: from then on it is always reported readable.
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            empty_reads += 1;
                            if empty_reads > 1 {
                                self.reader = Reader::Channel(read_in_thread(Patient::share(file)?)?);
                            }
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

fn read_in_thread(mut file: Patient) -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    // A capacity of one: nothing is read long before it is asked for.
    let (sender, pieces) = mpsc::channel(1);
    std::thread::Builder::new().name("input".into()).spawn(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).map(|length| {
                piece.truncate(length);
                piece
            });
            let is_last = !read.as_ref().is_ok_and(|piece| !piece.is_empty());
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    async fn all(input: &mut Input) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = input.next().await.unwrap();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[tokio::test]
    async fn a_pipe_is_read_while_it_is_filled() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(reader).unwrap();
        writer.write_all(b"one").unwrap();
        assert_eq!(input.next().await.unwrap(), b"one");
        assert!(tokio::time::timeout(std::time::Duration::ZERO, input.next()).await.is_err());
        let sent = vec![b'x'; 3 * PIECE + 1];
        let expected = sent.clone();
        let thread = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        assert_eq!(all(&mut input).await, expected);
        thread.join().unwrap();
        assert!(input.next().await.unwrap().is_empty(), "the end stays the end");
    }

    #[tokio::test]
    async fn another_reader_of_the_pipe_does_not_block_the_event_loop() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(&reader).unwrap();
        writer.write_all(b"theirs").unwrap();
        let Reader::EventLoop { pipe, .. } = &input.reader else { panic!("a thread reads it") };
        pipe.readable().await.unwrap();
        reader.read_exact(&mut [0; 6]).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), input.next()).await.is_err());
        writer.write_all(b"ours").unwrap();
        assert_eq!(input.next().await.unwrap(), b"ours");
        drop(writer);
        assert!(input.next().await.unwrap().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_thread_reads_a_pipe_that_was_reopened_after_its_end() {
        use std::os::fd::AsRawFd;
        let (reader, writer) = io::pipe().unwrap();
        let mut input = Input::of(&reader).unwrap();
        drop(writer);
        let Reader::EventLoop { pipe, .. } = &input.reader else { panic!("a thread reads it") };
        pipe.readable().await.unwrap();
        let name = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut writer = File::options().write(true).open(name).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), input.next()).await.is_err());
        assert!(matches!(input.reader, Reader::Channel(_)));
        writer.write_all(b"more").unwrap();
        assert_eq!(input.next().await.unwrap(), b"more");
        drop(writer);
        assert!(input.next().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_is_read_to_its_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let expected = vec![b'x'; 2 * PIECE + 1];
        file.write_all(&expected).unwrap();
        let mut input = Input::of(File::open(file.path()).unwrap()).unwrap();
        assert!(matches!(input.reader, Reader::Channel(_)));
        assert_eq!(all(&mut input).await, expected);
        assert!(input.next().await.unwrap().is_empty(), "the end stays the end");
    }

    #[tokio::test]
    async fn a_folder_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut input = Input::of(File::open(folder.path()).unwrap()).unwrap();
        assert!(input.next().await.is_err());
    }
}
