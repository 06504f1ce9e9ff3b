//! What both formats have in common.

use std::io::Read;
use std::time::SystemTime;

use super::error::ArchiveProblem;

/// A member of an archive, as the archive describes it.
#[derive(Debug)]
pub(super) struct Member {
    /// As it stands there: to be checked before use.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// When its content was last modified, if that is known.
    pub modified: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Folder,
    File {
        executable: bool,
    },
    /// Where it points, as it stands there.
    SymbolicLink(Vec<u8>),
    /// The name of another member, as it stands there.
    HardLink(Vec<u8>),
}

/// What is done with each member and its content.
pub(super) type Visit<'a> = dyn FnMut(Member, &mut dyn Read) -> Result<(), ArchiveProblem> + 'a;

/// Whether a file's mode lets its owner execute it: the one bit that is kept.
pub(super) fn is_executable(mode: u32) -> bool {
    mode & 0o100 != 0
}
