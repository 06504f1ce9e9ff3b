//! Why an archive was refused, for the person who reads it.

use std::io;
use std::path::PathBuf;

/// An archive was not unpacked, or not read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}{problem}", .archive.display(), of_member(.member.as_deref()))]
pub struct ArchiveError {
    /// The archive.
    pub archive: PathBuf,
    /// The name of the member that is at fault, if one is, with whatever a
    /// terminal might not like escaped.
    pub member: Option<String>,
    /// What is wrong.
    pub problem: ArchiveProblem,
}

fn of_member(member: Option<&str>) -> String {
    member.map(|name| format!("member \"{name}\": ")).unwrap_or_default()
}

/// What is wrong with an archive, or with one of its members.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The name says no format.
    #[error("expected a name that ends in .tar.gz, .tgz or .zip")]
    UnknownSuffix,
    /// The bytes are not what the format asks for.
    #[error("the archive is damaged or incomplete: {0}")]
    Damaged(String),
    /// The folder to unpack into is not empty.
    #[error("expected an empty folder to unpack into, found something in {0}")]
    NotEmpty(PathBuf),
    /// The system does not let us write.
    #[error("cannot be unpacked: {0}")]
    Unwritable(io::Error),
    /// The caller has changed its mind.
    #[error("unpacking was cancelled")]
    Cancelled,

    /// A name without any part.
    #[error("its name is empty")]
    EmptyName,
    /// No path has a NUL byte.
    #[error("its name has a NUL byte")]
    NulInName,
    /// A name that starts at the root folder.
    #[error("its name is absolute: expected one below the archive's folder")]
    AbsoluteName,
    /// A name that leads upwards.
    #[error("its name has `..`: expected one below the archive's folder")]
    ParentInName,
    /// PKWARE's specification of zip asks for `/` (APPNOTE 4.4.17.1).
    #[error("its name has a backslash: zip files have `/` between folders")]
    BackslashInName,
    /// More than [`UnpackLimits::name_bytes`](crate::UnpackLimits::name_bytes).
    #[error("its name, or the name that it links to, has more than {limit} bytes")]
    NameTooLong {
        /// How many are allowed.
        limit: usize,
    },
    /// More than [`UnpackLimits::depth`](crate::UnpackLimits::depth).
    #[error("it lies more than {limit} folders deep")]
    TooDeep {
        /// How many are allowed.
        limit: usize,
    },

    /// Neither file nor folder nor link.
    #[error("it is a {0}: expected files, folders and links only")]
    UnsupportedType(&'static str),
    /// A symbolic link to an absolute path.
    #[error("it is a symbolic link to the absolute path \"{target}\": expected one within the source tree")]
    AbsoluteLink {
        /// Where it points, escaped.
        target: String,
    },
    /// A symbolic link out of the tree.
    #[error("it is a symbolic link to \"{target}\", outside of the source tree")]
    OutsideLink {
        /// Where it points, escaped.
        target: String,
    },
    /// A hard link to something else than an earlier file of the archive.
    #[error("it is a hard link to \"{target}\": expected the name of an earlier regular file of the archive")]
    BadHardLink {
        /// Where it points, escaped.
        target: String,
    },
    /// A link to nothing, or to a name that no system has.
    #[error("it is a link with an empty target, or one with a NUL byte")]
    MalformedLink,
    /// It would have to be written below something that is no folder.
    #[error("it lies below \"{parent}\", which the archive has made a {kind}")]
    Below {
        /// The name of the earlier member, escaped.
        parent: String,
        /// What that is.
        kind: &'static str,
    },
    /// A folder and something else of one name.
    #[error("an earlier member of this name is a {earlier}, and this one is not")]
    Conflict {
        /// What the earlier member is.
        earlier: &'static str,
    },

    /// The content is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// The content is compressed in a way that we do not know.
    #[error("it is compressed by the method {0}: expected Stored or Deflated")]
    CompressionMethod(String),
    /// Some bytes belong to more than one member, which is how zip bombs are made.
    #[error("members overlap each other")]
    Overlap,

    /// More than [`UnpackLimits`](crate::UnpackLimits) allow for an archive of this size.
    #[error("it unpacks to more than {limit} bytes, the limit for an archive of {archive_bytes} bytes")]
    TooManyBytes {
        /// How many are allowed.
        limit: u64,
        /// How many the archive has.
        archive_bytes: u64,
    },
    /// More than [`UnpackLimits::members`](crate::UnpackLimits::members).
    #[error("it has more than {limit} files and folders")]
    TooManyMembers {
        /// How many are allowed.
        limit: u64,
    },
    /// More than is read of one file.
    #[error("it has more than {limit} bytes")]
    MemberTooLarge {
        /// How many are allowed.
        limit: u64,
    },

    /// No members.
    #[error("expected a source tree in the archive, found nothing")]
    Nothing,
}

impl ArchiveProblem {
    /// What an error means that came while an archive was read: one of our own
    /// that travelled through a reader, the system's, or a decoder's.
    pub(super) fn reading(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) if error.raw_os_error().is_some() => Self::Unreadable(error),
            Err(error) => Self::Damaged(error.to_string()),
        }
    }
}
