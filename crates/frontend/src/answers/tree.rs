//! The state of a source tree: every file, folder and link in it.
//!
//! What a hook itself leaves in its tree, such as `*.egg-info`, does not make it
//! another tree for the next hook. So a state is replaced by the *original* one that
//! hooks have made it from ([`AnswerStore::original`]), and a hook's answer counts for both.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hookpool_supervisor::files::{FileStamp, Moment};
use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

use super::digest::Digest;
use super::guard::NotKept;
use super::store::{AnswerStore, Fact};

/// What is in a tree, by the paths relative to it.
#[derive(Clone, Debug, Default)]
pub(super) struct TreeState {
    entries: BTreeMap<PathBuf, Entry>,
    /// Of files and links, which tell of an edit that was taken back.
    stamps: BTreeMap<PathBuf, FileStamp>,
}

/// Something in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Folder {
        permissions: u32,
    },
    File {
        permissions: u32,
        digest: Digest,
    },
    Link {
        target: PathBuf,
    },
    /// A named pipe, for example.
    Other,
}

/// A file whose bytes were read.
#[derive(Clone, Serialize, Deserialize)]
struct KnownFile {
    path: PathBuf,
    stamp: FileStamp,
    digest: Digest,
}

/// The files of a tree whose bytes were read, so that they need not be read again.
#[derive(Serialize, Deserialize)]
struct KnownFiles {
    /// When the tree was looked at; each file was read then or earlier.
    at: Moment,
    files: Vec<KnownFile>,
}

impl AnswerStore {
    /// The state of a tree now. Reads the files that have changed since the last look.
    /// Blocks.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub(super) fn state_of(&self, tree: &Path) -> io::Result<TreeState> {
        let name = Digest::of_path(tree);
        let known = self.recall::<KnownFiles>(Fact::Tree, name);
        let read_at = known.as_ref().map(|known| known.at);
        let mut known: BTreeMap<PathBuf, KnownFile> =
            known.into_iter().flat_map(|known| known.files).map(|file| (file.path.clone(), file)).collect();
        let at = Moment::now();
        let (mut state, mut files, mut has_changed) = (TreeState::default(), Vec::new(), false);
        for entry in WalkDir::new(tree).min_depth(1).into_iter().filter_entry(|entry| counts(tree, entry)) {
            let entry = entry?;
            let path = entry.path().strip_prefix(tree).unwrap_or(entry.path()).to_owned();
            let kind = entry.file_type();
            let stamp = FileStamp::of(&entry.metadata()?);
            let permissions = stamp.permissions();
            let found = if kind.is_dir() {
                Entry::Folder { permissions }
            } else if kind.is_symlink() {
                Entry::Link { target: entry.path().read_link()? }
            } else if kind.is_file() {
                let unchanged = known
                    .remove(&path)
                    .filter(|file| read_at.is_some_and(|read_at| file.stamp.still_holds(&stamp, read_at)));
                let digest = match unchanged {
                    Some(file) => file.digest,
                    None => {
                        has_changed = true;
                        Digest::of_file(entry.path())?
                    }
                };
                files.push(KnownFile { path: path.clone(), stamp, digest });
                Entry::File { permissions, digest }
            } else {
                Entry::Other
            };
            if kind.is_file() || kind.is_symlink() {
                state.stamps.insert(path.clone(), stamp);
            }
            state.entries.insert(path, found);
        }
        if has_changed || !known.is_empty() {
            self.note(Fact::Tree, name, &KnownFiles { at, files });
        }
        Ok(state)
    }

    /// The state that hooks have made another one from; that itself, if none did.
    /// Blocks.
    pub(super) fn original(&self, state: Digest) -> Digest {
        self.recall(Fact::Original, state).unwrap_or(state)
    }

    /// Notes that a hook has made one state from another. Blocks.
    pub(super) fn set_original(&self, state: Digest, original: Digest) {
        if state != original && self.original(state) != original {
            self.note(Fact::Original, state, &original);
        }
    }
}

/// Whether an entry is part of the state. The objects and logs of a repository are
/// not: its references say which of them count.
fn counts(tree: &Path, entry: &DirEntry) -> bool {
    let path = entry.path().strip_prefix(tree).unwrap_or(entry.path());
    let may_be_objects = || {
        let is_named = ["objects", "logs"].iter().any(|name| entry.file_name() == *name);
        is_in_repository(path) && is_named && entry.file_type().is_dir()
    };
    // A branch may have this name, too.
    let beside = |name: &str| entry.path().with_file_name(name);
    !(may_be_objects() && beside("HEAD").is_file() && beside("refs").is_dir())
}

fn is_in_repository(path: &Path) -> bool {
    path.components().next() == Some(Component::Normal(".git".as_ref()))
}

impl TreeState {
    /// A digest of it.
    pub fn digest(&self) -> Digest {
        let mut parts: Vec<Cow<'_, [u8]>> = Vec::with_capacity(2 * self.entries.len());
        for (path, entry) in &self.entries {
            parts.push(path.as_os_str().as_bytes().into());
            parts.push(match entry {
                Entry::Folder { permissions } => format!("folder {permissions:o}").into_bytes().into(),
                Entry::File { permissions, digest } => format!("file {permissions:o} {digest}").into_bytes().into(),
                Entry::Link { target } => [b"link ", target.as_os_str().as_bytes()].concat().into(),
                Entry::Other => b"other".into(),
            });
        }
        Digest::of_list(parts.iter().map(AsRef::as_ref))
    }

    /// A link that leads out of the tree: what is there is not part of its state.
    pub fn link_to_outside(&self) -> Option<&Path> {
        let leads_out = |path: &Path, target: &Path| {
            let mut depth = path.components().count() as isize - 1;
            target.is_absolute()
                || target.components().any(|component| {
                    depth += match component {
                        Component::ParentDir => -1,
                        Component::Normal(_) => 1,
                        _ => 0,
                    };
                    depth < 0
                })
        };
        self.entries.iter().find_map(|(path, entry)| match entry {
            Entry::Link { target } if leads_out(path, target) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Whether it has a repository that is complete in itself. That of a worktree or
    /// of a submodule is elsewhere.
    pub fn has_own_repository(&self) -> bool {
        matches!(self.entries.get(Path::new(".git")), Some(Entry::Folder { .. }))
    }

    /// Whether its repository is elsewhere.
    pub fn has_repository_elsewhere(&self) -> bool {
        self.entries.contains_key(Path::new(".git")) && !self.has_own_repository()
    }

    /// Whether the hook alone has made `after` from this state. It has written `written`;
    /// a path with a `/` at its end stands for all that is in the folder. git may rewrite
    /// its index whenever it looks.
    pub fn changed_by_others(&self, after: &Self, written: Option<&[String]>, with_git: bool) -> Result<(), NotKept> {
        let changed: BTreeSet<&PathBuf> = self.entries.keys().chain(after.entries.keys()).collect();
        let (folders, files): (Vec<&str>, Vec<&str>) =
            written.unwrap_or_default().iter().map(String::as_str).partition(|path| path.ends_with('/'));
        let (folders, files) = (paths(folders), paths(files));
        for path in changed {
            let is_own = || files.contains(path.as_path()) || path.ancestors().any(|folder| folders.contains(folder));
            let is_of_git = || with_git && is_in_repository(path);
            let is_same = || {
                let stamps = [self, after].map(|state| state.stamps.get(path).map(FileStamp::of_content));
                self.entries.get(path) == after.entries.get(path) && stamps[0] == stamps[1]
            };
            if !is_same() && !is_own() && !is_of_git() {
                return Err(NotKept::Changed(path.display().to_string()));
            }
        }
        Ok(())
    }
}

fn paths(texts: Vec<&str>) -> BTreeSet<&Path> {
    texts.into_iter().map(Path::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(entries: &[(&str, Entry)]) -> TreeState {
        let entries = entries.iter().map(|(path, entry)| (PathBuf::from(path), entry.clone())).collect();
        TreeState { entries, stamps: BTreeMap::new() }
    }

    fn file(content: &str) -> Entry {
        Entry::File { permissions: 0o644, digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn links_that_lead_out() {
        for (path, target, expected) in [
            ("a", "b", false),
            ("a", "../b", true),
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("a/b", "x/../../../tree/c", true),
            ("a", "/etc/hosts", true),
            ("a", ".", false),
        ] {
            let link = Entry::Link { target: target.into() };
            assert_eq!(state(&[(path, link)]).link_to_outside().is_some(), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn an_edit_that_was_taken_back_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, store) = (folder.path().join("tree"), AnswerStore::open(folder.path()));
        std::fs::create_dir(&tree).unwrap();
        let write = |content: &str| std::fs::write(tree.join("file"), content).unwrap();
        let state = |seconds| {
            let file = std::fs::File::open(tree.join("file")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
            store.state_of(&tree).unwrap()
        };
        write("1");
        let before = state(1);
        assert_eq!(before.changed_by_others(&state(1), None, false), Ok(()));
        write("2");
        write("1");
        let after = state(2);
        assert_eq!(before.digest(), after.digest());
        assert_eq!(before.changed_by_others(&after, None, false), Err(NotKept::Changed("file".into())));
        let written = ["file".to_owned()];
        assert_eq!(before.changed_by_others(&after, Some(&written), false), Ok(()));
    }

    #[test]
    fn who_has_changed_a_tree() {
        let written = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        let before = state(&[("setup.py", file("1")), (".git/index", file("1"))]);
        let with = |path: &str, entry: Entry| {
            let mut after = before.clone();
            after.entries.insert(path.into(), entry);
            after
        };
        let without_setup = state(&[(".git/index", file("1"))]);
        for (after, written, with_git, expected) in [
            (before.clone(), None, false, true),
            (with("a.egg-info/PKG-INFO", file("2")), written(&["a.egg-info/PKG-INFO"]), false, true),
            (with("a.egg-info/PKG-INFO", file("2")), written(&["a.egg-info/"]), false, true),
            (with("a.egg-info/PKG-INFO", file("2")), written(&["a.egg-info"]), false, false),
            (with("setup.py", file("2")), written(&["./"]), false, false),
            (with("setup.py", file("2")), written(&["a.egg-info/"]), false, false),
            (with("setup.py", file("2")), None, false, false),
            (with(".git/index", file("2")), written(&[]), true, true),
            (with(".git/index", file("2")), written(&[]), false, false),
            (without_setup, written(&[]), true, false),
        ] {
            let outcome = before.changed_by_others(&after, written.as_deref(), with_git);
            assert_eq!(outcome.is_ok(), expected, "{after:?} {written:?}");
        }
    }
}
