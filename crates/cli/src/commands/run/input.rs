//! The lines of standard input.

use std::io;

use hookd_protocol::LineDecoder;

use crate::streams::input::Input;

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
    /// More than [`LONGEST_LINE`]; the rest of it is skipped.
    TooLong,
}

/// The lines of the input, one after the other.
#[derive(Debug)]
pub struct InputLines {
    input: Input,
    lines: Lines,
}

impl InputLines {
    /// Starts to read standard input.
    pub fn start() -> io::Result<Self> {
        Ok(Self { input: Input::start()?, lines: Lines::new(LONGEST_LINE) })
    }

    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            // Input that never ends must not keep the event loop from all else.
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

/// Counts the lines in pieces of text.
#[derive(Debug)]
struct Lines {
    decoder: LineDecoder,
    count: u64,
    /// All of the text is there.
    is_over: bool,
}

impl Lines {
    fn new(longest: usize) -> Self {
        Self { decoder: LineDecoder::with_limit(longest), count: 0, is_over: false }
    }

    /// Takes a piece; an empty one is the end.
    fn push(&mut self, piece: &[u8]) {
        self.decoder.push(piece);
        self.is_over = piece.is_empty();
        if self.is_over && self.decoder.finish().is_err() {
            // The last line may lack its newline.
            self.decoder.push(b"\n");
        }
    }

    /// The next line that is complete.
    fn next(&mut self) -> Option<InputLine> {
        let content = match self.decoder.next_line() {
            Ok(line) => LineContent::Bytes(line?),
            Err(_) => LineContent::TooLong,
        };
        self.count += 1;
        let content = if self.count == 1 { content.without_mark() } else { content };
        Some(InputLine { number: self.count, content })
    }
}

impl LineContent {
    /// Without the byte order mark that some programs begin UTF-8 with.
    fn without_mark(self) -> Self {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        match self {
            Self::Bytes(bytes) => match bytes.strip_prefix(MARK) {
                Some(rest) => Self::Bytes(rest.to_vec()),
                None => Self::Bytes(bytes),
            },
            Self::TooLong => Self::TooLong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it is cut into pieces.
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
                let text = match line.content {
                    LineContent::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
                    LineContent::TooLong => None,
                };
                found.push((line.number, text));
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
