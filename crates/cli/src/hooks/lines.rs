//! The lines of the input.

use std::io;

use hookd_protocol::LineDecoder;

use crate::streams::input::Input;

/// The longest line of standard input that is accepted, in bytes.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Counted from 1.
    pub number: u64,
    /// The line without its newline; `None`: it is too long.
    pub bytes: Option<Vec<u8>>,
}

/// Reads the lines of the input.
#[derive(Debug)]
pub struct InputLines {
    input: Input,
    lines: Lines,
}

impl InputLines {
    /// Reads standard input.
    pub fn start() -> io::Result<Self> {
        Ok(Self::of(Input::start()?, MAX_LINE))
    }

    /// Reads lines of at most `longest` bytes.
    pub fn of(input: Input, longest: usize) -> Self {
        Self { input, lines: Lines::new(longest) }
    }

    /// The most bytes of a line.
    pub fn longest(&self) -> usize {
        self.lines.longest
    }

    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            // Endless input must not starve the other tasks.
            tokio::task::coop::consume_budget().await;
            if let Some(line) = self.lines.next() {
                return Ok(Some(line));
            }
            if self.lines.is_over {
                return Ok(None);
            }
            let piece = self.input.next().await?;
            self.lines.push(&piece);
        }
    }
}

/// Splits pieces of text into numbered lines.
#[derive(Debug)]
struct Lines {
    decoder: LineDecoder,
    longest: usize,
    count: u64,
    /// The end of the text has been pushed.
    is_over: bool,
}

impl Lines {
    fn new(longest: usize) -> Self {
        Self { decoder: LineDecoder::with_limit(longest), longest, count: 0, is_over: false }
    }

    /// Adds a piece of the text; an empty one is the end.
    fn push(&mut self, piece: &[u8]) {
        self.decoder.push(piece);
        self.is_over = piece.is_empty();
        if self.is_over && self.decoder.finish().is_err() {
            // The last line may lack its newline.
            self.decoder.push(b"\n");
        }
    }

    /// The next complete line.
    fn next(&mut self) -> Option<InputLine> {
        let mut bytes = match self.decoder.next_line() {
            Ok(line) => Some(line?),
            Err(_) => None,
        };
        self.count += 1;
        // Some programs write a byte order mark before UTF-8.
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        if let Some(line) = &mut bytes
            && self.count == 1
            && line.starts_with(BYTE_ORDER_MARK)
        {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Some(InputLine { number: self.count, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines must not depend on how the input is cut into pieces.
    fn lines(input: &[u8], longest: usize) -> Vec<(u64, Option<String>)> {
        let found = lines_of(input.chunks(4), longest);
        assert_eq!(lines_of(input.chunks(1), longest), found);
        assert_eq!(lines_of([input].into_iter().filter(|piece| !piece.is_empty()), longest), found);
        found
    }

    fn lines_of<'a>(pieces: impl Iterator<Item = &'a [u8]>, longest: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(longest);
        let mut found = Vec::new();
        for piece in pieces.chain([&b""[..]]) {
            lines.push(piece);
            while let Some(line) = lines.next() {
                found.push((line.number, line.bytes.map(|bytes| String::from_utf8(bytes).unwrap())));
            }
        }
        assert!(lines.is_over);
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
    fn a_byte_order_mark_is_skipped_only_at_the_start() {
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
