//! Removing credentials from texts.

use std::borrow::Cow;

const MARK: &str = "://";
const STARS: &str = "***";

/// Replaces the part before the `@` in each address of a text: addresses of indexes may contain
/// a user and a password, or a token as the user.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(mark) = rest.find(MARK) {
        let (before, after) = rest.split_at(mark + MARK.len());
        let authority = &after[..after.find(ends_authority).unwrap_or(after.len())];
        redacted.push_str(before);
        match authority.rfind('@') {
            Some(at) if &authority[..at] != STARS => {
                redacted.push_str(STARS);
                rest = &after[at..];
            }
            _ => rest = after,
        }
    }
    if redacted.is_empty() {
        return Cow::Borrowed(text);
    }
    redacted.push_str(rest);
    Cow::Owned(redacted)
}

fn ends_authority(character: char) -> bool {
    character.is_whitespace() || matches!(character, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_replaced() {
        let cases = [
            ("https://user:secret@host/simple", "https://***@host/simple"),
            (
                "Looking in indexes: https://token@a/b, http://u:p@b",
                "Looking in indexes: https://***@a/b, http://***@b",
            ),
            ("x @ git+ssh://git@host/x.git@main", "x @ git+ssh://***@host/x.git@main"),
            ("a password with an @: https://u:p@ss@host/", "a password with an @: https://***@host/"),
            ("(`https://u:p@host`)", "(`https://***@host`)"),
            ("https://***@host", "https://***@host"),
            ("https://host/@scope and name @ file:///x", "https://host/@scope and name @ file:///x"),
            ("ends ://", "ends ://"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected);
        }
    }
}
