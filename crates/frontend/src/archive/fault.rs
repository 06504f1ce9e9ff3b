//! A problem on its way out, which learns there where it was.

use std::path::Path;

use super::error::{ArchiveError, ArchiveProblem};

/// A problem, and the member that has it.
#[derive(Debug)]
pub(super) struct Fault {
    member: Option<String>,
    problem: ArchiveProblem,
}

impl Fault {
    /// Of the member of this name.
    pub fn at(name: &[u8]) -> impl FnOnce(ArchiveProblem) -> Self + use<> {
        let member = Some(escaped(name));
        move |problem| Self { member, problem }
    }

    /// Of this archive.
    pub fn of(self, archive: &Path) -> ArchiveError {
        ArchiveError { archive: archive.to_owned(), member: self.member, problem: self.problem }
    }
}

impl From<ArchiveProblem> for Fault {
    fn from(problem: ArchiveProblem) -> Self {
        Self { member: None, problem }
    }
}

/// A name for messages. It comes from strangers: control characters could
/// rewrite the terminal, and there may be a megabyte of it.
pub(super) fn escaped(name: &[u8]) -> String {
    const SHOWN: usize = 300;
    let shown = &name[..name.len().min(SHOWN)];
    let ellipsis = if name.len() > SHOWN { "..." } else { "" };
    format!("{}{ellipsis}", String::from_utf8_lossy(shown).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_what_a_terminal_might_obey() {
        assert_eq!(escaped(b"a/\x1b[2J\n\xff\""), "a/\\u{1b}[2J\\n\u{fffd}\\\"");
        assert_eq!(escaped(&[b'x'; 1000]).len(), 303);
    }
}
