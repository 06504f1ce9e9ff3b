//! What makes two interpreters the same to an environment.

use std::os::unix::fs::MetadataExt;

use hookpool_supervisor::Interpreter;

use super::contents::digest;
use super::error::EnvironmentError;

/// A digest of the program that runs in the end, its version and its standard
/// library: virtual environments of the same interpreter are the same here, and
/// an interpreter that was replaced is another.
///
/// Blocks, as looking at files does.
pub(super) fn identity(interpreter: &Interpreter) -> Result<String, EnvironmentError> {
    let executable = &interpreter.executable;
    let resolved = executable.canonicalize().map_err(EnvironmentError::system("find", executable))?;
    let metadata = resolved.metadata().map_err(EnvironmentError::system("look at", &resolved))?;
    let (major, minor, micro) = interpreter.version;
    let texts = [
        resolved.display().to_string(),
        metadata.size().to_string(),
        format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()),
        format!("{major}.{minor}.{micro}"),
        interpreter.implementation.clone(),
        interpreter.base_prefix.display().to_string(),
        interpreter.markers.get("platform_machine").cloned().unwrap_or_default(),
    ];
    Ok(digest(texts.iter().map(String::as_str)))
}
