//! Writes lines to standard output, or to another task. For standard output, a thread writes what the pipe has no room for, so that a reader that
//! stalls delays only the responses.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use nix::poll::PollFlags;
use tokio::net::unix::pipe::Sender;
use tokio::sync::mpsc::{self, Permit};
use tokio::sync::oneshot;

use super::own_pipe;
use super::patient::{Patient, wait_for};

/// Where the lines go.
#[derive(Debug)]
pub struct Output {
    writer: Writer,
    reports: Reports,
}

/// Takes the lines.
#[derive(Debug)]
pub struct Writer {
    lines: mpsc::Sender<Vec<u8>>,
    /// The number of lines that the thread has not written yet.
    unwritten: Arc<AtomicUsize>,
    /// A pipe is written to directly: for one line, a switch between threads would
    /// take longer than writing it.
    pipe: Option<Sender>,
}

/// The reports of the threads, one of each.
#[derive(Debug)]
pub struct Reports {
    /// How writing ended.
    written: Option<oneshot::Receiver<io::Result<()>>>,
    /// The last reader has closed its end.
    closed: Option<oneshot::Receiver<()>>,
}

/// Receives lines: the other end of [`Output::to_channel`].
#[derive(Debug)]
pub struct LineReceiver {
    lines: mpsc::Receiver<Vec<u8>>,
    report_closed: Option<oneshot::Sender<()>>,
}

/// Room for one line.
#[derive(Debug)]
pub struct Room<'output> {
    permit: Permit<'output, Vec<u8>>,
    writer: &'output Writer,
}

/// Lines that wait for the writing thread.
const WAITING_LINES: usize = 16;

impl Output {
    /// Starts the thread that writes, and one that notices when the last reader closes
    /// its end while there is nothing to write.
    pub fn start() -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let (report_end, written) = oneshot::channel();
        let (report_closed, closed) = oneshot::channel();
        // `Stdout` would flush its buffer at each newline.
        let target = Patient::share(io::stdout())?;
        let unwritten = Arc::new(AtomicUsize::new(0));
        let writer = Writer { lines, unwritten: unwritten.clone(), pipe: own_pipe::sender(&target).ok() };
        let watched = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            let _ = report_end.send(write_lines(target, waiting, &unwritten));
        })?;
        if is_pipe(&watched)? {
            std::thread::Builder::new().name("output watch".into()).spawn(move || {
                // poll(2) reports a closed reading end even if no event is asked for.
                if wait_for(&watched, PollFlags::empty()).is_ok() {
                    let _ = report_closed.send(());
                }
            })?;
        }
        Ok(Self { writer, reports: Reports { written: Some(written), closed: Some(closed) } })
    }

    /// Sends the lines to whoever holds the receiver.
    pub fn to_channel() -> (Self, LineReceiver) {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let (report_closed, closed) = oneshot::channel();
        let writer = Writer { lines, unwritten: Arc::default(), pipe: None };
        let receiver = LineReceiver { lines: waiting, report_closed: Some(report_closed) };
        // What becomes of the lines is not this side's business.
        (Self { writer, reports: Reports { written: None, closed: Some(closed) } }, receiver)
    }

    /// Both halves, so that both can be awaited at the same time.
    pub fn halves(&mut self) -> (&Writer, &mut Reports) {
        (&self.writer, &mut self.reports)
    }

    /// Waits until everything is written. It does not matter if the reader closes its
    /// end after that.
    pub async fn finish(self) -> io::Result<()> {
        let Self { writer, reports } = self;
        drop(writer);
        match reports.written {
            Some(written) => written.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Writer {
    /// Waits for room; forever once writing has failed. Cancel-safe.
    pub async fn room(&self) -> Room<'_> {
        match self.lines.reserve().await {
            Ok(permit) => Room { permit, writer: self },
            Err(_) => std::future::pending().await,
        }
    }

    /// Writes as much as the pipe has room for, and returns the rest. Writes nothing
    /// while the thread has earlier lines.
    fn write_at_once(&self, mut line: Vec<u8>) -> Vec<u8> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.unwritten.load(Ordering::Acquire) == 0) else {
            return line;
        };
        // If this fails, the thread fails as well, and reports it.
        let written = pipe.try_write(&line).unwrap_or(0);
        line.split_off(written)
    }
}

impl Room<'_> {
    /// Writes a line.
    pub fn send(self, line: Vec<u8>) {
        let rest = self.writer.write_at_once(line);
        if !rest.is_empty() {
            self.writer.unwritten.fetch_add(1, Ordering::Release);
            self.permit.send(rest);
        }
    }
}

impl Reports {
    /// Waits until writing fails, and returns that once. Cancel-safe.
    pub async fn failure(&mut self) -> io::Error {
        tokio::select! {
            // The thread returns `Ok` only after the [`Writer`] was dropped.
            Some(Err(error)) = report(&mut self.written) => error,
            // Only a pipe has a thread that watches it.
            Some(()) = report(&mut self.closed) => io::ErrorKind::BrokenPipe.into(),
            else => std::future::pending().await,
        }
    }
}

/// Waits for a report, which comes once; `None`: it will not come. Cancel-safe.
async fn report<T>(receiver: &mut Option<oneshot::Receiver<T>>) -> Option<T> {
    let report = receiver.as_mut()?.await.ok();
    *receiver = None;
    report
}

impl Stream for LineReceiver {
    type Item = Vec<u8>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.lines.poll_recv(context)
    }
}

impl Drop for LineReceiver {
    fn drop(&mut self) {
        if let Some(report) = self.report_closed.take() {
            let _ = report.send(());
        }
    }
}

/// Writes the lines, and flushes before it waits for more.
fn write_lines(target: impl Write, mut waiting: mpsc::Receiver<Vec<u8>>, unwritten: &AtomicUsize) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 * 1024, target);
    while let Some(mut line) = waiting.blocking_recv() {
        let mut count = 0;
        loop {
            writer.write_all(&line)?;
            count += 1;
            match waiting.try_recv() {
                Ok(next) => line = next,
                Err(_) => break,
            }
        }
        writer.flush()?;
        unwritten.fetch_sub(count, Ordering::AcqRel);
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
    use std::io::Read;

    #[test]
    fn lines_are_written_in_order() {
        let (sender, waiting) = mpsc::channel(8);
        for line in ["a\n", "b\n"] {
            sender.try_send(line.as_bytes().to_vec()).unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        let unwritten = AtomicUsize::new(2);
        write_lines(&mut written, waiting, &unwritten).unwrap();
        assert_eq!(written, b"a\nb\n");
        assert_eq!(unwritten.into_inner(), 0);
    }

    #[tokio::test]
    async fn lines_that_find_no_room_stay_in_order() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let own_pipe = own_pipe::sender(&pipe).unwrap();
        own_pipe.writable().await.unwrap();
        let writer = Writer { lines, unwritten: unwritten.clone(), pipe: Some(own_pipe) };
        // More than a pipe holds, then a line that would fit as soon as some is read.
        let (long, short) = (vec![b'a'; 1 << 20], b"\nb\n".to_vec());
        let expected = [long.clone(), short.clone()].concat();
        writer.room().await.send(long);
        writer.room().await.send(short);
        assert_eq!(unwritten.load(Ordering::Acquire), 2);
        drop(writer);
        let thread = std::thread::spawn(move || write_lines(pipe, waiting, &unwritten));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        thread.join().unwrap().unwrap();
        assert!(read == expected);
    }
}
