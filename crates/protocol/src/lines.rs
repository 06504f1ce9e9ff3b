//! Cutting a stream of bytes into lines.

use thiserror::Error;

use crate::text::excerpt;

/// Cuts bytes, as they come in pieces of any size, into lines.
///
/// Every byte is looked at once and moved a bounded number of times: the time is linear in the
/// input, whatever the pieces. Memory is bounded by the limit and the pieces pushed since the last
/// [`next_line`](LineDecoder::next_line) that gave none.
///
/// ```
/// use hookd_protocol::LineDecoder;
///
/// let mut lines = LineDecoder::with_limit(80);
/// lines.push(b"READY\nEXPECT ac");
/// assert_eq!(lines.next_line()?, Some(b"READY".to_vec()));
/// assert_eq!(lines.next_line()?, None);
/// lines.push(b"tion\n");
/// assert_eq!(lines.next_line()?, Some(b"EXPECT action".to_vec()));
/// assert_eq!(lines.finish(), Ok(()));
/// # Ok::<(), hookd_protocol::LineTooLong>(())
/// ```
#[derive(Debug, Clone)]
pub struct LineDecoder {
    /// Invariant: `start <= scanned <= buffer.len()`, and no `\n` in `start..scanned`.
    buffer: Vec<u8>,
    /// Where the current line begins; what lies before was given out.
    start: usize,
    /// How far the current line was searched for its end.
    scanned: usize,
    limit: usize,
    /// The current line was reported as too long; the rest of it is thrown away.
    skipping: bool,
}

impl LineDecoder {
    /// Longest line unless said otherwise, in bytes: 16 MiB. A report of a thousand imported
    /// modules has about 200 KiB.
    pub const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

    /// A decoder with the [default limit](LineDecoder::DEFAULT_LIMIT).
    pub fn new() -> Self {
        LineDecoder::with_limit(LineDecoder::DEFAULT_LIMIT)
    }

    /// A decoder of lines of at most `limit` bytes, the `\n` not counted.
    pub fn with_limit(limit: usize) -> Self {
        LineDecoder { buffer: Vec::new(), start: 0, scanned: 0, limit, skipping: false }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next complete line, without its `\n`; none when more input is needed.
    ///
    /// # Errors
    ///
    /// When the line exceeds the limit, as soon as that is certain and once for each such line; the
    /// lines after it can still be read.
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

    /// Tells, at the end of the input, whether that was the end of a line too. To be called once
    /// [`next_line`](LineDecoder::next_line) gives no more.
    ///
    /// # Errors
    ///
    /// When the input ended in the middle of a message.
    pub fn finish(&self) -> Result<(), UnfinishedLine> {
        let rest = &self.buffer[self.start..];
        let begin = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let rest = &rest[begin..];
        if rest.is_empty() && !(self.skipping && begin == 0) {
            return Ok(());
        }
        Err(UnfinishedLine { line: excerpt(rest) })
    }

    /// Searches on for the end of the line: `scanned` is then there, or at the end of the buffer.
    fn find_end(&mut self) -> bool {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        self.scanned = found.map_or(self.buffer.len(), |offset| self.scanned + offset);
        found.is_some()
    }

    /// Throws away what there is of a line that was too long; tells whether that was all of it.
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

    /// Frees what was given out, once it is at least half of the buffer: so a byte is moved no more
    /// often than bytes before it are dropped.
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

/// A line longer than any message should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line longer than {limit} bytes, it begins with {line:?}")]
pub struct LineTooLong {
    /// What was allowed, in bytes.
    pub limit: usize,
    /// The start of the line, undecodable bytes replaced.
    pub line: String,
}

/// The input ended in the middle of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the output of the worker ended inside a line, after {line:?}")]
pub struct UnfinishedLine {
    /// The start of that line, undecodable bytes replaced; empty when it was too long to be kept.
    pub line: String,
}
