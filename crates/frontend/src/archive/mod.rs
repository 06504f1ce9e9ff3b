//! Unpacks source archives that nobody vouches for.
//!
//! The rules are those of Python's data filter (PEP 706), made stricter: what
//! that filter would mend, such as an absolute name, is refused here. Nothing
//! is ever written outside the folder that the caller names:
//!
//! - Names are relative, without `..`.
//! - Symbolic links are made after everything else, so that nothing can be
//!   written through one; they stay within the tree, whatever other links they
//!   lead through (see `name::LinkTarget`).
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
mod top;
mod tree;
mod wanted;
mod zip;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use error::{ArchiveError, ArchiveProblem};
pub use limits::UnpackLimits;

use hookpool_supervisor::files::{Links, open_regular_file};

use crate::source::has_suffix;
use fault::Fault;
use limits::Budget;
use member::Visit;
use tree::Tree;
use wanted::Wanted;

/// Unpacks a source archive, `.tar.gz`, `.tgz` or `.zip`, into the empty folder
/// `into`, which nobody else may write to, and answers with the source tree: the one
/// folder at the archive's top, or `into` where there is none. Blocking; `cancel` is looked at all the time.
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
        each_member(archive, file, &budget, &mut |member, content| tree.place(member, content))?;
        tree.finish()
    };
    unpack().map_err(|fault| fault.of(archive))
}

/// The files of these names in the source tree of an archive, without unpacking
/// it: `None` for what is not there, or is no regular file. Blocking.
///
/// # Errors
/// [`ArchiveError`]: the archive is damaged, or larger than `limits` allow, or
/// one of the files has more than 16 MiB.
pub fn read_files<const N: usize>(
    archive: &Path,
    names: [&str; N],
    limits: &UnpackLimits,
    cancel: &AtomicBool,
) -> Result<[Option<Vec<u8>>; N], ArchiveError> {
    let read = || {
        let (file, budget) = open(archive, limits, cancel)?;
        let mut wanted = Wanted::new(names);
        each_member(archive, file, &budget, &mut |member, content| wanted.see(&member, content, limits))?;
        Ok(wanted.found())
    };
    read().map_err(|fault: Fault| fault.of(archive))
}

fn open<'a>(
    archive: &Path,
    limits: &'a UnpackLimits,
    cancel: &'a AtomicBool,
) -> Result<(File, Budget<'a>), ArchiveProblem> {
    let file = open_regular_file(archive, Links::Follow).map_err(ArchiveProblem::Unreadable)?;
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
