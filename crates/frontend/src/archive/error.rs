//! Why an archive is refused.

use std::io;
use std::path::{Path, PathBuf};

/// An archive cannot be unpacked or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}{problem}", .archive.display(), of_member(.member.as_deref()))]
pub struct ArchiveError {
    /// The archive.
    pub archive: PathBuf,
    /// The name of the member with the problem, if it is one of a member. Control
    /// characters are escaped.
    pub member: Option<String>,
    /// What is wrong.
    pub problem: ArchiveProblem,
}

fn of_member(member: Option<&str>) -> String {
    member.map(|name| format!("member \"{name}\": ")).unwrap_or_default()
}

/// A problem of an archive, or of one of its members.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The name has no known suffix.
    #[error("expected a name that ends in .tar.gz, .tgz or .zip")]
    UnknownSuffix,
    /// The content violates the format.
    #[error("the archive is damaged or incomplete: {0}")]
    Damaged(String),
    /// The folder to unpack into is not empty.
    #[error("expected an empty folder to unpack into, found something in {0}")]
    NotEmpty(PathBuf),
    /// Writing failed.
    #[error("cannot be unpacked: {0}")]
    Unwritable(io::Error),
    /// The caller cancelled it.
    #[error("unpacking was cancelled")]
    Cancelled,

    /// An empty name.
    #[error("its name is empty")]
    EmptyName,
    /// A name with a NUL byte, which no path may have.
    #[error("its name has a NUL byte")]
    NulInName,
    /// An absolute name.
    #[error("its name is absolute: expected one below the archive's folder")]
    AbsoluteName,
    /// A name with `..`.
    #[error("its name has `..`: expected one below the archive's folder")]
    ParentInName,
    /// A name with a backslash: PKWARE's specification of zip demands `/` (APPNOTE
    /// 4.4.17.1).
    #[error("its name has a backslash: zip files have `/` between folders")]
    BackslashInName,
    /// More than [`UnpackLimits::name_bytes`](crate::UnpackLimits::name_bytes).
    #[error("its name, or the name that it links to, has more than {limit} bytes")]
    NameTooLong {
        /// The limit.
        limit: usize,
    },
    /// More than [`UnpackLimits::depth`](crate::UnpackLimits::depth).
    #[error("it is more than {limit} folders deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },

    /// A member that is no file, folder or link.
    #[error("it is a {0}: expected files, folders and links only")]
    UnsupportedType(&'static str),
    /// A symbolic link to an absolute path.
    #[error("it is a symbolic link to the absolute path \"{target}\": expected one within the source tree")]
    AbsoluteLink {
        /// Its target, escaped.
        target: String,
    },
    /// A symbolic link that leads out of the tree.
    #[error("it is a symbolic link to \"{target}\", outside of the source tree")]
    OutsideLink {
        /// Its target, escaped.
        target: String,
    },
    /// A hard link to anything but an earlier regular file of the archive.
    #[error("it is a hard link to \"{target}\": expected the name of an earlier regular file of the archive")]
    BadHardLink {
        /// Its target, escaped.
        target: String,
    },
    /// A link whose target is empty or has a NUL byte.
    #[error("it is a link with an empty target, or one with a NUL byte")]
    MalformedLink,
    /// A member below an earlier one that is no folder.
    #[error("it is below \"{parent}\", which is a {kind} in the archive")]
    Below {
        /// The name of the earlier member, escaped.
        parent: String,
        /// The kind of the earlier member.
        kind: &'static str,
    },
    /// A folder and something else have the same name.
    #[error("an earlier member of this name is a {earlier}, and this one is not")]
    Conflict {
        /// The kind of the earlier member.
        earlier: &'static str,
    },

    /// Encrypted content.
    #[error("it is encrypted")]
    Encrypted,
    /// An unknown compression method.
    #[error("it is compressed by the method {0}: expected Stored or Deflated")]
    CompressionMethod(String),
    /// Members that share bytes, as in zip bombs.
    #[error("members overlap each other")]
    Overlap,

    /// More than [`UnpackLimits`](crate::UnpackLimits) allow for an archive of this size.
    #[error("it unpacks to more than {limit} bytes, the limit for an archive of {archive_bytes} bytes")]
    TooManyBytes {
        /// The limit.
        limit: u64,
        /// The size of the archive.
        archive_bytes: u64,
    },
    /// More than [`UnpackLimits::members`](crate::UnpackLimits::members).
    #[error("it has more than {limit} files and folders")]
    TooManyMembers {
        /// The limit.
        limit: u64,
    },
    /// A file that is larger than what is read of one.
    #[error("it has more than {limit} bytes")]
    MemberTooLarge {
        /// The limit.
        limit: u64,
    },

    /// An archive without members.
    #[error("expected a source tree in the archive, found nothing")]
    Nothing,
}

impl ArchiveProblem {
    /// The problem that an error of a reader stands for: a problem that was passed
    /// through the reader, an error of the system, or one of a decoder.
    pub(super) fn reading(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) if error.raw_os_error().is_some() => Self::Unreadable(error),
            Err(error) => Self::Damaged(error.to_string()),
        }
    }
}

/// A problem, and the member that has it.
#[derive(Debug)]
pub(super) struct Fault {
    member: Option<String>,
    problem: ArchiveProblem,
}

impl Fault {
    /// A problem of the member with this name.
    pub fn at(name: &[u8]) -> impl FnOnce(ArchiveProblem) -> Self + use<> {
        let member = Some(escaped(name));
        move |problem| Self { member, problem }
    }

    /// The error for this archive.
    pub fn of(self, archive: &Path) -> ArchiveError {
        ArchiveError { archive: archive.to_owned(), member: self.member, problem: self.problem }
    }
}

impl From<ArchiveProblem> for Fault {
    fn from(problem: ArchiveProblem) -> Self {
        Self { member: None, problem }
    }
}

/// A name as messages show it. It is not trusted: control characters could change the
/// terminal, and it may be a megabyte long.
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
    fn control_characters_in_names_are_escaped() {
        assert_eq!(escaped(b"a/\x1b[2J\n\xff\""), "a/\\u{1b}[2J\\n\u{fffd}\\\"");
        assert_eq!(escaped(&[b'x'; 1000]).len(), 303);
    }
}
