//! Members of `.zip` files (PKWARE's APPNOTE).

use std::fs::File;
use std::io::{BufReader, Read};
use std::time::{Duration, SystemTime};

use time::PrimitiveDateTime;
use zip::result::ZipError;
use zip::{CompressionMethod, DateTime, ExtraField, ZipArchive};

use super::error::{ArchiveProblem, Fault};
use super::limits::Budget;
use super::{Member, MemberKind, VisitMember, is_executable};

/// The file type in a Unix mode (inode(7)).
mod file_type {
    pub const MASK: u32 = 0o170_000;
    pub const FOLDER: u32 = 0o040_000;
    pub const REGULAR: u32 = 0o100_000;
    pub const SYMBOLIC_LINK: u32 = 0o120_000;
}

type ZipMember<'a> = zip::read::ZipFile<'a, BufReader<File>>;

/// Reads the members of a `.zip` file, in the order of its central directory.
pub(super) fn each_member(file: File, budget: &Budget<'_>, visit: &mut VisitMember<'_>) -> Result<(), Fault> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(problem)?;
    // A bomb may have the same compressed bytes as the content of many members, which
    // the ratio of a single member does not show.
    if archive.has_overlapping_entries().map_err(problem)? {
        return Err(ArchiveProblem::Overlap.into());
    }
    for index in 0..archive.len() {
        let name = archive.by_index_data(index).and_then(|entry| Ok(entry.name()?.into_owned())).map_err(problem)?;
        let at_member = Fault::at(name.as_bytes());
        let visited = open(&mut archive, index).and_then(|mut file| {
            let member = member(&mut file, name.into_bytes(), budget)?;
            visit(member, &mut budget.metered(file))
        });
        visited.map_err(at_member)?;
    }
    Ok(())
}

fn open(archive: &mut ZipArchive<BufReader<File>>, index: usize) -> Result<ZipMember<'_>, ArchiveProblem> {
    let entry = archive.by_index_data(index).map_err(problem)?;
    if entry.encrypted() {
        return Err(ArchiveProblem::Encrypted);
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(ArchiveProblem::CompressionMethod(entry.compression().to_string()));
    }
    archive.by_index(index).map_err(problem)
}

fn member(file: &mut ZipMember<'_>, name: Vec<u8>, budget: &Budget<'_>) -> Result<Member, ArchiveProblem> {
    if name.contains(&b'\\') {
        return Err(ArchiveProblem::BackslashInName);
    }
    let mode = file.unix_mode().unwrap_or_default();
    let kind = match mode & file_type::MASK {
        file_type::SYMBOLIC_LINK => MemberKind::SymbolicLink(read_target(file, budget)?),
        file_type::FOLDER => MemberKind::Folder,
        0 | file_type::REGULAR if name.ends_with(b"/") => MemberKind::Folder,
        0 | file_type::REGULAR => MemberKind::File { executable: is_executable(mode) },
        _ => return Err(ArchiveProblem::UnsupportedType("device, a named pipe or a socket")),
    };
    Ok(Member { name, kind, modified: modified(file) })
}

/// The content of a symbolic link is its target.
fn read_target(file: &mut ZipMember<'_>, budget: &Budget<'_>) -> Result<Vec<u8>, ArchiveProblem> {
    // One more byte, so that a target that is too long is noticed.
    let longest = budget.limits.name_bytes as u64 + 1;
    let mut target = Vec::new();
    budget.metered(file.take(longest)).read_to_end(&mut target).map_err(ArchiveProblem::reading)?;
    Ok(target)
}

/// The exact time in the extra field, or else the MS-DOS time. That has no time zone; it
/// is taken for UTC, so that the result does not depend on the local time zone.
fn modified(file: &ZipMember<'_>) -> Option<SystemTime> {
    let exact = file.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time().map(u64::from),
        _ => None,
    });
    match exact {
        Some(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        None => file.last_modified().and_then(in_utc),
    }
}

fn in_utc(time: DateTime) -> Option<SystemTime> {
    Some(PrimitiveDateTime::try_from(time).ok()?.assume_utc().into())
}

fn problem(error: ZipError) -> ArchiveProblem {
    match error {
        ZipError::Io(error) => ArchiveProblem::reading(error),
        error => ArchiveProblem::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ms_dos_times_are_taken_for_utc() {
        let seconds = |year, month, day, hour, minute, second| {
            let time = DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap();
            in_utc(time).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(seconds(1980, 1, 1, 0, 0, 0), 315_532_800);
        assert_eq!(seconds(2000, 2, 29, 12, 0, 0), 951_825_600);
        assert_eq!(seconds(2000, 3, 1, 0, 0, 0), 951_868_800);
        assert_eq!(seconds(2024, 12, 31, 23, 59, 58), 1_735_689_598);
        assert_eq!(seconds(2100, 3, 1, 0, 0, 0), 4_107_542_400);
    }
}
