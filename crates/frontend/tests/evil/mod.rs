//! Archives that no tool writes, and a place to unpack them.
#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use hookpool_frontend::{ArchiveError, ArchiveProblem, UnpackLimits};
use tar::EntryType;

pub mod raw_zip;

/// A folder with an archive, a file that must not change, and the empty folder that is unpacked
/// into.
pub struct Lab {
    folder: tempfile::TempDir,
    pub archive: PathBuf,
    pub limits: UnpackLimits,
}

impl Lab {
    pub fn new(file_name: &str, archive: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name);
        fs::write(&path, archive).unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        fs::create_dir(folder.path().join("into")).unwrap();
        Self { folder, archive: path, limits: UnpackLimits::default() }
    }

    pub fn tar(members: &[Vec<u8>]) -> Self {
        Self::new("a-1.tar.gz", &gzip(&tar(members)))
    }

    pub fn target(&self) -> PathBuf {
        self.folder.path().join("into")
    }

    /// Unpacks, and checks that nothing was written outside.
    pub fn unpack(&self) -> Result<PathBuf, ArchiveError> {
        let before = self.outside();
        let unpacked = hookpool_frontend::unpack(&self.archive, &self.target(), &self.limits, &AtomicBool::new(false));
        assert_eq!(self.outside(), before, "nothing is written outside");
        let top = unpacked.as_ref().map_or_else(|_| self.target(), Clone::clone);
        for path in below(&self.target()) {
            self.check(&path, &top);
        }
        if let Err(error) = &unpacked {
            assert!(error.to_string().contains(self.archive.to_str().unwrap()), "{error}");
        }
        unpacked
    }

    fn check(&self, path: &Path, top: &Path) {
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{}", path.display());
        if kind.is_symlink() {
            if let Ok(target) = path.canonicalize() {
                assert!(target.starts_with(top.canonicalize().unwrap()), "{} leads out", path.display());
            }
        } else {
            assert_eq!(metadata.permissions().mode() & 0o7022, 0, "{}", path.display());
        }
    }

    /// What must not change: name, content and the number of hard links.
    fn outside(&self) -> BTreeMap<PathBuf, (Vec<u8>, u64)> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let state = |path: &PathBuf| (fs::read(path).unwrap_or_default(), path.metadata().unwrap().nlink());
        entries.filter(|path| *path != self.target()).map(|path| (path.clone(), state(&path))).collect()
    }

    /// The problem because of which the archive is refused, and the name of the member.
    pub fn refused(&self) -> (ArchiveProblem, Option<String>) {
        let error = self.unpack().unwrap_err();
        if let Some(member) = &error.member {
            assert!(error.to_string().contains(member.as_str()), "{error}");
        }
        (error.problem, error.member)
    }

    pub fn pkg_info(&self) -> Result<Option<Vec<u8>>, ArchiveError> {
        let never = AtomicBool::new(false);
        hookpool_frontend::read_files(&self.archive, ["PKG-INFO"], &self.limits, &never).map(|[found]| found)
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The members one after the other, and the two blocks that end an archive.
pub fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [&members.concat()[..], &[0; 1024]].concat()
}

/// A member with any name, type, mode and link target, valid or not.
pub fn raw(name: &[u8], entry_type: EntryType, mode: u32, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [header.as_bytes(), content, &padding].concat()
}

pub fn file(name: &str, content: &str) -> Vec<u8> {
    raw(name.as_bytes(), EntryType::Regular, 0o644, b"", content.as_bytes())
}

pub fn folder(name: &str) -> Vec<u8> {
    raw(name.as_bytes(), EntryType::Directory, 0o755, b"", b"")
}

pub fn symlink(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), EntryType::Symlink, 0o777, target.as_bytes(), b"")
}

pub fn hard_link(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), EntryType::Link, 0o644, target.as_bytes(), b"")
}

/// A pax header with these records, for the next member.
pub fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    raw(b"pax", EntryType::XHeader, 0o644, b"", &pax_records(records))
}

pub fn pax_records(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
        format!("{} {key}={value}\n", rest + digits)
    };
    records.iter().map(record).collect::<String>().into_bytes()
}
