//! What running hooks write, line by line, each with the name of its source.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hookpool_supervisor::RequestId;

use crate::logging::printable;

/// The output of all hooks that run.
#[derive(Default)]
pub struct LiveOutput {
    hooks: BTreeMap<RequestId, [Stream; 2]>,
}

/// One stream of a hook.
struct Stream {
    name: String,
    /// None where the hook has put something else in its place.
    file: Option<File>,
    /// The start of a line whose end was not written yet.
    rest: Vec<u8>,
}

/// A line that is longer is shown in pieces.
const LONGEST: usize = 4096;
/// What is read of one stream at once. The rest is read the next time, so that
/// a hook that floods its output does not keep the others from being shown.
const AT_ONCE: u64 = 64 * 1024;

impl LiveOutput {
    /// A hook runs, and writes to these files.
    pub fn begin(&mut self, request: RequestId, name: String, stdout: &Path, stderr: &Path) {
        let stream = |path| Stream { name: name.clone(), file: open(path), rest: Vec::new() };
        self.hooks.insert(request, [stream(stdout), stream(stderr)]);
    }

    /// The lines since the last time.
    pub fn read(&mut self) -> Vec<String> {
        self.hooks.values_mut().flatten().flat_map(Stream::read).collect()
    }

    /// The last lines of a hook that has ended.
    pub fn end(&mut self, request: RequestId) -> Vec<String> {
        let streams = self.hooks.remove(&request).into_iter().flatten();
        streams
            .flat_map(|mut stream| {
                let mut lines = stream.read();
                lines.extend(stream.last_line());
                lines
            })
            .collect()
    }
}

impl Stream {
    fn read(&mut self) -> Vec<String> {
        let mut bytes = std::mem::take(&mut self.rest);
        if let Some(file) = &mut self.file {
            // What cannot be read is in the log all the same.
            let _ = file.take(AT_ONCE).read_to_end(&mut bytes);
        }
        let mut lines = Vec::new();
        let mut start = 0;
        while let Some(length) = line_length(&bytes[start..]) {
            lines.push(self.line(&bytes[start..start + length]));
            start += length + usize::from(bytes.get(start + length) == Some(&b'\n'));
        }
        self.rest = bytes.split_off(start);
        lines
    }

    fn last_line(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.line(&rest))
    }

    fn line(&self, bytes: &[u8]) -> String {
        format!("{} | {}", self.name, printable(String::from_utf8_lossy(bytes).trim_end()))
    }
}

/// The length of the first line, without its end; none where that is missing.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n');
    end.or_else(|| (bytes.len() >= LONGEST).then_some(LONGEST))
}

/// As the supervisor opens it: the hook may have put a named pipe or a link in
/// its place.
fn open(path: &Path) -> Option<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_shown_when_they_are_whole() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        let mut stream = Stream { name: "x".into(), file: open(written.path()), rest: Vec::new() };
        written.write_all(b"one\ntw").unwrap();
        assert_eq!(stream.read(), ["x | one"]);
        written.write_all(b"o\r\n\x1b[2J").unwrap();
        assert_eq!(stream.read(), ["x | two"]);
        assert_eq!(stream.last_line().as_deref(), Some("x | \\u{1b}[2J"));
        written.write_all(&vec![b'a'; LONGEST + 1]).unwrap();
        let lines = stream.read();
        assert_eq!((lines.len(), stream.rest.len()), (1, 1));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).is_none() && open(Path::new("/dev/zero")).is_none());
    }
}
