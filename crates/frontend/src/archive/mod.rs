//! Unpacks untrusted source archives.
//!
//! The rules are those of Python's data filter (PEP 706), but stricter: what that
//! filter would correct, such as an absolute name, is refused here. Nothing is ever
//! written outside the folder that the caller names:
//!
//! - Names are relative, without `..`.
//! - Symbolic links are made after everything else, so that nothing is written
//!   through one. They stay within the tree, whatever other links they lead through
//!   (see `name::LinkTarget`).
//! - Hard links lead to an earlier regular file of the archive.
//! - Everything but files, folders and links is refused, such as devices and named
//!   pipes.
//! - [`UnpackLimits`] bound the result.

mod error;
mod gzip;
mod limits;
mod name;
mod pax;
mod tar;
mod top;
mod tree;
mod wanted;
mod zip;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

pub use error::{ArchiveError, ArchiveProblem};
pub use limits::UnpackLimits;

use hookpool_supervisor::files::{Links, open_regular_file};

use crate::source::has_suffix;
use error::Fault;
use limits::Budget;
use tree::TreeWriter;
pub(crate) use wanted::Wanted;
use wanted::{Contents, WantedFiles};

/// Unpacks a source archive, `.tar.gz`, `.tgz` or `.zip`, into the empty folder
/// `into`, which nobody else may write to. Returns the source tree: the one folder at
/// the top of the archive, or `into` if there is no such folder. Blocks, until it is
/// done or `cancel` is set.
///
/// Files get the modification times of the archive, and mode 0644, or 0755 if their
/// owner may execute them, less the umask. Owners are ignored.
///
/// # Errors
/// [`ArchiveError`], which names the archive and the member. The caller has to remove
/// `into` with what was unpacked until then.
pub fn unpack(
    archive: &Path,
    into: &Path,
    limits: &UnpackLimits,
    cancel: &AtomicBool,
) -> Result<PathBuf, ArchiveError> {
    let unpack = || {
        let (file, budget) = open(archive, limits, cancel)?;
        let mut tree = TreeWriter::new(into, &budget)?;
        each_member(archive, file, &budget, &mut |member, content| tree.place(member, content))?;
        tree.finish()
    };
    unpack().map_err(|fault| fault.of(archive))
}

/// Reads the files with these names at the top of the source tree of an archive,
/// without unpacking it. `None` for a file that is missing, or is no regular file.
/// Blocks, until it is done or `cancel` is set.
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
    read_wanted(archive, names.map(Wanted::Content), limits, cancel)
}

/// As [`read_files`], for files of which the content is wanted, or only whether they are there.
pub(crate) fn read_wanted<const N: usize>(
    archive: &Path,
    wanted: [Wanted<'_>; N],
    limits: &UnpackLimits,
    cancel: &AtomicBool,
) -> Result<Contents<N>, ArchiveError> {
    let read = || {
        let (file, budget) = open(archive, limits, cancel)?;
        let mut wanted = WantedFiles::new(wanted);
        each_member(archive, file, &budget, &mut |member, content| wanted.read(&member, content, limits))?;
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

fn each_member(archive: &Path, file: File, budget: &Budget<'_>, visit: &mut VisitMember<'_>) -> Result<(), Fault> {
    if [".tar.gz", ".tgz"].iter().any(|suffix| has_suffix(archive, suffix)) {
        tar::each_member(file, budget, visit)
    } else if has_suffix(archive, ".zip") {
        zip::each_member(file, budget, visit)
    } else {
        Err(ArchiveProblem::UnknownSuffix.into())
    }
}

/// A member of an archive, as the archive describes it.
#[derive(Debug)]
struct Member {
    /// Not checked yet.
    pub name: Vec<u8>,
    pub kind: MemberKind,
    /// The time of its last modification, if that is known.
    pub modified: Option<SystemTime>,
}

#[derive(Debug)]
enum MemberKind {
    Folder,
    File {
        executable: bool,
    },
    /// With its target, not checked yet.
    SymbolicLink(Vec<u8>),
    /// With the name of another member, not checked yet.
    HardLink(Vec<u8>),
}

/// Called with each member and its content.
type VisitMember<'a> = dyn FnMut(Member, &mut dyn Read) -> Result<(), ArchiveProblem> + 'a;

/// Whether a file's owner may execute it: the only bit of the mode that is kept.
fn is_executable(mode: u32) -> bool {
    mode & 0o100 != 0
}
