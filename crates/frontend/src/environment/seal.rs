//! The seal of an environment: whether it is still as it was made.
//!
//! Hooks may write to the environment that they run in, which would affect all its users. So
//! its files are listed when it is made.
//!
//! Bytecode does not break the seal, because Python writes it itself. But Python also trusts
//! bytecode that a full disk has truncated, so bytecode that differs is checked.
//!
//! A file is read only if nothing but its time differs. An archive in which a cache folder was
//! saved may have stored whole seconds only.
//!
//! After each hook the seal is looked at again, mostly to find it unbroken. No entry of a folder
//! comes or goes without changing the folder's ctime, so [`LastLook`] lists the folders only once.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::files::{COARSEST_TIMES, kept};
use nix::fcntl::{AtFlags, OFlag, open};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::contents::digest_of_file;

/// The files of an environment, by their paths within it.
///
/// The paths are strings, because comparing `Path`s takes longer than looking at the files.
/// Names that are not UTF-8 are escaped; wheels have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal(BTreeMap<String, SealEntry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum SealEntry {
    /// Size, modification time in seconds and nanoseconds, digest of the content.
    File(u64, i64, i64, String),
    Link(PathBuf),
    Folder,
}

/// How an environment compares with its seal.
#[derive(Debug)]
pub(super) struct Look {
    /// Paths that were added, changed or removed, except bytecode.
    pub differences: Vec<PathBuf>,
    /// Bytecode that was added: Python may have written it.
    pub bytecode: Vec<PathBuf>,
    /// Bytecode that was changed, or is another user's: it is to be removed.
    pub alien_bytecode: Vec<PathBuf>,
    /// A seal with the present times, if only those differ.
    pub restored: Option<Seal>,
}

impl Seal {
    /// Seals an environment. Reads every file.
    pub fn of(environment: &Path) -> io::Result<Self> {
        Self::with_digests(environment, &HashMap::new())
    }

    /// Seals an environment. Reads the files whose digests are not known. `digests`
    /// are by the paths within the environment.
    pub fn with_digests(environment: &Path, digests: &HashMap<PathBuf, String>) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        for entry in entries_of(environment) {
            let (name, path, metadata) = entry?;
            let content =
                || digests.get(Path::new(&name)).map_or_else(|| digest_of_file(&path), |known| Ok(known.clone()));
            let entry = SealEntry::of(&path, &metadata, content)?;
            entries.insert(name, entry);
        }
        Ok(Self(entries))
    }

    /// The files in it.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|(_, entry)| matches!(entry, SealEntry::File(..))).map(|(name, _)| Path::new(name))
    }

    /// Adds these files of the environment, or what they are now.
    pub fn add(&mut self, environment: &Path, files: &[PathBuf]) {
        for path in files {
            let entry = path.symlink_metadata().and_then(|found| SealEntry::of(path, &found, || digest_of_file(path)));
            if let (Ok(entry), Ok(name)) = (entry, path.strip_prefix(environment)) {
                self.0.insert(name.to_string_lossy().into_owned(), entry);
            }
        }
    }

    /// The folder itself and the folders in it, by their paths, except those of bytecode.
    fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self.0.iter().filter(|(_, entry)| matches!(entry, SealEntry::Folder));
        std::iter::once("").chain(folders.map(|(name, _)| name.as_str())).filter(|name| !is_bytecode(Path::new(name)))
    }

    /// Looks at every file, and reads those of which only the time differs. A file that cannot
    /// be read counts as removed, and so does one of another user, who could change it at any time.
    pub fn look(&self, environment: &Path) -> io::Result<Look> {
        let (mut now, mut differences) = (BTreeMap::new(), Vec::new());
        let (mut bytecode, mut alien_bytecode) = (Vec::new(), Vec::new());
        for entry in entries_of(environment) {
            let (name, path, metadata) = match entry {
                Err(error) if is_about_the_file(&error) => continue,
                entry => entry?,
            };
            let is_bytecode = is_bytecode(Path::new(&name));
            let is_own = is_own(metadata.uid());
            let is_usable = is_own && is_readable(&metadata);
            if !is_bytecode && !is_usable {
                continue;
            }
            let before = self.0.get(&name);
            let content = || match before {
                Some(SealEntry::File(size, seconds, nanoseconds, content)) if *size == metadata.len() => {
                    let is_untouched = (*seconds, *nanoseconds) == (metadata.mtime(), metadata.mtime_nsec());
                    if is_untouched { Ok(content.clone()) } else { digest_of_file(&path) }
                }
                _ => Ok(String::new()),
            };
            let entry = match SealEntry::of(&path, &metadata, content) {
                Err(error) if is_about_the_file(&error) => continue,
                entry => entry?,
            };
            let is_like = before.is_some_and(|before| before.is_like(&entry));
            if is_bytecode {
                if is_like && is_own {
                    now.insert(name, entry);
                } else if !(metadata.is_dir() && path.ends_with(BYTECODE)) {
                    let is_new = before.is_none() && is_own;
                    if is_new { bytecode.push(path) } else { alien_bytecode.push(path) }
                }
                continue;
            }
            if !is_like {
                differences.push(PathBuf::from(&name));
            }
            now.insert(name, entry);
        }
        for (name, before) in &self.0 {
            if is_bytecode(Path::new(name)) {
                // What is removed and made anew may differ from what was sealed.
                if !alien_bytecode.contains(&environment.join(name)) {
                    now.entry(name.clone()).or_insert_with(|| before.clone());
                }
            } else if !now.contains_key(name) {
                differences.push(PathBuf::from(name));
            }
        }
        differences.sort_unstable();
        let restored = (differences.is_empty() && now != self.0).then_some(Self(now));
        Ok(Look { differences, bytecode, alien_bytecode, restored })
    }
}

/// The last look that found a seal unbroken, which makes the next one quick.
#[derive(Debug, Default)]
pub(super) struct LastLook {
    /// The mutex is held during file access. Threads that wait for one that hangs would hang at the
    /// same file themselves.
    found: Mutex<Option<Unbroken>>,
}

#[derive(Debug)]
struct Unbroken {
    /// When the last look began.
    at: Instant,
    /// Each folder, and its state before its entries were listed. `None` if it was changed so
    /// shortly before that a later change could have the same time.
    folders: Option<Vec<(String, FolderState)>>,
}

/// What an open folder was opened for, and when its entries or its permissions were last changed.
type FolderState = (libc::dev_t, libc::ino_t, libc::time_t, i64);

impl LastLook {
    /// The paths that differ from the seal of this folder, as in [`Seal::look`]. The look begins
    /// after the call; simultaneous callers share one that finds nothing. Blocks.
    pub fn differences(&self, seal: &Seal, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let called_at = Instant::now();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().is_some_and(|found| found.at > called_at) {
            return Ok(Vec::new());
        }
        let at = Instant::now();
        if let Some(Unbroken { folders: Some(folders), .. }) = &*found
            && seal.is_unbroken(folder, folders)
        {
            found.as_mut().expect("it was found").at = at;
            return Ok(Vec::new());
        }
        let folders = Self::settled_folders(seal, folder);
        let differences = seal.look(folder)?.differences;
        *found = differences.is_empty().then_some(Unbroken { at, folders });
        Ok(differences)
    }

    fn settled_folders(seal: &Seal, folder: &Path) -> Option<Vec<(String, FolderState)>> {
        let settled = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(COARSEST_TIMES).as_secs();
        let folder = open_folder(folder)?;
        let state = |name: &str| {
            let state = folder_state(&status(&folder, name)?);
            (u64::try_from(state.2).ok()? < settled).then(|| (name.to_owned(), state))
        };
        seal.folders().map(state).collect()
    }
}

impl Seal {
    /// Whether nothing differs, given that nothing did when the folders were in these states. False
    /// if that cannot be told so quickly.
    fn is_unbroken(&self, folder: &Path, folders: &[(String, FolderState)]) -> bool {
        let Some(folder) = open_folder(folder) else { return false };
        let is_as_before = |(name, state): &(String, FolderState)| {
            status(&folder, name).is_some_and(|status| folder_state(&status) == *state)
        };
        let is_same = |(name, entry): (&String, &SealEntry)| match entry {
            SealEntry::File(size, seconds, nanoseconds, _) if !is_bytecode(Path::new(name)) => status(&folder, name)
                .is_some_and(|status| {
                    let is_file = status.st_mode & libc::S_IFMT == libc::S_IFREG;
                    is_file
                        && is_own(status.st_uid)
                        && status.st_mode & libc::S_IRUSR != 0
                        && u64::try_from(status.st_size) == Ok(*size)
                        && (status.st_mtime, status.st_mtime_nsec) == (*seconds, *nanoseconds)
                }),
            // A link leads elsewhere only if it is replaced.
            _ => true,
        };
        folders.iter().all(is_as_before) && self.0.iter().all(is_same)
    }
}

fn open_folder(path: &Path) -> Option<OwnedFd> {
    /// It needs no permission to read.
    #[cfg(target_os = "linux")]
    const LOOK: OFlag = OFlag::O_PATH;
    #[cfg(not(target_os = "linux"))]
    const LOOK: OFlag = OFlag::O_RDONLY;
    open(path, LOOK | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

/// The status of an entry below a folder, or of the folder itself. Links are not followed.
fn status(folder: &OwnedFd, name: &str) -> Option<FileStat> {
    let name = if name.is_empty() { "." } else { name };
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
}

fn folder_state(status: &FileStat) -> FolderState {
    (status.st_dev, status.st_ino, status.st_ctime, status.st_ctime_nsec)
}

/// Whether an error concerns a single file, and not the whole system.
fn is_about_the_file(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// Whether a file of this user is ours.
fn is_own(user: libc::uid_t) -> bool {
    user == nix::unistd::geteuid().as_raw()
}

/// Whether its owner may read it: hooks run as that user.
fn is_readable(metadata: &Metadata) -> bool {
    let needed = if metadata.is_dir() { 0o500 } else { 0o400 };
    metadata.is_symlink() || metadata.mode() & needed == needed
}

/// Removes bytecode that Python makes again. Blocks.
pub(super) fn remove_bytecode<'a>(files: impl IntoIterator<Item = &'a PathBuf>) {
    for path in files {
        if let Err(error) = kept::remove(path) {
            tracing::debug!("{}: {error}", path.display());
        }
    }
}

/// The name of folders for bytecode.
const BYTECODE: &str = "__pycache__";

/// Whether Python makes it when it imports a module. Not a `.pyc` elsewhere, which is a module
/// without source.
pub(super) fn is_bytecode(name: &Path) -> bool {
    name.components().any(|part| part.as_os_str() == BYTECODE)
}

type FolderEntry = (String, PathBuf, Metadata);

fn entries_of(environment: &Path) -> impl Iterator<Item = io::Result<FolderEntry>> {
    let entries = WalkDir::new(environment).follow_root_links(false).min_depth(1).into_iter();
    entries.map(move |entry| {
        let entry = entry?;
        let path = entry.path().strip_prefix(environment).unwrap_or(entry.path());
        let name = path.to_str().map_or_else(|| path.as_os_str().as_bytes().escape_ascii().to_string(), str::to_owned);
        let metadata = entry.metadata()?;
        Ok((name, entry.into_path(), metadata))
    })
}

impl SealEntry {
    fn of(path: &Path, metadata: &Metadata, content: impl FnOnce() -> io::Result<String>) -> io::Result<Self> {
        Ok(if metadata.is_dir() {
            Self::Folder
        } else if metadata.is_symlink() {
            Self::Link(path.read_link()?)
        } else {
            // Reading a pipe might block.
            let content = if metadata.is_file() { content()? } else { String::new() };
            Self::File(metadata.len(), metadata.mtime(), metadata.mtime_nsec(), content)
        })
    }

    /// Whether both are the same except for their times.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(size, _, _, content), Self::File(other_size, _, _, other_content)) => {
                (size, content) == (other_size, other_content)
            }
            (one, other) => one == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use std::time::Duration;

    use super::*;

    #[test]
    fn changed_and_new_bytecode_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/__pycache__")).unwrap();
        for name in ["a/__pycache__/same.pyc", "a/__pycache__/cut.pyc", "a/__pycache__/gone.pyc"] {
            fs::write(path(name), "bytecode").unwrap();
        }
        let mut seal = Seal::of(folder.path()).unwrap();
        fs::write(path("a/__pycache__/cut.pyc"), "byte").unwrap();
        fs::remove_file(path("a/__pycache__/gone.pyc")).unwrap();
        fs::write(path("a/__pycache__/new.pyc"), "").unwrap();
        let look = seal.look(folder.path()).unwrap();
        assert_eq!(look.differences, Vec::<PathBuf>::new());
        assert_eq!(look.bytecode, [path("a/__pycache__/new.pyc")]);
        assert_eq!(look.alien_bytecode, [path("a/__pycache__/cut.pyc")]);
        // What is made in its place may differ from it.
        seal = look.restored.unwrap();
        seal.add(folder.path(), &look.bytecode);
        let look = seal.look(folder.path()).unwrap();
        assert_eq!(look.bytecode, [path("a/__pycache__/cut.pyc")]);
        assert_eq!(look.alien_bytecode, Vec::<PathBuf>::new());
    }

    #[test]
    fn changes_are_found_and_bytecode_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("package")).unwrap();
        fs::write(path("package/a.py"), "a = 1").unwrap();
        fs::write(path("b.py"), "b = 1").unwrap();
        std::os::unix::fs::symlink("b.py", path("link")).unwrap();
        let seal = Seal::of(folder.path()).unwrap();
        let seal: Seal = serde_json::from_slice(&serde_json::to_vec(&seal).unwrap()).unwrap();
        fs::create_dir(path("package/__pycache__")).unwrap();
        fs::write(path("package/__pycache__/a.pyc"), "").unwrap();
        let differences = || seal.look(folder.path()).unwrap().differences;
        assert_eq!(differences(), Vec::<PathBuf>::new());
        fs::write(path("package/a.py"), "a = 12").unwrap();
        fs::remove_file(path("b.py")).unwrap();
        fs::write(path("c.py"), "").unwrap();
        fs::remove_file(path("link")).unwrap();
        std::os::unix::fs::symlink("c.py", path("link")).unwrap();
        assert_eq!(differences(), ["b.py", "c.py", "link", "package/a.py"].map(PathBuf::from));
        let name = OsStr::from_bytes(b"\xff.py");
        fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(differences()[0], Path::new(r"\xff.py"));
    }

    #[test]
    fn removed_and_unreadable_files_are_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("environment");
        let make = |folder: &Path| {
            fs::create_dir_all(folder.join("lib")).unwrap();
            fs::write(folder.join("lib/a.py"), "a = 1").unwrap();
        };
        make(&folder);
        let seal = Seal::of(&folder).unwrap();
        let differences = || seal.look(&folder).unwrap().differences;
        fs::set_permissions(folder.join("lib/a.py"), Permissions::from_mode(0o000)).unwrap();
        assert_eq!(differences(), [Path::new("lib/a.py")]);
        fs::rename(&folder, parent.path().join("elsewhere")).unwrap();
        assert_eq!(differences(), ["lib", "lib/a.py"].map(Path::new));
        std::os::unix::fs::symlink("elsewhere", &folder).unwrap();
        assert_eq!(differences(), ["lib", "lib/a.py"].map(Path::new), "its scripts lead elsewhere");
        fs::remove_file(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        assert_eq!(differences(), ["lib", "lib/a.py"].map(Path::new));
    }

    #[test]
    fn each_change_is_found_by_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("package/data")).unwrap();
        for name in ["package/a.py", "package/data/b.txt"] {
            fs::write(path(name), "some text").unwrap();
        }
        std::os::unix::fs::symlink("package/a.py", path("link")).unwrap();
        let seal = Seal::of(folder.path()).unwrap();
        let last = LastLook::default();
        // As if each folder had been changed long ago: a look must not need a second one to notice.
        let settle = || {
            let opened = open_folder(folder.path()).unwrap();
            let state = |name: &str| (name.to_owned(), folder_state(&status(&opened, name).unwrap()));
            let folders = Some(seal.folders().map(state).collect());
            *last.found.lock().unwrap() = Some(Unbroken { at: Instant::now(), folders });
        };
        let is_quick = || {
            let found = last.found.lock().unwrap();
            found.as_ref().is_some_and(|found| seal.is_unbroken(folder.path(), found.folders.as_ref().unwrap()))
        };
        let differences = || last.differences(&seal, folder.path()).unwrap();
        settle();
        assert!(is_quick());
        // What is no difference.
        fs::create_dir(path("package/data/__pycache__")).unwrap();
        assert!(!is_quick());
        assert_eq!(differences(), Vec::<PathBuf>::new());
        settle();
        fs::write(path("package/data/__pycache__/b.pyc"), "").unwrap();
        assert!(is_quick(), "bytecode is not looked at");
        // In place, with the same size.
        let modified = path("package/data/b.txt").metadata().unwrap().modified().unwrap();
        fs::write(path("package/data/b.txt"), "same size").unwrap();
        fs::File::open(path("package/data/b.txt")).unwrap().set_modified(modified + Duration::from_nanos(1)).unwrap();
        assert_eq!(differences(), [Path::new("package/data/b.txt")]);
        assert!(last.found.lock().unwrap().is_none(), "what was found before counts no more");
        fs::write(path("package/data/b.txt"), "some text").unwrap();
        fs::File::open(path("package/data/b.txt")).unwrap().set_modified(modified).unwrap();
        type Step<'a> = &'a dyn Fn();
        let changes: [(&str, Step, Step); 5] = [
            ("package/new.py", &|| fs::write(path("package/new.py"), "").unwrap(), &|| {
                fs::remove_file(path("package/new.py")).unwrap();
            }),
            ("package/a.py", &|| fs::rename(path("package/a.py"), folder.path().with_extension("a")).unwrap(), &|| {
                fs::rename(folder.path().with_extension("a"), path("package/a.py")).unwrap();
            }),
            (
                "package/a.py",
                &|| fs::set_permissions(path("package/a.py"), Permissions::from_mode(0o200)).unwrap(),
                &|| {
                    fs::set_permissions(path("package/a.py"), Permissions::from_mode(0o644)).unwrap();
                },
            ),
            (
                "link",
                &|| {
                    fs::remove_file(path("link")).unwrap();
                    std::os::unix::fs::symlink("package", path("link")).unwrap();
                },
                &|| {
                    fs::remove_file(path("link")).unwrap();
                    std::os::unix::fs::symlink("package/a.py", path("link")).unwrap();
                },
            ),
            (
                "package/data",
                &|| fs::set_permissions(path("package/data"), Permissions::from_mode(0o300)).unwrap(),
                &|| fs::set_permissions(path("package/data"), Permissions::from_mode(0o755)).unwrap(),
            ),
        ];
        for (name, change, undo) in changes {
            assert_eq!(differences(), Vec::<PathBuf>::new(), "before {name}");
            settle();
            change();
            assert!(differences().contains(&PathBuf::from(name)), "{name}");
            undo();
        }
    }

    #[test]
    fn what_was_just_changed_is_listed_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.py"), "a = 1").unwrap();
        let seal = Seal::of(folder.path()).unwrap();
        let last = LastLook::default();
        assert!(last.differences(&seal, folder.path()).unwrap().is_empty());
        assert!(last.found.lock().unwrap().as_ref().unwrap().folders.is_none());
    }

    #[test]
    fn times_alone_do_not_break_the_seal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.py");
        fs::write(&path, "a = 1").unwrap();
        let seal = Seal::of(folder.path()).unwrap();
        assert!(seal.look(folder.path()).unwrap().restored.is_none());
        let restore =
            || fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        restore();
        let look = seal.look(folder.path()).unwrap();
        assert_eq!(look.differences, Vec::<PathBuf>::new());
        let restored = look.restored.unwrap();
        assert!(restored.look(folder.path()).unwrap().restored.is_none(), "it is read once");
        fs::write(&path, "a = 2").unwrap();
        restore();
        assert_eq!(seal.look(folder.path()).unwrap().differences, [Path::new("a.py")]);
    }
}
