//! Standard output, written by a thread of its own, so that a reader who
//! stalls keeps nobody waiting but the responses.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::poll::PollFlags;
use tokio::sync::mpsc::{self, Permit};
use tokio::sync::oneshot;

use super::patient::{Patient, wait_for};

/// The writing end.
#[derive(Debug)]
pub struct Output {
    writer: Writer,
    reports: Reports,
}

/// Where lines are put.
#[derive(Debug)]
pub struct Writer(mpsc::Sender<Vec<u8>>);

/// What the threads have to say, once each.
#[derive(Debug)]
pub struct Reports {
    /// How writing ended.
    written: oneshot::Receiver<io::Result<()>>,
    /// There is no reader any more.
    closed: oneshot::Receiver<()>,
}

/// Room for one line.
pub type Room<'output> = Permit<'output, Vec<u8>>;

/// Lines that wait for the writing thread.
const WAITING_LINES: usize = 16;

impl Output {
    /// Starts the thread that writes, and one that notices when nobody reads
    /// any more while there is nothing to write.
    pub fn start() -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let (report_end, written) = oneshot::channel();
        let (report_closed, closed) = oneshot::channel();
        // Not `Stdout`, whose buffer is flushed at each newline.
        let target = Patient::share(io::stdout())?;
        let watched = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            let _ = report_end.send(write_lines(target, waiting));
        })?;
        if is_pipe(&watched)? {
            std::thread::Builder::new().name("output watch".into()).spawn(move || {
                // There is no event for the end of the last reader; it is told
                // without one.
                if wait_for(&watched, PollFlags::empty()).is_ok() {
                    let _ = report_closed.send(());
                }
            })?;
        }
        Ok(Self { writer: Writer(lines), reports: Reports { written, closed } })
    }

    /// Both halves, to be waited for at once.
    pub fn halves(&mut self) -> (&Writer, &mut Reports) {
        (&self.writer, &mut self.reports)
    }

    /// Waits until everything is written. A reader that goes away after that
    /// is none of our business.
    pub async fn finish(self) -> io::Result<()> {
        let Self { writer, reports } = self;
        drop(writer);
        reports.written.await.unwrap_or(Ok(()))
    }
}

impl Writer {
    /// Waits for room; for ever once writing has failed. Cancel-safe.
    pub async fn room(&self) -> Room<'_> {
        match self.0.reserve().await {
            Ok(room) => room,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Reports {
    /// Waits until nothing can be written any more. Not to be called again
    /// after it has said so; cancel-safe until then.
    pub async fn failure(&mut self) -> io::Error {
        tokio::select! {
            // The thread ends well only when there is no [`Writer`] any more.
            Ok(Err(error)) = &mut self.written => error,
            // Nobody watches what is no pipe.
            Ok(()) = &mut self.closed => io::ErrorKind::BrokenPipe.into(),
            else => std::future::pending().await,
        }
    }
}

/// Writes what there is, and flushes before it waits for more.
fn write_lines(target: impl Write, mut waiting: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 * 1024, target);
    while let Some(mut line) = waiting.blocking_recv() {
        loop {
            writer.write_all(&line)?;
            match waiting.try_recv() {
                Ok(next) => line = next,
                Err(_) => break,
            }
        }
        writer.flush()?;
    }
    Ok(())
}

fn is_pipe(file: &File) -> io::Result<bool> {
    let kind = file.metadata()?.file_type();
    Ok(kind.is_fifo() || kind.is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order() {
        let (sender, waiting) = mpsc::channel(8);
        for line in ["a\n", "b\n"] {
            sender.try_send(line.as_bytes().to_vec()).unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        write_lines(&mut written, waiting).unwrap();
        assert_eq!(written, b"a\nb\n");
    }
}
