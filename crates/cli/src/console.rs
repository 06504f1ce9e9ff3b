//! Standard error: log messages, lines of text, and a display of progress that is
//! redrawn all the time.
//!
//! A thread of its own writes, so that a reader that stalls does not block the event
//! loop. Lines of text wait for room in its queue; log messages that find none are
//! dropped, and their number is printed.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::MultiProgress;

/// The current display of progress.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// The queue of the thread. Without it, callers write to standard error directly.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The capacity of the queue, in messages.
const WAITING_MESSAGES: usize = 1 << 16;

struct Queue {
    messages: SyncSender<Vec<u8>>,
    /// The number of messages that are not written yet. The lock is held briefly.
    unwritten: Mutex<usize>,
    fewer_unwritten: Condvar,
    /// The number of messages that were dropped since it was last printed.
    lost: AtomicUsize,
}

/// Starts the thread that writes.
pub fn start() {
    let (messages, waiting) = sync_channel(WAITING_MESSAGES);
    let thread = std::thread::Builder::new().name("console".into());
    // Without a thread, a reader that stalls blocks the program.
    if thread.spawn(move || write_messages(&waiting)).is_ok() {
        let (unwritten, fewer_unwritten, lost) = (Mutex::new(0), Condvar::new(), AtomicUsize::new(0));
        let _ = QUEUE.set(Queue { messages, unwritten, fewer_unwritten, lost });
    }
}

/// Shows a display of progress, or removes it.
pub fn set_display(display: Option<MultiProgress>) {
    *DISPLAY.lock().unwrap_or_else(PoisonError::into_inner) = display;
}

/// The writer for log messages; never blocks.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match QUEUE.get() {
            Some(queue) => queue.put_if_room(bytes.to_vec()),
            None => write(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines together. Blocks until the queue has room, so the event loop must not
/// call it. Errors are ignored: standard error may be closed.
pub fn print(lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let text = format!("{}\n", lines.join("\n")).into_bytes();
    match QUEUE.get() {
        Some(queue) => queue.put(text),
        None => write(&text),
    }
}

/// Blocks until everything so far is written, for at most this long. Returns whether
/// it is written.
pub fn flush(at_most: Duration) -> bool {
    let Some(queue) = QUEUE.get() else { return true };
    let waited = queue.fewer_unwritten.wait_timeout_while(queue.unwritten(), at_most, |unwritten| *unwritten > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}

impl Queue {
    fn put(&self, text: Vec<u8>) {
        *self.unwritten() += 1;
        if self.messages.send(text).is_err() {
            self.written();
        }
    }

    fn put_if_room(&self, text: Vec<u8>) {
        *self.unwritten() += 1;
        if let Err(error) = self.messages.try_send(text) {
            self.written();
            if matches!(error, TrySendError::Full(_)) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn written(&self) {
        *self.unwritten() -= 1;
        self.fewer_unwritten.notify_all();
    }

    fn unwritten(&self) -> MutexGuard<'_, usize> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the thread, which lives as long as the program.
fn write_messages(waiting: &Receiver<Vec<u8>>) {
    for message in waiting {
        write(&message);
        let Some(queue) = QUEUE.get() else { continue };
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            write(
                format!("{lost} log messages are lost here, because standard error was not read in time\n").as_bytes(),
            );
        }
        queue.written();
    }
}

/// Writes above the display of progress, if there is one.
fn write(bytes: &[u8]) {
    let display = DISPLAY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let write = || io::stderr().write_all(bytes);
    // Standard error may be closed.
    let _ = match display {
        Some(display) => display.suspend(write),
        None => write(),
    };
}
