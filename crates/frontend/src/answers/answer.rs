//! What is kept of a hook.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::time::Duration;

use hookpool_supervisor::CapturedOutput;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::Digest;

/// The answer of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub outcome: Outcome,
    /// The files that it made.
    pub files: Files,
    pub stdout: Output,
    pub stderr: Output,
    /// How long the hook ran.
    pub hook_time: Duration,
    /// In seconds since 1970.
    pub made_at: u64,
}

/// What a hook returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Returned(Value),
    /// The backend has no such hook.
    Missing,
}

/// The end of what a hook printed, without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    tail: Bytes,
    truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    /// They are not UTF-8.
    Raw(Vec<u8>),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&CapturedOutput> for Output {
    fn from(output: &CapturedOutput) -> Self {
        let tail = match String::from_utf8(output.tail.clone()) {
            Ok(text) => Bytes::Text(text),
            Err(error) => Bytes::Raw(error.into_bytes()),
        };
        Self { tail, truncated: output.truncated }
    }
}

impl From<Output> for CapturedOutput {
    fn from(output: Output) -> Self {
        let tail = match output.tail {
            Bytes::Text(text) => text.into_bytes(),
            Bytes::Raw(bytes) => bytes,
        };
        Self { tail, truncated: output.truncated }
    }
}

/// A file that a hook made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptFile {
    /// Relative to the folder that the hook was given.
    pub path: String,
    pub executable: bool,
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
}

/// Files that can all be made in one folder, and nowhere else: an entry may come
/// from another machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<KeptFile>")]
pub(crate) struct Files(Vec<KeptFile>);

impl Files {
    /// No hook makes more for a single answer.
    pub const MOST: usize = 2000;

    /// In bytes; of one file.
    pub const LARGEST: u64 = 4 << 30;
}

impl std::ops::Deref for Files {
    type Target = [KeptFile];

    fn deref(&self) -> &[KeptFile] {
        &self.0
    }
}

/// Files that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFiles {
    #[error("there are more than {} files", Files::MOST)]
    TooMany,
    #[error("{path:?} has more than {} bytes", Files::LARGEST)]
    TooLarge { path: String },
    #[error("{0:?} is not a path within a folder")]
    Path(String),
    #[error("{0:?} exists twice, or is both a file and a folder")]
    Twice(String),
}

impl TryFrom<Vec<KeptFile>> for Files {
    type Error = InvalidFiles;

    fn try_from(files: Vec<KeptFile>) -> Result<Self, InvalidFiles> {
        if files.len() > Self::MOST {
            return Err(InvalidFiles::TooMany);
        }
        let mut paths = BTreeSet::new();
        for file in &files {
            if !is_within(&file.path) {
                return Err(InvalidFiles::Path(file.path.clone()));
            }
            if file.size > Self::LARGEST {
                return Err(InvalidFiles::TooLarge { path: file.path.clone() });
            }
            if !paths.insert(Path::new(&file.path)) {
                return Err(InvalidFiles::Twice(file.path.clone()));
            }
        }
        let is_file = |folder: &Path| paths.contains(folder);
        match files.iter().find(|file| Path::new(&file.path).ancestors().skip(1).any(is_file)) {
            Some(file) => Err(InvalidFiles::Twice(file.path.clone())),
            None => Ok(Self(files)),
        }
    }
}

/// Whether a text is a path to something in a folder, in its only spelling.
fn is_within(path: &str) -> bool {
    let parts = Path::new(path).components();
    let plain: Option<Vec<&str>> = parts
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    plain.is_some_and(|parts| !parts.is_empty() && parts.join("/") == path && !path.contains('\0'))
}

/// What lies under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Answer(Answer),
    /// These environment variables count, too: the answer lies under a key that is
    /// made of this one and of their values. Which ones a hook reads may depend on
    /// the values of others, so there are several sets.
    Variables(Vec<BTreeSet<String>>),
}

impl Entry {
    /// The number of sets that are kept, each of which costs a look-up.
    const MOST_SETS: usize = 8;

    /// The entry with one more set, if it has to be changed.
    pub fn with_variables(before: Option<Self>, names: BTreeSet<String>) -> Option<Self> {
        let mut sets = match before {
            Some(Self::Variables(sets)) => sets,
            // The hook read none then. It does not always read the same.
            Some(Self::Answer(_)) | None => Vec::new(),
        };
        if sets.contains(&names) {
            return None;
        }
        sets.insert(0, names);
        sets.truncate(Self::MOST_SETS);
        Some(Self::Variables(sets))
    }
}

/// The variables that a hook read, beyond those that always count, with their
/// values. `None`: the variable is not set.
pub(crate) type Variables = BTreeMap<String, Option<OsString>>;

/// The key at which the answer for these variables lies.
pub(super) fn key_of(key: Digest, variables: &Variables) -> Digest {
    if variables.is_empty() {
        return key;
    }
    let key = key.to_string();
    let mut parts: Vec<&[u8]> = vec![b"variables", key.as_bytes()];
    for (name, value) in variables {
        let is_set: &[u8] = if value.is_some() { b"set" } else { b"unset" };
        parts.extend([name.as_bytes(), is_set, value.as_deref().unwrap_or(OsStr::new("")).as_bytes()]);
    }
    Digest::of_list(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> KeptFile {
        KeptFile { path: path.into(), executable: false, sha256: Digest::of(b""), size: 0 }
    }

    #[test]
    fn files_lie_within_their_folder_and_beside_each_other() {
        let check = |paths: &[&str]| Files::try_from(paths.iter().map(|path| file(path)).collect::<Vec<_>>()).err();
        assert_eq!(check(&[]), None);
        assert_eq!(check(&["a-1.dist-info/METADATA", "a-1.dist-info/licenses/é", "a..b", ".a"]), None);
        for path in ["", ".", "..", "/etc/passwd", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "a\0b"] {
            assert_eq!(check(&["b/c", path]), Some(InvalidFiles::Path(path.into())));
        }
        assert_eq!(check(&["a", "a"]), Some(InvalidFiles::Twice("a".into())));
        assert_eq!(check(&["a/b/c", "a"]), Some(InvalidFiles::Twice("a/b/c".into())));
        let large = KeptFile { size: Files::LARGEST + 1, ..file("a") };
        assert_eq!(Files::try_from(vec![large]), Err(InvalidFiles::TooLarge { path: "a".into() }));
        let many = (0..=Files::MOST).map(|index| file(&index.to_string())).collect::<Vec<_>>();
        assert_eq!(Files::try_from(many), Err(InvalidFiles::TooMany));
    }

    #[test]
    fn files_are_checked_when_they_are_read() {
        let text = serde_json::to_string(&[file("../a")]).unwrap();
        assert!(serde_json::from_str::<Files>(&text).is_err());
    }

    #[test]
    fn output_is_kept_without_loss() {
        for tail in [&b""[..], "Größe\r\n\0".as_bytes(), b"\xff\xfe cut"] {
            let captured = CapturedOutput { tail: tail.to_vec(), truncated: true };
            let text = serde_json::to_string(&Output::from(&captured)).unwrap();
            assert_eq!(CapturedOutput::from(serde_json::from_str::<Output>(&text).unwrap()), captured);
        }
    }

    #[test]
    fn the_newest_sets_of_variables_are_kept() {
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let first = Entry::with_variables(None, set("A"));
        assert_eq!(first, Some(Entry::Variables(vec![set("A")])));
        let second = Entry::with_variables(first, set("B"));
        assert_eq!(second, Some(Entry::Variables(vec![set("B"), set("A")])));
        assert_eq!(Entry::with_variables(second.clone(), set("A")), None);
        let full = (0..20).fold(second, |entry, index| Entry::with_variables(entry, set(&index.to_string())));
        let Some(Entry::Variables(sets)) = full else { panic!("{full:?}") };
        assert_eq!((sets.len(), &sets[0]), (Entry::MOST_SETS, &set("19")));
    }

    #[test]
    fn an_unset_variable_differs_from_an_empty_one() {
        let key = |value: Option<&str>| {
            key_of(Digest::of(b""), &Variables::from([("A".to_owned(), value.map(OsString::from))]))
        };
        assert_ne!(key(None), key(Some("")));
        assert_ne!(key(Some("a")), key(Some("")));
        assert_eq!(key_of(Digest::of(b""), &Variables::new()), Digest::of(b""));
    }
}
