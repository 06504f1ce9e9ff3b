//! The records of pax extended headers (POSIX.1-2001, pax).
//!
//! The iterator of the crate `tar` splits records at newlines, and not by their length.
//! It would take a value with a newline, such as an extended attribute, for several
//! records.

use std::time::Duration;

/// The header is not a sequence of `LENGTH KEY=VALUE` lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The keys and values, in order.
pub(super) fn records(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((record, after)) = split_record(rest) else {
            rest = &[];
            return Some(Err(Malformed));
        };
        rest = after;
        Some(Ok(record))
    })
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let digits = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

/// A time in seconds since 1970, with a fraction, as Python writes it. `None` for an
/// earlier time, and for what is no number.
pub(super) fn time(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9.9}");
    Some(Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_by_their_length() {
        let header = b"9 path=a\n24 x=1\n14 path=../evil\n\n13 size=1234\n";
        let found: Vec<_> = records(header).collect();
        let expected: [Result<Record<'_>, Malformed>; 3] =
            [Ok((b"path", b"a")), Ok((b"x", b"1\n14 path=../evil\n")), Ok((b"size", b"1234"))];
        assert_eq!(found, expected);
        assert_eq!(records(b"").count(), 0);
    }

    #[test]
    fn times_have_fractions() {
        assert_eq!(time(b"12"), Some(Duration::new(12, 0)));
        assert_eq!(time(b"12.5"), Some(Duration::new(12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some(Duration::new(12, 1)));
        for other in ["-1.5", "", ".5", "1.x", "1.-5", "1e5", "99999999999999999999"] {
            assert_eq!(time(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_malformed_record_ends_the_records() {
        for header in [&b"x"[..], b"9 path=a", b"99 path=a\n", b"8 path=a\n", b"5 ab\n", b"1 a=b\n", b"+9 path=a"] {
            assert_eq!(records(header).collect::<Vec<_>>(), [Err(Malformed)], "{header:?}");
        }
    }
}
