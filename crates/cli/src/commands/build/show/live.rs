//! The output of running hooks, line by line, each with the name of its source.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hookpool_supervisor::files::{Links, open_regular_file};
use hookpool_wire::Captured;

use crate::format::printable;

/// The output of all running hooks.
#[derive(Default)]
pub struct LiveOutput {
    hooks: BTreeMap<u64, HookOutput>,
}

/// Standard output and standard error of a hook.
struct HookOutput {
    streams: [Stream; 2],
    is_paused: bool,
}

/// One stream of a hook.
struct Stream {
    name: String,
    /// `None`: the hook had replaced the file, or had ended before it was opened.
    file: Option<File>,
    /// The number of bytes that were read.
    read: u64,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

/// A longer line is shown in pieces.
const MAX_PIECE: usize = 4096;

/// The most that is read of one stream at a time, so that a hook that floods its
/// output does not delay the output of the others.
const MAX_READ: u64 = 64 * 1024;

impl LiveOutput {
    /// Follows the two files that a running hook writes to.
    pub fn begin(&mut self, request: u64, name: String, stdout: &Path, stderr: &Path) {
        let streams = [Stream::open(name.clone(), stdout), Stream::open(name, stderr)];
        self.hooks.insert(request, HookOutput { streams, is_paused: false });
    }

    /// The new lines of all running hooks.
    pub fn read(&mut self) -> Vec<String> {
        let running = self.hooks.values_mut().filter(|hook| !hook.is_paused);
        running.flat_map(|hook| &mut hook.streams).flat_map(Stream::read).collect()
    }

    /// Stops reading the files of a hook that has ended: another hook may get them.
    pub fn pause(&mut self, request: u64) {
        if let Some(hook) = self.hooks.get_mut(&request) {
            hook.is_paused = true;
        }
    }

    /// The last lines of a hook that has ended, given its captured output.
    pub fn end(&mut self, request: u64, written: [Captured; 2]) -> Vec<String> {
        let streams = self.hooks.remove(&request).map(|hook| hook.streams).into_iter().flatten();
        streams.zip(written).flat_map(|(stream, written)| stream.end(&written)).collect()
    }
}

impl Stream {
    fn open(name: String, path: &Path) -> Self {
        // The hook may have replaced the file by a named pipe or a link.
        Self { name, file: open_regular_file(path, Links::Refuse).ok(), read: 0, rest: Vec::new() }
    }

    fn read(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            // The log has the output even if reading fails here.
            let _ = file.take(MAX_READ).read_to_end(&mut bytes);
        }
        self.read += bytes.len() as u64;
        self.lines(&bytes)
    }

    /// The lines that were not read yet, as far as the captured output has them.
    fn end(mut self, written: &Captured) -> Vec<String> {
        let tail = &written.base64;
        let length = match &self.file {
            Some(file) if written.truncated => file.metadata().map_or(0, |metadata| metadata.len()),
            _ => tail.len() as u64,
        };
        let unread = length.saturating_sub(self.read);
        let left_out = unread.saturating_sub(tail.len() as u64);
        let mut lines = Vec::new();
        if left_out > 0 || (written.truncated && self.file.is_none()) {
            lines.extend(self.last_line());
            lines.push(self.line("[... more, which is in the log ...]".as_bytes()));
        }
        let unread = usize::try_from(unread).unwrap_or(usize::MAX).min(tail.len());
        lines.extend(self.lines(&tail[tail.len() - unread..]));
        lines.extend(self.last_line());
        lines
    }

    /// The lines that end within these bytes.
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let end = all.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.rest = all.split_off(end);
        let whole = all.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]);
        let mut lines: Vec<_> = whole.flat_map(|line| self.pieces(&line[visible_from(line)..])).collect();
        // Overwritten text stays invisible, whatever follows.
        self.rest.drain(..visible_from(&self.rest));
        while self.rest.len() >= MAX_PIECE {
            let more = self.rest.split_off(MAX_PIECE);
            let piece = std::mem::replace(&mut self.rest, more);
            lines.push(self.line(&piece));
        }
        lines
    }

    fn pieces(&self, line: &[u8]) -> Vec<String> {
        // An empty line has one piece.
        let (first, rest) = line.split_at(line.len().min(MAX_PIECE));
        std::iter::once(first).chain(rest.chunks(MAX_PIECE)).map(|piece| self.line(piece)).collect()
    }

    fn last_line(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.line(&rest))
    }

    fn line(&self, bytes: &[u8]) -> String {
        format!("{} | {}", self.name, printable(String::from_utf8_lossy(bytes).trim_end()))
    }
}

/// The visible part of a line that was overwritten with carriage returns, as
/// progress displays do: the text after the last one. Carriage returns at the end
/// do not count.
pub fn visible_part(line: &str) -> &str {
    line[visible_from(line.as_bytes())..].trim_end_matches('\r')
}

/// Where that part begins.
fn visible_from(line: &[u8]) -> usize {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_is_shown_when_it_is_complete() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        let mut stream = Stream::open("x".into(), written.path());
        written.write_all(b"one\ntw").unwrap();
        assert_eq!(stream.read(), ["x | one"]);
        written.write_all(b"o\r\n\x1b[2J").unwrap();
        assert_eq!(stream.read(), ["x | two"]);
        assert_eq!(stream.last_line().as_deref(), Some("x | \\u{1b}[2J"));
        written.write_all(&vec![b'a'; MAX_PIECE + 1]).unwrap();
        let lines = stream.read();
        assert_eq!((lines.len(), stream.rest.len()), (1, 1));
        written.write_all(b"\n\n").unwrap();
        assert_eq!(stream.read(), ["x | a", "x | "]);
    }

    #[test]
    fn overwritten_text_is_not_shown() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        let mut stream = Stream::open("x".into(), written.path());
        for percent in 0..10_000 {
            write!(written, "\r{percent} of 10000").unwrap();
        }
        assert!(stream.read().is_empty() && stream.read().is_empty() && stream.read().is_empty());
        assert!(stream.rest.len() < 20, "{}", stream.rest.len());
        written.write_all(b"\r\n").unwrap();
        assert_eq!(stream.read(), ["x | 9999 of 10000"]);
    }

    #[test]
    fn the_captured_output_has_what_was_not_read() {
        let more = "x | [... more, which is in the log ...]";
        let written = |tail: &str, truncated| Captured { base64: tail.into(), truncated };
        let file = |content: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file
        };
        let all = file("one\ntwo\nthree\n");
        let opened = |read: usize| {
            let mut stream = Stream::open("x".into(), all.path());
            stream.read = read as u64;
            stream
        };
        let missed = || Stream::open("x".into(), Path::new("/no/such/file"));
        let cases: [(Stream, Captured, &[&str]); 7] = [
            (opened(4), written("one\ntwo\nthree\n", false), &["x | two", "x | three"]),
            (opened(14), written("one\ntwo\nthree\n", false), &[]),
            (opened(4), written("two\nthree\n", true), &["x | two", "x | three"]),
            (opened(4), written("three\n", true), &[more, "x | three"]),
            (opened(9), written("two\nthree\n", true), &["x | hree"]),
            (missed(), written("one\ntwo", false), &["x | one", "x | two"]),
            (missed(), written("two\n", true), &[more, "x | two"]),
        ];
        for (stream, written, expected) in cases {
            assert_eq!(stream.end(&written), expected);
        }
        // The file belongs to another hook now.
        assert!(opened(0).end(&written("", false)).is_empty());
    }

    #[test]
    fn only_the_text_after_the_last_carriage_return_is_visible() {
        for (line, expected) in [
            ("plain", "plain"),
            ("ended as on Windows\r", "ended as on Windows"),
            (" 1%\r50%\r100%", "100%"),
            (" 1%\r50%\r100%\r\r", "100%"),
            ("100%\r    \r", "    "),
            ("é\ré", "é"),
            ("\r\r", ""),
            ("", ""),
        ] {
            assert_eq!(visible_part(line), expected, "{line:?}");
        }
    }
}
