//! Members of `.tar.gz` files (POSIX.1-2001 pax and ustar, GNU, and V7).
//!
//! The crate `tar` reads the single headers; the headers that describe the next member
//! are interpreted here. The crate itself would read names of any length into memory,
//! and is not strict enough about pax records.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use tar::EntryType;

use super::error::{ArchiveProblem, Fault};
use super::gzip::GzipMembers;
use super::limits::Budget;
use super::pax;
use super::{Member, MemberKind, VisitMember, is_executable};

/// The limit for the description of a member: its names, and extended attributes, which
/// are ignored.
const DESCRIPTION_LIMIT: u64 = 1 << 20;

/// Reads the members of a `.tar.gz` file.
pub(super) fn each_member(file: File, budget: &Budget<'_>, visit: &mut VisitMember<'_>) -> Result<(), Fault> {
    let mut archive = tar::Archive::new(budget.metered(GzipMembers::new(BufReader::new(file))));
    let mut described = Description::default();
    for entry in archive.entries().map_err(ArchiveProblem::reading)?.raw(true) {
        let mut entry = entry.map_err(ArchiveProblem::reading)?;
        if described.read(&mut entry)? {
            continue;
        }
        let description = std::mem::take(&mut described);
        let name = description.name(entry.header());
        let at_member = Fault::at(&name);
        let visited = description.member(entry.header(), name).and_then(|member| visit(member, &mut entry));
        // The rest of the content is read here, where an error can name the member.
        let visited = visited.and_then(|()| io::copy(&mut entry, &mut io::sink()).map_err(ArchiveProblem::reading));
        visited.map_err(at_member)?;
    }
    if described != Description::default() {
        return Err(damaged("it ends after the description of a member that is not there").into());
    }
    // Up to the checksum at the end of the gzip file.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(ArchiveProblem::reading)?;
    Ok(())
}

/// What the headers before the header of a member say about it.
#[derive(Default, PartialEq)]
struct Description {
    has_pax: bool,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Duration>,
    sparse: bool,
}

impl Description {
    /// Reads an entry that describes the next member, or all of them; false if it is a
    /// member itself.
    fn read<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool, ArchiveProblem> {
        match entry.header().entry_type() {
            EntryType::GNULongName => set_once(&mut self.name, c_string(&described_in(entry)?))?,
            EntryType::GNULongLink => set_once(&mut self.link, c_string(&described_in(entry)?))?,
            EntryType::XHeader if self.has_pax => return Err(damaged("two pax headers for one member")),
            EntryType::XHeader => {
                self.has_pax = true;
                self.read_pax(&described_in(entry)?)?;
            }
            EntryType::XGlobalHeader => {
                // Usually comments: `git archive` writes the commit there.
                let mut global = Self::default();
                global.read_pax(&described_in(entry)?)?;
                global.modified = None;
                if global != Self::default() {
                    return Err(damaged("a global pax header that names or sizes members"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Of several records for one key, the last counts (POSIX.1-2001). An empty one is
    /// ignored.
    fn read_pax(&mut self, header: &[u8]) -> Result<(), ArchiveProblem> {
        let (mut name, mut link) = (None, None);
        for record in pax::records(header) {
            let (key, value) = record.map_err(|pax::Malformed| damaged("a pax header is malformed"))?;
            match key {
                b"path" => name = Some(value.to_vec()),
                b"linkpath" => link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or_else(|| damaged("a pax header has a size that is no number"))?);
                }
                b"mtime" => self.modified = pax::time(value),
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        for (field, value) in [(&mut self.name, name), (&mut self.link, link)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                set_once(field, value)?;
            }
        }
        Ok(())
    }

    fn name(&self, header: &tar::Header) -> Vec<u8> {
        self.name.clone().unwrap_or_else(|| header.path_bytes().into_owned())
    }

    fn member(&self, header: &tar::Header, name: Vec<u8>) -> Result<Member, ArchiveProblem> {
        let size = header.entry_size().map_err(ArchiveProblem::reading)?;
        // They may only differ from 8 GiB on, for which the header has no room. If they
        // do otherwise, different readers would see different archives.
        if self.size.is_some_and(|described| described != size) {
            return Err(damaged("its size in the pax header is not the one in its own header"));
        }
        if self.sparse {
            return Err(ArchiveProblem::UnsupportedType("sparse file"));
        }
        let link = || self.link.clone().or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
        let kind = match header.entry_type() {
            // Before POSIX, a folder was a file with a slash at the end of its name.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => MemberKind::Folder,
            EntryType::Regular | EntryType::Continuous => {
                MemberKind::File { executable: header.mode().is_ok_and(is_executable) }
            }
            EntryType::Directory => MemberKind::Folder,
            EntryType::Symlink => MemberKind::SymbolicLink(link()),
            EntryType::Link => MemberKind::HardLink(link()),
            other => return Err(ArchiveProblem::UnsupportedType(type_name(other))),
        };
        // Readers disagree whether such content is to be skipped.
        if size > 0 && !matches!(kind, MemberKind::File { .. }) {
            return Err(damaged("it is a folder or a link and has content"));
        }
        let modified = self.modified.or_else(|| header.mtime().ok().map(Duration::from_secs));
        let modified = modified.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        Ok(Member { name, kind, modified })
    }
}

fn described_in<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, ArchiveProblem> {
    let size = entry.size();
    if size > DESCRIPTION_LIMIT {
        return Err(damaged(&format!("a member's description has {size} bytes, expected at most {DESCRIPTION_LIMIT}")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(ArchiveProblem::reading)?;
    if bytes.len() as u64 != size {
        return Err(damaged("it ends within the description of a member"));
    }
    Ok(bytes)
}

fn set_once(field: &mut Option<Vec<u8>>, value: Vec<u8>) -> Result<(), ArchiveProblem> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged("one member has two names, or two link targets")),
    }
}

fn c_string(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn damaged(reason: &str) -> ArchiveProblem {
    ArchiveProblem::Damaged(reason.to_owned())
}

fn type_name(entry_type: EntryType) -> &'static str {
    match entry_type {
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "named pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "member of an unknown type",
    }
}
