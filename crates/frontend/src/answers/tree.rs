//! The state of a source tree: every file, folder and link in it.
//!
//! What a hook itself leaves in its tree, such as `*.egg-info`, does not make it
//! another tree for the next hook. So a state is replaced by the *original* one that
//! hooks have made it from ([`AnswerStore::original`]), and a hook's answer counts for both.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use hookpool_supervisor::files::{FileStamp, Moment};
use serde::{Deserialize, Serialize};

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
    Socket,
    /// A named pipe or a device: whoever opens it reads what is in no file.
    Special,
}

/// A look at a tree: what is in it, without the content of its files.
#[derive(Debug)]
pub(super) struct TreeLook {
    tree: PathBuf,
    /// Before the look.
    at: Moment,
    found: Vec<Seen>,
}

/// Something in a tree, by its path relative to it.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    kind: FileType,
    stamp: FileStamp,
}

/// The state of a tree by all that a look at it shows.
#[derive(Serialize, Deserialize)]
struct KnownState {
    look: Digest,
    state: Digest,
}

/// The files of a tree whose bytes were read, so that they need not be read again.
#[derive(Serialize, Deserialize)]
struct KnownFiles {
    /// When the tree was looked at; each file was read then or earlier.
    at: Moment,
    files: Vec<(PathBuf, FileStamp, Digest)>,
}

impl AnswerStore {
    /// The digest of a tree's state, if everything in it is as it was when the state was
    /// determined last. Blocks.
    pub(super) fn known_state(&self, look: &TreeLook) -> Option<Digest> {
        let known = self.recall::<KnownState>(Fact::Tree, Digest::of_path(&look.tree))?;
        (known.look == look.digest()).then_some(known.state)
    }

    /// The state of a tree. Reads the files that have changed since the state was
    /// determined last. Blocks.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub(super) fn state_of(&self, look: &TreeLook) -> io::Result<TreeState> {
        let name = Digest::of_path(&look.tree);
        let known = self.recall::<KnownFiles>(Fact::TreeFiles, name);
        let read_at = known.as_ref().map(|known| known.at);
        let mut known: HashMap<PathBuf, (FileStamp, Digest)> = known
            .into_iter()
            .flat_map(|known| known.files)
            .map(|(path, stamp, digest)| (path, (stamp, digest)))
            .collect();
        let (mut state, mut files, mut has_news) = (TreeState::default(), Vec::new(), false);
        for Seen { path, kind, stamp } in &look.found {
            let permissions = stamp.permissions();
            let found = if kind.is_dir() {
                Entry::Folder { permissions }
            } else if kind.is_symlink() {
                Entry::Link { target: look.tree.join(path).read_link()? }
            } else if kind.is_file() {
                let unchanged = known
                    .remove(path)
                    .filter(|(before, _)| read_at.is_some_and(|read_at| before.still_holds(stamp, read_at)));
                let digest = match unchanged {
                    Some((_, digest)) => digest,
                    None => {
                        // What may change without a trace is read again the next time.
                        has_news |= stamp.is_settled(look.at);
                        Digest::of_file(&look.tree.join(path))?
                    }
                };
                files.push((path.clone(), *stamp, digest));
                Entry::File { permissions, digest }
            } else if kind.is_socket() {
                Entry::Socket
            } else {
                Entry::Special
            };
            if kind.is_file() || kind.is_symlink() {
                state.stamps.insert(path.clone(), *stamp);
            }
            state.entries.insert(path.clone(), found);
        }
        if has_news || !known.is_empty() {
            self.note(Fact::TreeFiles, name, &KnownFiles { at: look.at, files });
        }
        if look.is_settled() {
            let known = KnownState { look: look.digest(), state: state.digest() };
            self.note(Fact::Tree, name, &known);
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

impl TreeLook {
    /// Looks at a tree. Blocks.
    ///
    /// # Errors
    /// A folder in it cannot be read.
    pub fn at(tree: &Path) -> io::Result<Self> {
        let at = Moment::now();
        let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(folder) = folders.pop() {
            let start = found.len();
            // Relative to the open folder, which takes less than a path from the root.
            for entry in tree.join(&folder).read_dir()? {
                let entry = entry?;
                let (path, metadata) = (folder.join(entry.file_name()), entry.metadata()?);
                let kind = metadata.file_type();
                if !(kind.is_dir() && has_objects(tree, &path)) {
                    found.push(Seen { path, kind, stamp: FileStamp::of(&metadata) });
                }
            }
            found[start..].sort_unstable_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str()));
            folders.extend(found[start..].iter().filter(|seen| seen.kind.is_dir()).map(|seen| seen.path.clone()));
        }
        Ok(Self { tree: tree.to_owned(), at, found })
    }

    /// A digest of all that it shows. The times of a folder tell of files that came and
    /// went again, which do not count.
    fn digest(&self) -> Digest {
        let mut bytes = Vec::with_capacity(128 * self.found.len());
        for Seen { path, kind, stamp } in &self.found {
            let path = path.as_os_str().as_bytes();
            bytes.extend((path.len() as u64).to_le_bytes());
            bytes.extend(path);
            if kind.is_dir() {
                bytes.push(b'd');
                bytes.extend(stamp.permissions().to_le_bytes());
            } else {
                bytes.push(b'f');
                bytes.extend(stamp.to_bytes());
            }
        }
        Digest::of(&bytes)
    }

    /// Whether each later change of a file shows in a later look.
    fn is_settled(&self) -> bool {
        self.found.iter().all(|seen| seen.kind.is_dir() || seen.stamp.is_settled(self.at))
    }
}

/// Whether a folder has the objects or logs of a repository. They are not part of the
/// state: the references say which of them count.
fn has_objects(tree: &Path, folder: &Path) -> bool {
    let is_named = ["objects", "logs"].iter().any(|name| folder.file_name() == Some(OsStr::new(name)));
    // A branch may have this name, too.
    let beside = |name: &str| tree.join(folder).with_file_name(name);
    is_named && is_in_repository(folder) && beside("HEAD").is_file() && beside("refs").is_dir()
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
                Entry::Socket => b"socket".into(),
                Entry::Special => b"special".into(),
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

    /// A named pipe or a device: what is read from it is not part of the tree's state.
    pub fn special_file(&self) -> Option<&Path> {
        let is_special = |(_, entry): &(&PathBuf, &Entry)| **entry == Entry::Special;
        self.entries.iter().find(is_special).map(|(path, _)| path.as_path())
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
            store.state_of(&TreeLook::at(&tree).unwrap()).unwrap()
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

    /// A look some time after the last change.
    fn later_look(tree: &Path) -> TreeLook {
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
        TreeLook { at: later.into(), ..TreeLook::at(tree).unwrap() }
    }

    #[test]
    fn a_state_is_known_until_something_in_the_tree_is_another() {
        use std::fs::{self, File, Permissions};
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (tree, store) = (folder.path().join("tree"), AnswerStore::open(folder.path()));
        let path = |name: &str| tree.join(name);
        fs::create_dir_all(path("folder/empty")).unwrap();
        fs::write(path("folder/file"), "1").unwrap();
        symlink("folder", path("link")).unwrap();
        let determine = || store.state_of(&later_look(&tree)).unwrap().digest();
        let known = || store.known_state(&later_look(&tree));
        assert_eq!(known(), None);
        let edit_in_place = || {
            let modified = path("folder/file").metadata().unwrap().modified().unwrap();
            fs::write(path("folder/file"), "2").unwrap();
            File::options().write(true).open(path("folder/file")).unwrap().set_modified(modified).unwrap();
        };
        let changes: [&dyn Fn(); 8] = [
            &edit_in_place,
            &|| fs::rename(path("folder/file"), path("folder/renamed")).unwrap(),
            &|| fs::set_permissions(path("folder/renamed"), Permissions::from_mode(0o755)).unwrap(),
            &|| fs::set_permissions(path("folder"), Permissions::from_mode(0o700)).unwrap(),
            &|| fs::remove_file(path("link")).and_then(|()| symlink("other!", path("link"))).unwrap(),
            &|| fs::remove_dir(path("folder/empty")).unwrap(),
            &|| fs::write(path("new"), "").unwrap(),
            &|| fs::remove_file(path("new")).and_then(|()| fs::create_dir(path("new"))).unwrap(),
        ];
        for (index, change) in changes.iter().enumerate() {
            let before = determine();
            assert_eq!(known(), Some(before), "{index}");
            change();
            assert_eq!(known(), None, "{index}");
            assert_ne!(determine(), before, "{index}");
        }
        let state = determine();
        fs::write(path("come and gone"), "").and_then(|()| fs::remove_file(path("come and gone"))).unwrap();
        assert_eq!(known(), Some(state));
        // Two edits may have the same times if they are close together.
        fs::write(path("file"), "1").unwrap();
        let look = TreeLook::at(&tree).unwrap();
        store.state_of(&look).unwrap();
        assert_eq!(store.known_state(&look), None);
    }

    #[test]
    fn the_files_of_a_large_tree_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, store) = (folder.path().join("tree"), AnswerStore::open(folder.path()));
        std::fs::create_dir(&tree).unwrap();
        for number in 0..6000 {
            std::fs::write(tree.join(format!("{number:0>200}")), "").unwrap();
        }
        store.state_of(&later_look(&tree)).unwrap();
        let known = store.recall::<KnownFiles>(Fact::TreeFiles, Digest::of_path(&tree));
        assert_eq!(known.map(|known| known.files.len()), Some(6000));
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
