//! Whether an environment is as it was made.
//!
//! Hooks may write to the environment that they run in, and all its other
//! users would see that. So everything in it is listed when it is made, but for
//! the bytecode, which Python keeps by itself.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

/// What was there, by the path within the environment.
///
/// As text, for paths are compared part by part, which takes longer than to
/// look at the files. Names that are no text are escaped; wheels have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    /// Size, seconds and nanoseconds of the last change.
    File(u64, i64, i64),
    Link(PathBuf),
    Folder,
}

impl Seal {
    /// Looks at every file; reads none.
    pub fn of(environment: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        let is_bytecode = |entry: &walkdir::DirEntry| entry.file_name() == "__pycache__";
        for entry in WalkDir::new(environment).min_depth(1).into_iter().filter_entry(|entry| !is_bytecode(entry)) {
            let entry = entry?;
            let path = entry.path().strip_prefix(environment).unwrap_or(entry.path());
            let name =
                path.to_str().map_or_else(|| path.as_os_str().as_bytes().escape_ascii().to_string(), str::to_owned);
            entries.insert(name, Entry::of(entry.path(), &entry.metadata()?)?);
        }
        Ok(Self(entries))
    }

    /// What differs: paths that were added, changed or taken away.
    pub fn differences(&self, now: &Self) -> Vec<PathBuf> {
        let added_or_changed = now.0.iter().filter(|(path, entry)| self.0.get(*path) != Some(entry));
        let gone = self.0.iter().filter(|(path, _)| !now.0.contains_key(*path));
        let mut paths: Vec<PathBuf> = added_or_changed.chain(gone).map(|(path, _)| PathBuf::from(path)).collect();
        paths.sort_unstable();
        paths
    }
}

impl Entry {
    fn of(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        Ok(if metadata.is_dir() {
            Self::Folder
        } else if metadata.is_symlink() {
            Self::Link(path.read_link()?)
        } else {
            Self::File(metadata.len(), metadata.mtime(), metadata.mtime_nsec())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use super::*;

    #[test]
    fn changes_are_told_and_bytecode_is_none() {
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
        let differences = || seal.differences(&Seal::of(folder.path()).unwrap());
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
}
