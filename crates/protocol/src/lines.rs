//! Cutting a stream of bytes into lines.

use thiserror::Error;

/// Cuts bytes, which come in pieces of any size, into lines.
///
/// The time is linear in the input, whatever the pieces. Memory is bounded by the limit and by the
/// pieces pushed since [`next_line`](LineDecoder::next_line) last gave no line.
///
/// ```
/// use hookd_protocol::LineDecoder;
///
/// let mut lines = LineDecoder::with_limit(80);
/// lines.push(b"READY\nSHUT");
/// assert_eq!(lines.next_line()?, Some(b"READY".to_vec()));
/// assert_eq!(lines.next_line()?, None);
/// lines.push(b"DOWN\n");
/// assert_eq!(lines.next_line()?, Some(b"SHUTDOWN".to_vec()));
/// assert_eq!(lines.finish(), Ok(()));
/// # Ok::<(), hookd_protocol::LineTooLong>(())
/// ```
#[derive(Debug, Clone)]
pub struct LineDecoder {
    /// Invariant: `start <= scanned <= buffer.len()`, and no `\n` in `start..scanned`.
    buffer: Vec<u8>,
    /// Where the current line begins. What lies before it was returned.
    start: usize,
    /// How far the current line was searched for its end.
    scanned: usize,
    limit: usize,
    /// The current line was reported as too long; the rest of it is dropped.
    skipping: bool,
}

impl LineDecoder {
    /// The default limit in bytes: 16 MiB. A report of a thousand imported modules has about
    /// 200 KiB.
    pub const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

    /// A decoder with the [default limit](LineDecoder::DEFAULT_LIMIT).
    pub fn new() -> Self {
        LineDecoder::with_limit(LineDecoder::DEFAULT_LIMIT)
    }

    /// A decoder of lines of at most `limit` bytes, the `\n` not counted.
    pub fn with_limit(limit: usize) -> Self {
        LineDecoder { buffer: Vec::new(), start: 0, scanned: 0, limit, skipping: false }
    }

    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete line, without its `\n`; none when more input is needed.
    ///
    /// # Errors
    ///
    /// The line exceeds the limit. This is reported once for each such line, as soon as it is
    /// certain; the lines after it can still be read.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        if self.skipping && !self.skip() {
            return Ok(None);
        }
        let complete = self.find_end();
        let line = &self.buffer[self.start..self.scanned];
        if line.len() > self.limit {
            self.skipping = true;
            return Err(LineTooLong { limit: self.limit, line: excerpt(&line[..self.limit]) });
        }
        if !complete {
            return Ok(None);
        }
        let line = line.to_vec();
        self.begin_line(self.scanned + 1);
        Ok(Some(line))
    }

    /// Checks, at the end of the input, that no part of a line is left. Call it once
    /// [`next_line`](LineDecoder::next_line) returns none.
    ///
    /// # Errors
    ///
    /// The input ended inside a line.
    pub fn finish(&self) -> Result<(), UnfinishedLine> {
        let rest = &self.buffer[self.start..];
        let begin = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let rest = &rest[begin..];
        if rest.is_empty() && !(self.skipping && begin == 0) {
            return Ok(());
        }
        Err(UnfinishedLine { line: excerpt(rest) })
    }

    /// Moves `scanned` to the end of the line, or of the buffer. Returns whether the line is complete.
    fn find_end(&mut self) -> bool {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        self.scanned = found.map_or(self.buffer.len(), |offset| self.scanned + offset);
        found.is_some()
    }

    /// Drops the part of a too long line that is in the buffer. Returns whether that was its end.
    fn skip(&mut self) -> bool {
        let complete = self.find_end();
        self.begin_line(self.scanned + usize::from(complete));
        self.skipping = !complete;
        complete
    }

    fn begin_line(&mut self, start: usize) {
        self.start = start;
        self.scanned = start;
    }

    /// Drops the lines that were returned, once they are at least half of the buffer: then the bytes
    /// that are moved are no more than those that are dropped.
    fn compact(&mut self) {
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
    }
}

impl Default for LineDecoder {
    fn default() -> Self {
        LineDecoder::new()
    }
}

/// A line exceeds the limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line longer than {limit} bytes, it begins with {line:?}")]
pub struct LineTooLong {
    /// The limit, in bytes.
    pub limit: usize,
    /// The start of the line, undecodable bytes replaced.
    pub line: String,
}

/// The input ended inside a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the output of the worker ended inside a line, after {line:?}")]
pub struct UnfinishedLine {
    /// The start of that line, undecodable bytes replaced; empty when the line was too long.
    pub line: String,
}

/// The start of `bytes` as text, for an error message.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    // A character has at most four bytes, so the cut comes after the characters taken.
    let head = &bytes[..bytes.len().min(4 * LONGEST + 4)];
    let text = String::from_utf8_lossy(head);
    let mut excerpt: String = text.chars().take(LONGEST).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}
