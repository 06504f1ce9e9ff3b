//! Small files that are never half-written, and the end of files that may be
//! gone.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the file holds; nothing where it is missing or damaged.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec(value)?)
}

/// Writes the file under another name and renames it.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(parent)?;
    draft.write_all(content)?;
    draft.persist(path).map(|_: File| ()).map_err(|error| error.error)
}

/// Removes a file that may be gone.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    ignore_missing(std::fs::remove_file(path))
}

/// Removes a folder, with what is in it, that may be gone.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    ignore_missing(std::fs::remove_dir_all(path))
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
