//! The output folder for wheels and source distributions. They get their names when they are
//! complete.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hookpool_supervisor::Hook;
use hookpool_supervisor::files::{Links, read_regular_file};

use crate::files::{digest_of_file, has_same_content, hexadecimal};
use crate::run_folder::{RunFolder, RunFolderError, WorkFolder};

/// The output folder of one run.
///
/// Hooks write into a hidden folder in it, on the same file system. That is removed at the end
/// of the run, or by the next run if this one is killed.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// The hidden folder, once it is made. Locked while it is made.
    drafts: Mutex<Option<RunFolder>>,
    /// The names that this run has published, with their sources. Locked at the end of each
    /// build only.
    published: Mutex<HashMap<String, PathBuf>>,
}

/// A file that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputFile {
    /// Its path.
    pub path: PathBuf,
    /// What was at its path before.
    pub before: Before,
}

/// What was at the path of a file that was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A file with the same content, which was left alone.
    SameContent,
    /// Another file, which was replaced.
    OtherContent,
}

/// Why a file cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The folder cannot be made or used.
    #[error("output folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The hidden folder cannot be made.
    #[error("output folder: {0}")]
    Drafts(#[from] RunFolderError),
    /// The file cannot be moved to the folder.
    #[error("cannot put {name} into {folder}: {source}")]
    Publish {
        /// The file.
        name: String,
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another source of this run made a file of the same name with other content.
    #[error("{name} was already made from {other}, with different content: expected a different file from each source")]
    Taken {
        /// The file.
        name: String,
        /// The source that made it.
        other: PathBuf,
    },
    /// An editable wheel would replace another wheel, or the other way round: both have the
    /// same name.
    #[error("cannot put {name} into {folder}: {}", not_replaced(*.editable))]
    OtherKind {
        /// The file.
        name: String,
        /// The folder.
        folder: PathBuf,
        /// Whether the existing wheel is editable.
        editable: bool,
    },
}

fn not_replaced(editable: bool) -> &'static str {
    if editable {
        "it would replace an editable wheel of this name, and is not editable"
    } else {
        "it is editable, and would replace a wheel of this name that is not"
    }
}

impl OutputFolder {
    /// Makes the folder if it is missing, but nothing in it.
    ///
    /// # Errors
    /// [`OutputError`], which names the folder.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        let named = |source| OutputError::Folder { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(named)?;
        std::fs::create_dir_all(&absolute).map_err(|error| named(no_folder(error)))?;
        Ok(Self { path: absolute, drafts: Mutex::default(), published: Mutex::default() })
    }

    /// Makes the hidden folder, which is removed when this is dropped. To be called when
    /// signals are handled: otherwise one would end the program and leave the folder. Without
    /// this, the first hook makes the folder. Blocks.
    ///
    /// # Errors
    /// [`OutputError::Drafts`].
    pub fn prepare(&self) -> Result<(), OutputError> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        if drafts.is_none() {
            *drafts = Some(RunFolder::within(&self.path, ".hookpool-")?);
        }
        Ok(())
    }

    /// The folder's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty folder for a hook to write to, until it is dropped. Blocks.
    pub(crate) fn draft(&self) -> Result<WorkFolder, OutputError> {
        self.prepare()?;
        let drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let drafts = drafts.as_ref().expect("it was made");
        let made = WorkFolder::within(drafts.path(), "build-");
        made.map_err(|source| OutputError::Folder { path: self.path.clone(), source })
    }

    /// Moves a finished file, which this hook has made, to its place. Reads it, and an existing
    /// file of the same name. Blocks.
    pub(crate) fn publish(&self, draft: &Path, hook: Hook, source: &Path) -> Result<OutputFile, OutputError> {
        let name = draft.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |error| OutputError::Publish { name: name.clone(), folder: self.path.clone(), source: error };
        let path = self.path.join(&name);
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let before = compare(draft, &path).map_err(failed)?;
        if before == Before::OtherContent {
            if let Some(other) = published.get(&name) {
                return Err(OutputError::Taken { name, other: other.clone() });
            }
            let editable = is_marked_editable(&path).map_err(failed)?;
            if editable != (hook == Hook::BuildEditable) {
                return Err(OutputError::OtherKind { name, folder: self.path.clone(), editable });
            }
        }
        if before != Before::SameContent {
            if hook == Hook::BuildEditable {
                mark_editable(draft, &path).map_err(failed)?;
            }
            std::fs::rename(draft, &path).map_err(failed)?;
        }
        published.insert(name, source.to_owned());
        Ok(OutputFile { path, before })
    }
}

/// Marks `draft`, which is going to be `wheel`, as editable: nothing in a wheel
/// itself tells (PEP 660). The mark is a hidden file beside the wheel that has the
/// wheel's digest, so that it says nothing about any other file of that name.
fn mark_editable(draft: &Path, wheel: &Path) -> io::Result<()> {
    std::fs::write(mark_of(wheel), mark_text(draft)?)
}

/// Whether the file that is at `wheel` now was marked as editable.
fn is_marked_editable(wheel: &Path) -> io::Result<bool> {
    /// No mark is longer.
    const LONGEST: u64 = 128;
    match read_regular_file(&mark_of(wheel), Links::Refuse, LONGEST) {
        Ok(mark) => Ok(mark == mark_text(wheel)?.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn mark_of(wheel: &Path) -> PathBuf {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    wheel.with_file_name(format!(".{name}.editable"))
}

fn mark_text(file: &Path) -> io::Result<String> {
    Ok(hexadecimal(&digest_of_file(file)?) + "\n")
}

/// The error of making a folder. If there is a file in its place, the system only says "File
/// exists".
pub(crate) fn no_folder(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => io::Error::other("expected a folder, found a file"),
        _ => error,
    }
}

fn compare(draft: &Path, path: &Path) -> io::Result<Before> {
    let old = match path.symlink_metadata() {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::Nothing),
        Err(error) => return Err(error),
    };
    let same = old.is_file() && has_same_content(draft, path)?;
    Ok(if same { Before::SameContent } else { Before::OtherContent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(folder: &OutputFolder, content: &str, source: &str) -> Result<OutputFile, OutputError> {
        publish_of(folder, Hook::BuildWheel, content, source)
    }

    fn publish_of(folder: &OutputFolder, hook: Hook, text: &str, source: &str) -> Result<OutputFile, OutputError> {
        let draft = folder.draft().unwrap();
        let file = draft.path().join("a-1.whl");
        std::fs::write(&file, text).unwrap();
        folder.publish(&file, hook, Path::new(source))
    }

    #[test]
    fn editable_wheels_and_others_do_not_replace_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let publish = |hook, text| publish_of(&OutputFolder::open(parent.path()).unwrap(), hook, text, "/a");
        let path = parent.path().join("a-1.whl");
        publish(Hook::BuildWheel, "plain").unwrap();
        let error = publish(Hook::BuildEditable, "editable").unwrap_err();
        assert!(matches!(error, OutputError::OtherKind { editable: false, .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        publish(Hook::BuildEditable, "editable").unwrap();
        assert_eq!(publish(Hook::BuildEditable, "another").unwrap().before, Before::OtherContent);
        let error = publish(Hook::BuildWheel, "plain").unwrap_err();
        assert!(matches!(error, OutputError::OtherKind { editable: true, .. }), "{error}");
        // A wheel from elsewhere is not the one that was marked.
        std::fs::write(&path, "from elsewhere").unwrap();
        publish(Hook::BuildEditable, "editable").unwrap_err();
        assert_eq!(publish(Hook::BuildWheel, "plain").unwrap().before, Before::OtherContent);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "plain");
    }

    #[test]
    fn files_are_published_and_nothing_else_stays() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        let folder = OutputFolder::open(&path).unwrap();
        assert_eq!(publish(&folder, "one", "/a").unwrap().before, Before::Nothing);
        assert_eq!(publish(&folder, "one", "/b").unwrap().before, Before::SameContent);
        drop(folder);
        let again = OutputFolder::open(&path).unwrap();
        assert_eq!(publish(&again, "two", "/a").unwrap().before, Before::OtherContent);
        drop(again);
        assert_eq!(std::fs::read_to_string(path.join("a-1.whl")).unwrap(), "two");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_no_output_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = OutputFolder::open(file.path()).unwrap_err().to_string();
        assert_eq!(error, format!("output folder {}: expected a folder, found a file", file.path().display()));
    }

    #[test]
    fn two_sources_cannot_take_one_name() {
        let parent = tempfile::tempdir().unwrap();
        let folder = OutputFolder::open(parent.path()).unwrap();
        publish(&folder, "one", "/a").unwrap();
        let error = publish(&folder, "two", "/b").unwrap_err();
        assert!(error.to_string().contains("made from /a"), "{error}");
        assert_eq!(std::fs::read_to_string(parent.path().join("a-1.whl")).unwrap(), "one");
    }
}
