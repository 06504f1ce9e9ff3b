//! The header fields of core metadata.
//!
//! The format is RFC 822 as Python's `email` module parses it, with raw UTF-8. Crates for
//! mail are not used: they also decode encoded words and charsets, and misread raw
//! UTF-8. Crates for core metadata are built on them.

/// The fields in their order, and what ended them.
pub(super) struct Headers {
    /// Names, not normalised; values, unfolded and without surrounding space.
    fields: Vec<(String, String)>,
    /// The number of the line that ended the fields, if that is not blank; the first line
    /// is 1. After it there may be more fields, which are not read.
    pub stray_line: Option<usize>,
}

impl Headers {
    pub fn parse(text: &str) -> Self {
        let mut headers = Self { fields: Vec::new(), stray_line: None };
        // Windows editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in lines(text).enumerate() {
            if line.is_empty() {
                break;
            }
            if !headers.add(line) {
                headers.stray_line = Some(index + 1);
                break;
            }
        }
        headers
    }

    /// The values of all fields with this name, in upper or lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let of_that_name = self.fields.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        of_that_name.map(|(_, value)| value.clone())
    }

    fn add(&mut self, line: &str) -> bool {
        if line.starts_with([' ', '\t']) {
            let Some((_, value)) = self.fields.last_mut() else { return false };
            let more = line.trim();
            if !value.is_empty() && !more.is_empty() {
                value.push(' ');
            }
            value.push_str(more);
            return true;
        }
        let Some((name, value)) = line.split_once(':') else { return false };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return false;
        }
        self.fields.push((name.to_owned(), value.trim().to_owned()));
        true
    }
}

/// Splits at `\n`, `\r\n` and `\r`, as Python does.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, name: &str) -> Vec<String> {
        Headers::parse(text).all(name).collect()
    }

    #[test]
    fn lines_end_in_three_ways() {
        assert_eq!(lines("a\nb\r\nc\rd").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n\n\r\rb\r\n").collect::<Vec<_>>(), ["a", "", "", "", "b"]);
        assert_eq!(lines("").count(), 0);
    }

    #[test]
    fn folded_values_become_one_line() {
        assert_eq!(all("A: one\n  two\n\tthree\nB: x", "a"), ["one two three"]);
        assert_eq!(all("A:\n one\n \n two", "a"), ["one two"]);
        assert_eq!(all("A: x: y", "a"), ["x: y"]);
        assert_eq!(all("\u{feff}A: =?utf-8?q?not=20decoded?= ü", "a"), ["=?utf-8?q?not=20decoded?= ü"]);
    }

    #[test]
    fn a_line_that_is_no_field_ends_them() {
        let headers = Headers::parse("License: first\nsecond line\nRequires-Dist: a\n");
        assert_eq!(headers.stray_line, Some(2));
        assert_eq!(headers.all("Requires-Dist").count(), 0);
        assert_eq!(Headers::parse(" continued\nA: x").stray_line, Some(1));
        assert_eq!(Headers::parse("A b: x").stray_line, Some(1));
        assert_eq!(Headers::parse(": x").stray_line, Some(1));
        assert_eq!(Headers::parse("A: x\n\nbody without colon").stray_line, None);
    }
}
