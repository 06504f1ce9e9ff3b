//! Where environments lie in the cache folder.
//!
//! ```text
//! environments/1/
//!   made/NAME/          an environment; it cannot be moved, its scripts know where it is
//!   made/NAME.lock      held by its maker, shared by its users; its time is that of the last use
//!   made/NAME.json      the manifest: written last, so that what has one is complete
//!   contents/ID         the name of an environment with this content
//!   contents.lock       held while a content gets its name
//!   answers/KEY.json    what a list of requirements resolved to, and when
//!   answers/KEY.lock    held by who asks for that list
//! ```

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{FolderError, LockFile, kept};

use super::manifest::Manifest;
use crate::files::read_json;

/// Counts the forms of what is kept here.
const FORMAT: &str = "1";

#[derive(Clone, Debug)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    /// Makes the folders.
    pub fn open(cache_folder: &Path) -> Result<Self, FolderError> {
        let store = Self::at(cache_folder);
        store.make_folders()?;
        Ok(store)
    }

    /// Makes the folders that are not there.
    pub fn make_folders(&self) -> Result<(), FolderError> {
        let parents = [self.root.parent().unwrap_or(&self.root), &self.root].map(Path::to_owned);
        parents.iter().chain(&[self.made(), self.contents(), self.answers()]).try_for_each(|path| kept::folder(path))
    }

    /// The folders, whether they are there or not.
    pub fn at(cache_folder: &Path) -> Self {
        Self { root: cache_folder.join("environments").join(FORMAT) }
    }

    pub fn made(&self) -> PathBuf {
        self.root.join("made")
    }

    pub fn contents(&self) -> PathBuf {
        self.root.join("contents")
    }

    pub fn answers(&self) -> PathBuf {
        self.root.join("answers")
    }

    pub fn environment(&self, name: &str) -> PathBuf {
        self.made().join(name)
    }

    pub fn environment_lock(&self, name: &str) -> PathBuf {
        self.made().join(format!("{name}.lock"))
    }

    pub fn manifest(&self, name: &str) -> PathBuf {
        self.made().join(format!("{name}.json"))
    }

    pub fn content(&self, content_id: &str) -> PathBuf {
        self.contents().join(content_id)
    }

    /// The name of the environment with this content, as it was noted.
    pub fn named(&self, content_id: &str) -> Option<String> {
        String::from_utf8(kept::read(&self.content(content_id)).ok()?).ok()
    }

    pub fn contents_lock(&self) -> PathBuf {
        self.root.join("contents.lock")
    }

    pub fn answer(&self, key: &str) -> PathBuf {
        self.answers().join(format!("{key}.json"))
    }

    pub fn answer_lock(&self, key: &str) -> PathBuf {
        self.answers().join(format!("{key}.lock"))
    }

    /// Of everything that lies in the folder of environments.
    pub fn names(&self) -> Vec<String> {
        names_in(&self.made())
    }

    /// Removes all that belongs to an environment. To be called by who holds
    /// its lock alone, or knows that nobody else has heard of it. The manifest
    /// first: what is cut off here is a leftover. The lock last.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        kept::remove(&self.manifest(name))?;
        kept::remove(&self.environment(name))?;
        kept::remove(&self.environment_lock(name))
    }

    /// Whether it is not complete, or of use to one process alone.
    pub fn is_leftover(&self, name: &str) -> bool {
        read_json::<Manifest>(&self.manifest(name)).is_none_or(|manifest| manifest.private)
    }

    /// Removes an environment that is not complete, or was private, and that
    /// nobody uses or makes: its process has died. Says whether it did.
    pub fn remove_leftover(&self, name: &str) -> bool {
        if !self.is_leftover(name) {
            return false;
        }
        let Ok(Some(_lock)) = LockFile::try_exclusive(&self.environment_lock(name)) else { return false };
        // It may have been completed before its maker let go of it.
        self.is_leftover(name) && self.remove(name).is_ok()
    }
}

/// The names of which the folder has files, without their endings.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| name(entry.path())).filter(|name| is_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A name that nobody else has.
pub(super) fn random_name() -> String {
    // Seeded by the system; whoever makes the lock file finds out about the
    // other one, if there is one against all odds.
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}", half() ^ half().rotate_left(32))
}

/// Whether it can be a name of ours: a file from elsewhere leads nowhere.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
