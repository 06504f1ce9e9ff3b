//! Parsing dependency specifiers (PEP 508).

use std::borrow::Cow;
use std::str::FromStr;

use pep508_rs::{Pep508Error, Requirement, VerbatimUrl};

/// Parses a specifier. As in `packaging`, and so in pip and build, a comma may follow the
/// last version, and parentheses may be empty; pep508_rs refuses both.
pub(crate) fn parse(text: &str) -> Result<Requirement<VerbatimUrl>, Pep508Error> {
    Requirement::from_str(&without_empty_parts(text.trim()))
}

fn without_empty_parts(text: &str) -> Cow<'_, str> {
    let (versions, marker) = text.split_at(text.find(';').unwrap_or(text.len()));
    let trimmed = versions.trim_end();
    let (inner, closing) = match trimmed.strip_suffix(')') {
        Some(inner) => (inner.trim_end(), ")"),
        None => (trimmed, ""),
    };
    let follows_version = |before: &str| {
        let end = before.trim_end().as_bytes().last();
        before.contains(['<', '>', '=']) && end.is_some_and(|end| end.is_ascii_alphanumeric() || *end == b'*')
    };
    match (inner.strip_suffix(','), inner.strip_suffix('(')) {
        // An address may end in any character.
        _ if versions.contains('@') => text.into(),
        (Some(before), _) if follows_version(before) => format!("{before}{closing} {marker}").into(),
        (_, Some(before)) if closing == ")" => format!("{before} {marker}").into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_are_accepted_as_by_packaging() {
        for (text, plain) in [
            ("flit_core>=3.9,", "flit-core>=3.9"),
            ("a >=1 , ", "a>=1"),
            ("a (>=1,<2, )", "a>=1,<2"),
            ("a[x]==1.*,;os_name=='nt'", "a[x]==1.* ; os_name == 'nt'"),
            ("a>=1, ; os_name in 'a,'", "a>=1 ; os_name in 'a,'"),
            ("a()", "a"),
            ("a ( ) ; os_name=='nt'", "a ; os_name == 'nt'"),
            ("a @ https://e/x,", "a @ https://e/x,"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), plain, "{text}");
        }
        for text in ["a,", "a (,)", "a>=1,,", "a,>=1", "a,>=1,", "a>=,", "a[x,]", "(", ")", ",", "", "a)"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
