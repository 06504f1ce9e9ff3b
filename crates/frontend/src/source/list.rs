//! Lists of paths, one per line.

use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The limit for a line, with its end, in bytes. Linux allows paths of 4096 bytes.
const LINE_LIMIT: usize = 8192;

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Reading failed.
    #[error("line {line}: cannot be read: {source}")]
    Unreadable {
        /// The line's number; the first is 1.
        line: usize,
        /// The error of the system.
        source: io::Error,
    },
    /// A line is longer than any path.
    #[error("line {line}: is longer than {LINE_LIMIT} bytes: expected one path per line")]
    TooLong {
        /// The line's number; the first is 1.
        line: usize,
    },
    /// A line has a NUL byte, which no path may have.
    #[error("line {line}: has a NUL byte: expected one path per line, with a newline at its end")]
    Nul {
        /// The line's number; the first is 1.
        line: usize,
    },
}

/// Reads a list of paths, one per line. Blank lines and lines that start with `#` are
/// skipped. Paths keep their spaces, and bytes that are not UTF-8; a carriage return before
/// the newline and a byte order mark at the start are removed.
///
/// # Errors
/// [`ListError`], which names the line.
pub fn read_list(mut reader: impl BufRead) -> Result<Vec<PathBuf>, ListError> {
    let mut paths = Vec::new();
    for number in 1.. {
        let Some(mut line) = read_line(&mut reader, number)? else { break };
        if number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) {
            return Err(ListError::Nul { line: number });
        }
        paths.push(PathBuf::from(OsString::from_vec(line)));
    }
    Ok(paths)
}

/// The next line without its end; `None` at the end of the list.
fn read_line(reader: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, ListError> {
    let mut line = Vec::new();
    reader
        .take(LINE_LIMIT as u64)
        .read_until(b'\n', &mut line)
        .map_err(|source| ListError::Unreadable { line: number, source })?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
    } else if line.len() == LINE_LIMIT {
        return Err(ListError::TooLong { line: number });
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<PathBuf>, ListError> {
        read_list(text)
    }

    #[test]
    fn one_path_per_line() {
        let text = b"\xef\xbb\xbf/a\n\n# comment\n  \n/b with space \r\n\r\n/\xff#x\n./last";
        let paths = read(text).unwrap();
        let expected: [&[u8]; 4] = [b"/a", b"/b with space ", b"/\xff#x", b"./last"];
        assert_eq!(paths, expected.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))));
        assert_eq!(read(b"").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn errors_name_the_line() {
        let mut text = b"/a\n".to_vec();
        text.extend([b'x'; LINE_LIMIT]);
        assert!(matches!(read(&text).unwrap_err(), ListError::TooLong { line: 2 }));
        assert!(matches!(read(b"\n\n/a\0b\n").unwrap_err(), ListError::Nul { line: 3 }));
        let broken = io::BufReader::new(b"/a\n".chain(Broken));
        assert!(matches!(read_list(broken).unwrap_err(), ListError::Unreadable { line: 2, .. }));
    }

    #[test]
    fn the_longest_line_is_read() {
        let mut text = vec![b'x'; LINE_LIMIT - 1];
        text.push(b'\n');
        assert_eq!(read(&text).unwrap()[0].as_os_str().len(), LINE_LIMIT - 1);
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
}
