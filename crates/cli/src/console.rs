//! Standard error, shared by log messages, by lines for people and by a display
//! of progress that is drawn anew all the time.
//!
//! A thread of its own writes it: a reader who stalls must not keep the event
//! loop waiting. What is for people waits for room; a log message that finds
//! none is lost, and it is told how many were.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::MultiProgress;

/// The display that is on the screen now.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// The way to the thread. Where there is none, everybody writes by themselves.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Messages that wait for the thread.
const WAITING_MESSAGES: usize = 1 << 16;

struct Queue {
    messages: SyncSender<Vec<u8>>,
    /// How many messages are not written yet. Locked for a count only.
    unwritten: Mutex<usize>,
    fewer_unwritten: Condvar,
    /// How many were lost since it was last told.
    lost: AtomicUsize,
}

/// Starts the thread that writes.
pub fn start() {
    let (messages, waiting) = sync_channel(WAITING_MESSAGES);
    let thread = std::thread::Builder::new().name("console".into());
    // Without a thread, a reader who stalls does keep everybody waiting.
    if thread.spawn(move || write_messages(&waiting)).is_ok() {
        let (unwritten, fewer_unwritten, lost) = (Mutex::new(0), Condvar::new(), AtomicUsize::new(0));
        let _ = QUEUE.set(Queue { messages, unwritten, fewer_unwritten, lost });
    }
}

/// Puts a display on the screen, or takes it away.
pub fn set_display(display: Option<MultiProgress>) {
    *DISPLAY.lock().unwrap_or_else(PoisonError::into_inner) = display;
}

/// The way to standard error for log messages: never waits.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match QUEUE.get() {
            Some(queue) => queue.put_if_there_is_room(bytes.to_vec()),
            None => write(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines, all at once. Waits for room: not for the event loop. Where
/// standard error is gone, nobody misses them.
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

/// Waits until everything so far is written, for at most so long: whether it
/// is. Blocks.
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

    fn put_if_there_is_room(&self, text: Vec<u8>) {
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

/// The life of the thread: as long as the program's.
fn write_messages(waiting: &Receiver<Vec<u8>>) {
    for message in waiting {
        write(&message);
        let Some(queue) = QUEUE.get() else { continue };
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            write(format!("{lost} log messages are lost here, because nobody read them in time\n").as_bytes());
        }
        queue.written();
    }
}

/// Writes above the display, if there is one.
fn write(bytes: &[u8]) {
    let display = DISPLAY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let write = || io::stderr().write_all(bytes);
    // Where standard error is gone, nobody misses it.
    let _ = match display {
        Some(display) => display.suspend(write),
        None => write(),
    };
}
