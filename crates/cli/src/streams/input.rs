//! Standard input, in pieces as they come.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::own_pipe;
use super::patient::Patient;

/// The most that is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// The reading end.
#[derive(Debug)]
pub struct Input {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A pipe, which the event loop reads when it says that there is something:
    /// a change of threads for each line would cost more than reading it.
    Pipe { pipe: Receiver, file: Patient, buffer: Vec<u8> },
    /// Anything else, which is read by a thread of its own. It is never joined;
    /// the process just ends.
    Thread(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Input {
    /// Starts to read standard input.
    pub fn start() -> io::Result<Self> {
        Self::of(io::stdin())
    }

    fn of(file: impl AsFd) -> io::Result<Self> {
        let shared = Patient::share(&file)?;
        let source = match own_pipe::receiver(&file) {
            Ok(pipe) => Source::Pipe { pipe, file: shared, buffer: vec![0; PIECE] },
            Err(_) => Source::Thread(read_in_thread(shared)?),
        };
        Ok(Self { source })
    }

    /// The next piece; an empty one at the end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut in_vain = 0;
        loop {
            match &mut self.source {
                Source::Thread(pieces) => return pieces.recv().await.unwrap_or_else(|| Ok(Vec::new())),
                Source::Pipe { pipe, file, buffer } => {
                    pipe.readable().await?;
                    match pipe.try_read(buffer) {
                        Ok(length) => return Ok(buffer[..length].to_vec()),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        // All was read before, or somebody else has taken it. Told again at once: it
                        // had ended, and somebody has opened it anew; that would be told for ever.
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            in_vain += 1;
                            if in_vain > 1 {
                                self.source = Source::Thread(read_in_thread(Patient::share(file)?)?);
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
    // One piece: no more is read than is asked for.
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
    async fn a_pipe_is_read_as_it_is_filled() {
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
    async fn what_others_take_from_the_pipe_is_not_waited_for() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(&reader).unwrap();
        writer.write_all(b"theirs").unwrap();
        let Source::Pipe { pipe, .. } = &input.source else { panic!("it is a pipe") };
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
    async fn a_pipe_that_was_opened_anew_after_its_end_is_waited_for_by_a_thread() {
        use std::os::fd::AsRawFd;
        let (reader, writer) = io::pipe().unwrap();
        let mut input = Input::of(&reader).unwrap();
        drop(writer);
        let Source::Pipe { pipe, .. } = &input.source else { panic!("it is a pipe") };
        pipe.readable().await.unwrap();
        let name = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut writer = File::options().write(true).open(name).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), input.next()).await.is_err());
        assert!(matches!(input.source, Source::Thread(_)));
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
        assert!(matches!(input.source, Source::Thread(_)));
        assert_eq!(all(&mut input).await, expected);
        assert!(input.next().await.unwrap().is_empty(), "the end stays the end");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut input = Input::of(File::open(folder.path()).unwrap()).unwrap();
        assert!(input.next().await.is_err());
    }
}
