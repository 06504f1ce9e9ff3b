//! Which wheels of a folder are editable: nothing in themselves tells (PEP 660).
//!
//! A hidden file beside such a wheel has its digest, so that it says nothing of
//! any other file that comes to be there.

use std::io;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{Links, read_regular_file};

use crate::digest::digest_of_file;

/// Says that `draft`, which is going to be `wheel`, is editable.
pub(super) fn set(draft: &Path, wheel: &Path) -> io::Result<()> {
    std::fs::write(place(wheel), text(draft)?)
}

/// Whether that was said of what lies there now.
pub(super) fn is_set(wheel: &Path) -> io::Result<bool> {
    /// More is none.
    const LONGEST: u64 = 128;
    match read_regular_file(&place(wheel), Links::Refuse, LONGEST) {
        Ok(mark) => Ok(mark == text(wheel)?.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn place(wheel: &Path) -> PathBuf {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    wheel.with_file_name(format!(".{name}.editable"))
}

fn text(file: &Path) -> io::Result<String> {
    let digest = digest_of_file(file)?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect())
}
