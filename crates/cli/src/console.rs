//! Standard error, shared by log messages, by lines for people and by a display
//! of progress that is drawn anew all the time.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::MultiProgress;

/// The display that is on the screen now.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Puts a display on the screen, or takes it away.
pub fn set_display(display: Option<MultiProgress>) {
    *DISPLAY.lock().unwrap_or_else(PoisonError::into_inner) = display;
}

/// Writes to standard error, above the display if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let display = DISPLAY.lock().unwrap_or_else(PoisonError::into_inner);
        match &*display {
            Some(display) => display.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines to standard error, all at once. Where that is gone, nobody
/// misses them.
pub fn print(lines: &[String]) {
    if !lines.is_empty() {
        let _ = Console.write_all(format!("{}\n", lines.join("\n")).as_bytes());
    }
}
