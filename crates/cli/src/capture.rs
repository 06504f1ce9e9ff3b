//! Where hooks' output lies while they run.

use std::path::Path;

use hookpool_frontend::RunFolder;
use hookpool_supervisor::private_folder;

use crate::exit::Failure;

/// Makes this run's folder, in `parent` or else in a folder of this user among
/// the temporary files.
pub fn folder(parent: Option<&Path>) -> Result<RunFolder, Failure> {
    let Some(parent) = parent else { return RunFolder::temporary("output").map_err(Failure::pool) };
    let refused = |reason: &dyn std::fmt::Display| Failure::pool(format!("--capture-dir: {reason}"));
    let parent = std::path::absolute(parent).map_err(|error| refused(&error))?;
    private_folder(&parent).map_err(|error| refused(&error))?;
    RunFolder::within(&parent, "run-").map_err(|error| refused(&error))
}
