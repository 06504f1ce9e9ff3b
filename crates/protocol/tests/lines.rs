//! Lines: limits, ends, and time.

use std::time::{Duration, Instant};

use hookd_protocol::{LineDecoder, LineTooLong};

#[test]
fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
    let mut lines = LineDecoder::with_limit(3);
    lines.push(b"abc\nabcd\n\nxyz\n");
    assert_eq!(lines.next_line(), Ok(Some(b"abc".to_vec())));
    assert_eq!(lines.next_line(), Err(LineTooLong { limit: 3, line: "abc".into() }));
    assert_eq!(lines.next_line(), Ok(Some(b"".to_vec())));
    assert_eq!(lines.next_line(), Ok(Some(b"xyz".to_vec())));
    assert_eq!(lines.next_line(), Ok(None));
    assert_eq!(lines.finish(), Ok(()));
}

#[test]
fn a_long_line_is_reported_once_before_its_end_is_seen() {
    let mut lines = LineDecoder::with_limit(3);
    lines.push(b"abcd");
    assert!(lines.next_line().is_err());
    assert_eq!(lines.next_line(), Ok(None));
    assert!(lines.finish().is_err(), "the end of the long line is missing");
    lines.push(b"efgh");
    assert_eq!(lines.next_line(), Ok(None));
    lines.push(b"\nok\n");
    assert_eq!(lines.next_line(), Ok(Some(b"ok".to_vec())));
    assert_eq!(lines.finish(), Ok(()));
}

#[test]
fn the_end_of_input_inside_a_line_is_an_error() {
    let mut lines = LineDecoder::new();
    assert_eq!(lines.finish(), Ok(()));
    lines.push(b"READY\nOK \"si");
    assert_eq!(lines.next_line(), Ok(Some(b"READY".to_vec())));
    let error = lines.finish().unwrap_err();
    assert_eq!(error.line, "OK \"si");
    assert_eq!(error.to_string(), r#"the output of the worker ended inside a line, after "OK \"si""#);
}

/// A long line in small pieces, and many lines in one piece. Quadratic time would be minutes.
#[test]
fn time_is_linear() {
    let start = Instant::now();
    let mut lines = LineDecoder::new();
    for _ in 0..1_000_000 {
        lines.push(b"0123456");
        assert_eq!(lines.next_line(), Ok(None));
    }
    lines.push(b"\n");
    assert_eq!(lines.next_line().unwrap().map(|line| line.len()), Some(7_000_000));

    lines.push(&b"a\n".repeat(1_000_000));
    for _ in 0..1_000_000 {
        assert!(lines.next_line().unwrap().is_some());
        lines.push(b"");
    }
    assert_eq!(lines.next_line(), Ok(None));
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
}
