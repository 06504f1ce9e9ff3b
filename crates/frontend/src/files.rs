//! What is kept in the cache folder as JSON.

use std::io;
use std::path::Path;

use hookpool_supervisor::kept;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the file holds; nothing where it is missing or damaged.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&kept::read(path).ok()?).ok()
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    kept::write(path, &serde_json::to_vec(value)?)
}
