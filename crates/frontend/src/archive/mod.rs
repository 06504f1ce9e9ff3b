//! Unpacks source archives that nobody vouches for.
//!
//! The rules are those of Python's data filter (PEP 706), made stricter: what
//! that filter would mend, such as an absolute name, is refused here. Nothing
//! is ever written outside the folder that the caller names:
//!
//! - Names are relative, without `..`.
//! - Symbolic links are made after everything else, so that nothing can be
//!   written through one; they stay within the tree, whatever other links they
//!   lead through (see [`name::link_target`]).
//! - Hard links lead to a regular file that the archive itself has brought.
//! - Devices, named pipes and whatever else is no file, folder or link are
//!   refused.
//! - [`UnpackLimits`] bound what an archive may become.

mod error;
mod fault;
mod gzip;
mod limits;
mod member;
mod name;
mod pax;
mod tar;
mod tree;
mod zip;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use error::{ArchiveError, ArchiveProblem};
pub use limits::UnpackLimits;

use crate::metadata::{self, METADATA_LIMIT};
use crate::source::has_suffix;
use fault::Fault;
use limits::Budget;
use member::{Kind, Visit};
use tree::Tree;

/// Unpacks a source archive, `.tar.gz`, `.tgz` or `.zip`, into the empty folder
/// `into`, which nobody else may write to, and answers with the one folder at
/// its top: the source tree. Blocking; `cancel` is looked at all the time.
///
/// Files get the modification times of the archive and mode 0644, or 0755 where
/// their owner may execute them, less the umask. Owners are ignored.
///
/// # Errors
/// [`ArchiveError`], which names the archive and the member. What was unpacked
/// until then is left for the caller to remove, with `into`.
pub fn unpack(
    archive: &Path,
    into: &Path,
    limits: &UnpackLimits,
    cancel: &AtomicBool,
) -> Result<PathBuf, ArchiveError> {
    let unpack = || {
        let (file, budget) = open(archive, limits, cancel)?;
        let mut tree = Tree::new(into, &budget)?;
        each_member(archive, file, &budget, &mut |member, content| {
            tree.place(member, content)?;
            Ok(ControlFlow::Continue(()))
        })?;
        tree.finish()
    };
    unpack().map_err(|fault| fault.of(archive))
}

/// The `PKG-INFO` in the folder at the top of a source archive, without
/// unpacking it: the first one where a broken archive has several. `None` if
/// there is none. Blocking.
///
/// # Errors
/// [`ArchiveError`]: the archive is damaged, or larger than `limits` allow, or
/// its `PKG-INFO` has more than 16 MiB.
pub fn read_pkg_info(
    archive: &Path,
    limits: &UnpackLimits,
    cancel: &AtomicBool,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    let read = || {
        let (file, budget) = open(archive, limits, cancel)?;
        let mut found = None;
        each_member(archive, file, &budget, &mut |member, content| {
            if !matches!(member.kind, Kind::File { .. }) || !is_pkg_info(&member.name, limits) {
                return Ok(ControlFlow::Continue(()));
            }
            let bytes = metadata::read_bounded(content).map_err(ArchiveProblem::reading)?;
            found = Some(bytes.ok_or(ArchiveProblem::MemberTooLarge { limit: METADATA_LIMIT })?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    };
    read().map_err(|fault: Fault| fault.of(archive))
}

fn is_pkg_info(name: &[u8], limits: &UnpackLimits) -> bool {
    let Ok(path) = name::member_path(name, limits) else { return false };
    path.ends_with("PKG-INFO") && path.components().count() == 2
}

fn open<'a>(
    archive: &Path,
    limits: &'a UnpackLimits,
    cancel: &'a AtomicBool,
) -> Result<(File, Budget<'a>), ArchiveProblem> {
    let file = metadata::open_regular_file(archive).map_err(ArchiveProblem::Unreadable)?;
    let size = file.metadata().map_err(ArchiveProblem::Unreadable)?.len();
    Ok((file, Budget::new(limits, size, cancel)))
}

fn each_member(archive: &Path, file: File, budget: &Budget<'_>, visit: &mut Visit<'_>) -> Result<(), Fault> {
    if [".tar.gz", ".tgz"].iter().any(|suffix| has_suffix(archive, suffix)) {
        tar::each_member(file, budget, visit)
    } else if has_suffix(archive, ".zip") {
        zip::each_member(file, budget, visit)
    } else {
        Err(ArchiveProblem::UnknownSuffix.into())
    }
}
