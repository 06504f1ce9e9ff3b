//! The state of files and folders, by which changes are noticed.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstatat};

use super::offered::{OfferedModule, offered_modules};
use crate::files::{Links, read_regular_file};

/// The metadata of a file that change with its content. The time of the inode's
/// change (ctime) is not among them, since hard links change it, and installers
/// make hard links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    /// Device and inode, if they are known.
    pub identity: Option<(u64, u64)>,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { identity: Some((metadata.dev(), metadata.ino())), size: metadata.size(), modified: modified(metadata) }
    }

    /// Whether both may belong to the same content.
    fn agrees_with(&self, other: &Self) -> bool {
        let same_identity = match (self.identity, other.identity) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        };
        same_identity && self.size == other.size && self.modified == other.modified
    }
}

fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// A path whose change makes an importer stale.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    /// A file. Without a stamp: it did not exist.
    File { path: PathBuf, stamp: Option<Stamp> },
    /// A folder on `sys.path` or of a package, by the modules that it offers.
    /// Other files do not count: hooks write files, and Python writes bytecode.
    Folder { path: PathBuf, modified: Option<i64>, offered: BTreeSet<OfferedModule> },
    /// A file of settings, by its content: rewriting it with the same content is
    /// no change.
    Content { path: PathBuf, stamp: Option<Stamp>, content: Option<Vec<u8>> },
    /// The `.pth` and `.start` files of a folder, which `site` reads at start, by
    /// their content.
    SiteFiles { folder: PathBuf, modified: Option<i64>, files: Vec<Self> },
}

impl Watched {
    /// In bytes; no file of settings is larger.
    const LARGEST_CONTENT: u64 = 16 << 20;

    pub fn file(path: &Path) -> Self {
        Self::File { stamp: stamp_of(path), path: path.to_owned() }
    }

    /// A folder, or an archive on `sys.path`, which is compared by its time.
    pub fn folder(path: &Path) -> Self {
        // The time is read first, so that a change in between is noticed later.
        Self::folder_as_of(path, folder_time(path))
    }

    /// The same, as it was when it had this modification time.
    pub fn folder_as_of(path: &Path, modified: Option<i64>) -> Self {
        if let Some(stamp) = stamp_of_archive(path) {
            let stamp = modified.map(|modified| Stamp { modified, ..stamp });
            return Self::File { path: path.to_owned(), stamp };
        }
        let offered = offered_modules(path);
        // If it was changed since, its modules at that time are not known. An
        // empty set makes it stale.
        let offered = if modified == folder_time(path) { offered } else { BTreeSet::new() };
        Self::Folder { path: path.to_owned(), modified, offered }
    }

    pub fn content(path: &Path) -> Self {
        // The stamp is read first, so that a change in between is noticed later.
        let stamp = stamp_of(path);
        Self::Content { stamp, content: read(path), path: path.to_owned() }
    }

    pub fn site_files(folder: &Path) -> Self {
        let modified = folder_time(folder);
        let files = site_files(folder).iter().map(|path| Self::content(path)).collect();
        Self::SiteFiles { folder: folder.to_owned(), modified, files }
    }

    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Folder { path, .. } | Self::Content { path, .. } => path,
            Self::SiteFiles { folder, .. } => folder,
        }
    }

    /// The path that has changed, if one has.
    pub fn change(&mut self) -> Option<PathBuf> {
        self.change_in(&mut OpenFolder::default())
    }

    /// The same, with the folder of the previous check.
    pub fn change_in(&mut self, folder: &mut OpenFolder) -> Option<PathBuf> {
        match self {
            Self::File { path, stamp } => {
                (!agree(stamp.as_ref(), folder.stamp_of(path).as_ref())).then(|| path.clone())
            }
            Self::Folder { path, modified, offered } => {
                let time = folder_time(path);
                if *modified == time {
                    return None;
                }
                let same = *offered == offered_modules(path);
                if same {
                    *modified = time;
                }
                (!same).then(|| path.clone())
            }
            Self::Content { path, stamp, content } => {
                let same = agree(stamp.as_ref(), stamp_of(path).as_ref()) || *content == read(path);
                (!same).then(|| path.clone())
            }
            Self::SiteFiles { folder, modified, files } => {
                if let Some(change) = files.iter_mut().find_map(Self::change) {
                    return Some(change);
                }
                // No file was changed or removed; one may have been added.
                let time = folder_time(folder);
                if *modified == time {
                    return None;
                }
                let same = site_files(folder).len() == files.len();
                if same {
                    *modified = time;
                }
                (!same).then(|| folder.clone())
            }
        }
    }

    /// Whether it was changed since `time` of [`file_clock`], so that it is not known which
    /// content was read. Modification times in the future are ignored.
    pub fn was_changed_since(&self, time: SystemTime) -> bool {
        let since = nanoseconds(time);
        let now = nanoseconds(SystemTime::now());
        let between = |modified: i64| modified >= since && modified <= now;
        match self {
            Self::File { stamp, .. } | Self::Content { stamp, .. } => {
                stamp.is_some_and(|stamp| between(stamp.modified))
            }
            // It is compared by its modules and not by its time.
            Self::Folder { .. } => false,
            Self::SiteFiles { files, .. } => files.iter().any(|file| file.was_changed_since(time)),
        }
    }
}

/// How far the clock of file systems may be behind.
const TICK: Duration = Duration::from_millis(10);

/// The present by the clock of file systems: what is changed from now on gets this time or
/// a later one.
pub(crate) fn file_clock() -> SystemTime {
    /// The kernel reads its clock once in each tick (`clock_gettime(2)`).
    #[cfg(target_os = "linux")]
    fn ticking() -> Option<SystemTime> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let (seconds, rest) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        Some(UNIX_EPOCH + Duration::new(seconds, rest))
    }
    #[cfg(not(target_os = "linux"))]
    fn ticking() -> Option<SystemTime> {
        None
    }
    ticking().unwrap_or_else(|| by_file_clock_at_least(SystemTime::now()))
}

/// What [`file_clock`] said at least when the system's clock said this.
pub(crate) fn by_file_clock_at_least(time: SystemTime) -> SystemTime {
    time.checked_sub(TICK).unwrap_or(UNIX_EPOCH)
}

/// An open folder, so that the path of many files in it is resolved once, which
/// saves much of the time.
#[derive(Debug, Default)]
pub(crate) struct OpenFolder {
    path: PathBuf,
    folder: Option<OwnedFd>,
}

impl OpenFolder {
    /// Opens it with O_PATH, which needs no permission to read.
    #[cfg(target_os = "linux")]
    const LOOK: OFlag = OFlag::O_PATH;
    #[cfg(not(target_os = "linux"))]
    const LOOK: OFlag = OFlag::O_RDONLY;

    fn stamp_of(&mut self, path: &Path) -> Option<Stamp> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return stamp_of(path) };
        if self.path != parent {
            self.folder = open(parent, Self::LOOK | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
            parent.clone_into(&mut self.path);
        }
        let Some(folder) = &self.folder else { return stamp_of(path) };
        let status = fstatat(folder, name, AtFlags::empty()).ok()?;
        Some(Stamp {
            identity: Some((status.st_dev, status.st_ino)),
            size: u64::try_from(status.st_size).unwrap_or_default(),
            modified: status.st_mtime.saturating_mul(1_000_000_000).saturating_add(status.st_mtime_nsec),
        })
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn agree(before: Option<&Stamp>, now: Option<&Stamp>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before.agrees_with(now),
        (None, None) => true,
        _ => false,
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    path.metadata().ok().map(|metadata| Stamp::of(&metadata))
}

fn stamp_of_archive(path: &Path) -> Option<Stamp> {
    path.metadata().ok().filter(Metadata::is_file).map(|metadata| Stamp::of(&metadata))
}

fn folder_time(path: &Path) -> Option<i64> {
    path.metadata().ok().map(|metadata| modified(&metadata))
}

fn read(path: &Path) -> Option<Vec<u8>> {
    read_regular_file(path, Links::Follow, Watched::LARGEST_CONTENT).ok()
}

/// The `.pth` and `.start` files of a folder. Blocks.
pub(super) fn site_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    // PEP 829 added the latter, in Python 3.15.
    let is_read = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pth" || extension == "start");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_read).collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_known_by_its_size_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("module.py");
        let mut missing = Watched::file(&path);
        assert_eq!(missing.change(), None);
        fs::write(&path, "a = 1").unwrap();
        assert_eq!(missing.change(), Some(path.clone()));
        let mut there = Watched::file(&path);
        assert_eq!(there.change(), None);
        assert!(there.was_changed_since(SystemTime::now() - Duration::from_secs(5)));
        assert!(!there.was_changed_since(SystemTime::now() + Duration::from_secs(5)));
        let before = file_clock();
        fs::write(&path, "a = 1").unwrap();
        assert!(Watched::file(&path).was_changed_since(before), "in the same tick, or a later one");
        while file_clock() <= path.metadata().unwrap().modified().unwrap() {
            std::thread::yield_now();
        }
        assert!(!Watched::file(&path).was_changed_since(file_clock()), "one tick later");
        fs::write(&path, "a = 12").unwrap();
        assert_eq!(there.change(), Some(path.clone()));
        fs::remove_file(&path).unwrap();
        assert_eq!(there.change(), Some(path.clone()));
    }

    #[test]
    fn site_files_count_by_content() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.pth"), "/src/a\n").unwrap();
        let mut watched = Watched::site_files(folder.path());
        fs::write(folder.path().join("package.py"), "").unwrap();
        fs::write(folder.path().join("a.pth"), "/src/a\n").unwrap();
        assert_eq!(watched.change(), None);
        fs::write(folder.path().join("b.pth"), "/src/b\n").unwrap();
        assert_eq!(watched.change(), Some(folder.path().to_owned()));
        fs::remove_file(folder.path().join("b.pth")).unwrap();
        fs::write(folder.path().join("a.pth"), "/src/c\n").unwrap();
        assert_eq!(watched.change(), Some(folder.path().join("a.pth")));
        let mut watched = Watched::site_files(folder.path());
        fs::write(folder.path().join("a.start"), "a:begin\n").unwrap();
        assert_eq!(watched.change(), Some(folder.path().to_owned()));
    }

    #[test]
    fn a_folder_is_known_by_what_it_offers() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("helper.py"), "").unwrap();
        let mut watched = Watched::folder(folder.path());
        // Times that differ by more than the file system's resolution.
        let touch = |seconds| {
            let time = SystemTime::now() + Duration::from_secs(seconds);
            fs::File::open(folder.path()).unwrap().set_modified(time).unwrap();
        };
        fs::write(folder.path().join("README"), "").unwrap();
        fs::create_dir(folder.path().join("helper")).unwrap();
        touch(1);
        assert_eq!(watched.change(), None);
        fs::write(folder.path().join("helper/__init__.py"), "").unwrap();
        touch(2);
        assert_eq!(watched.change(), Some(folder.path().to_owned()));
    }

    #[test]
    fn an_archive_in_place_of_a_folder_is_known_by_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("modules.zip");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::folder(&path);
        let mut earlier = Watched::folder_as_of(&path, Some(1));
        assert_eq!(watched.change(), None);
        assert_eq!(earlier.change(), Some(path.clone()));
        fs::write(&path, "other").unwrap();
        assert_eq!(watched.change(), Some(path.clone()));
    }
}
