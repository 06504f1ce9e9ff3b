//! Gzip files (RFC 1952).

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Reads all members of a gzip file, and ignores trailing garbage, as gzip does.
/// flate2's own reader of several members, `MultiGzDecoder`, fails on it.
pub(super) struct GzipMembers<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    pub fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let mut rest = self.member.take().expect("it is the member that was read").into_inner();
            if rest.fill_buf()?.first() == Some(&0x1f) {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        GzipMembers::new(bytes).read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn several_members_and_what_follows_them() {
        let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&two).unwrap(), b"one two");
        assert_eq!(read(&[&two[..], b"\0\0garbage"].concat()).unwrap(), b"one two");
        // A reader with one byte at a time.
        let mut content = Vec::new();
        GzipMembers::new(io::BufReader::with_capacity(1, &two[..])).read_to_end(&mut content).unwrap();
        assert_eq!(content, b"one two");
    }

    #[test]
    fn truncated_and_damaged_files_are_errors() {
        let whole = gzip(b"content");
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} of {} bytes", whole.len());
        }
        let mut damaged = whole.clone();
        *damaged.iter_mut().rev().nth(5).unwrap() ^= 1;
        assert!(read(&damaged).is_err());
    }
}
