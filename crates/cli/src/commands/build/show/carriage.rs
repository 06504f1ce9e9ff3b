//! Lines that were drawn over with carriage returns, as progress is.

/// What a line shows at last: what follows its last carriage return. Those at
/// its end draw nothing.
pub fn last_state(line: &str) -> &str {
    line[begin(line.as_bytes())..].trim_end_matches('\r')
}

/// Where that begins.
pub fn begin(line: &[u8]) -> usize {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_is_what_counts() {
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
            assert_eq!(last_state(line), expected, "{line:?}");
        }
    }
}
