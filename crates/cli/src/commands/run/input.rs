//! Standard input, read by a thread of its own.
//!
//! Not by the event loop: that would need `O_NONBLOCK`, which belongs to the
//! open file and so would change it for everybody who shares the terminal or
//! the pipe. The thread is never joined; the process just ends.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::streams::patient::Patient;

/// The longest line that is read.
pub const LONGEST_LINE: usize = 64 * 1024 * 1024;

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Counted from 1.
    pub number: u64,
    pub content: LineContent,
}

/// What a line consists of.
#[derive(Debug, PartialEq, Eq)]
pub enum LineContent {
    /// Its bytes, without the newline.
    Bytes(Vec<u8>),
    /// More than [`LONGEST_LINE`]; skipped to its end.
    TooLong,
}

impl LineContent {
    /// Drops the byte order mark that some programs begin UTF-8 with.
    fn skip_mark(&mut self) {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        if let Self::Bytes(bytes) = self
            && bytes.starts_with(MARK)
        {
            bytes.drain(..MARK.len());
        }
    }
}

/// The lines that were there at once: handing over each for itself would cost
/// a change of threads each time. At most a buffer's worth and one long line.
type Batch = Vec<InputLine>;

/// The reading end.
#[derive(Debug)]
pub struct Input {
    batches: mpsc::Receiver<io::Result<Batch>>,
    current: std::vec::IntoIter<InputLine>,
}

impl Input {
    /// Starts to read standard input.
    pub fn start() -> io::Result<Self> {
        // One batch: no more is read than is asked for.
        let (sender, batches) = mpsc::channel(1);
        let reader = BufReader::with_capacity(64 * 1024, Patient::share(io::stdin())?);
        let read = move || send_batches(reader, LONGEST_LINE, &sender);
        std::thread::Builder::new().name("input".into()).spawn(read)?;
        Ok(Self { batches, current: Vec::new().into_iter() })
    }

    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            if let Some(line) = self.current.next() {
                return Ok(Some(line));
            }
            match self.batches.recv().await {
                Some(batch) => self.current = batch?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

fn send_batches(mut reader: BufReader<impl Read>, longest: usize, sender: &mpsc::Sender<io::Result<Batch>>) {
    let mut number = 0;
    let mut batch = Batch::new();
    loop {
        match read_line(&mut reader, longest) {
            Ok(Some(mut content)) => {
                number += 1;
                if number == 1 {
                    content.skip_mark();
                }
                batch.push(InputLine { number, content });
            }
            Ok(None) => {
                let _ = sender.blocking_send(Ok(batch));
                return;
            }
            Err(error) => {
                let _ = sender.blocking_send(Ok(batch));
                let _ = sender.blocking_send(Err(error));
                return;
            }
        }
        // Nothing that is complete waits for more to come.
        if !reader.buffer().contains(&b'\n') && sender.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
            return;
        }
    }
}

/// A line without its newline, `None` at the end. The last line may lack the
/// newline.
fn read_line(reader: &mut impl BufRead, longest: usize) -> io::Result<Option<LineContent>> {
    let mut line = Vec::new();
    let limit = longest as u64 + 1;
    if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > longest {
        reader.skip_until(b'\n')?;
        return Ok(Some(LineContent::TooLong));
    }
    Ok(Some(LineContent::Bytes(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], longest: usize) -> Vec<(u64, Option<String>)> {
        // Fewer batches than this test has.
        let (sender, batches) = mpsc::channel(100);
        send_batches(BufReader::with_capacity(4, input), longest, &sender);
        drop(sender);
        let mut input = Input { batches, current: Vec::new().into_iter() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut found = Vec::new();
        while let Some(line) = runtime.block_on(input.next()).unwrap() {
            let text = match line.content {
                LineContent::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
                LineContent::TooLong => None,
            };
            found.push((line.number, text));
        }
        found
    }

    #[test]
    fn lines_are_counted_and_the_last_needs_no_newline() {
        let expected = [(1, Some("a".into())), (2, Some(String::new())), (3, Some("long line".into()))];
        assert_eq!(lines(b"a\n\nlong line", 100), expected);
        assert_eq!(lines(b"a\n\nlong line\n", 100), expected);
        assert_eq!(lines(b"", 100), []);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_alone() {
        let mark = "\u{feff}";
        let input = format!("{mark}a\n{mark}b");
        assert_eq!(lines(input.as_bytes(), 100), [(1, Some("a".into())), (2, Some(format!("{mark}b")))]);
        assert_eq!(lines(mark.as_bytes(), 100), [(1, Some(String::new()))]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        assert_eq!(
            lines(b"12345678\n1234567\n123456789012\nx\n123456789", 8),
            [(1, Some("12345678".into())), (2, Some("1234567".into())), (3, None), (4, Some("x".into())), (5, None)]
        );
    }
}
