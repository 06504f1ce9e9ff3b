//! Reading single files of an archive without unpacking it.

use std::io::Read;

use super::error::ArchiveProblem;
use super::limits::UnpackLimits;
use super::name::member_path;
use super::top::Top;
use super::{Member, MemberKind};
use crate::metadata::{METADATA_LIMIT, read_bounded};

/// A file at the top of the source tree, by its name.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Content(&'a str),
    /// The same, but one that is too large is no error: it is as if there were none.
    ContentIfShort(&'a str),
    /// Only whether there is one, of any size; it is found with empty content.
    Presence(&'a str),
}

/// The content of each file that is wanted.
pub(super) type Contents<const N: usize> = [Option<Vec<u8>>; N];

/// The files that are wanted from the top of the source tree. Only the end of the
/// archive shows which folder that is.
pub(super) struct WantedFiles<'a, const N: usize> {
    wanted: [Wanted<'a>; N],
    top: Top,
    at_top: Contents<N>,
    in_folder: Contents<N>,
}

impl<'a, const N: usize> WantedFiles<'a, N> {
    pub fn new(wanted: [Wanted<'a>; N]) -> Self {
        let none = || [const { None }; N];
        Self { wanted, top: Top::default(), at_top: none(), in_folder: none() }
    }

    /// Reads a member if it is wanted. Of several with the same name the last one counts,
    /// as when they are unpacked.
    pub fn read(
        &mut self,
        member: &Member,
        content: &mut dyn Read,
        limits: &UnpackLimits,
    ) -> Result<(), ArchiveProblem> {
        // A member that cannot be unpacked is not wanted either.
        let Ok(path) = member_path(&member.name, limits) else { return Ok(()) };
        self.top.add(&path, matches!(member.kind, MemberKind::Folder));
        let contents = match path.components().count() {
            1 => &mut self.at_top,
            2 => &mut self.in_folder,
            _ => return Ok(()),
        };
        for (wanted, found) in self.wanted.iter().zip(contents) {
            match wanted {
                Wanted::Content(name) | Wanted::ContentIfShort(name) if path.ends_with(name) => {
                    *found = None;
                    if let MemberKind::File { .. } = member.kind {
                        *found = read_bounded(content).map_err(ArchiveProblem::reading)?;
                        if found.is_none() && matches!(wanted, Wanted::Content(_)) {
                            return Err(ArchiveProblem::MemberTooLarge { limit: METADATA_LIMIT });
                        }
                    }
                }
                Wanted::Presence(name) if path.ends_with(name) => *found = Some(Vec::new()),
                Wanted::Content(_) | Wanted::ContentIfShort(_) | Wanted::Presence(_) => {}
            }
        }
        Ok(())
    }

    pub fn found(self) -> Contents<N> {
        match self.top {
            Top::Folder(_) => self.in_folder,
            Top::Nothing | Top::Several => self.at_top,
        }
    }
}
