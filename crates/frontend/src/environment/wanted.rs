//! Deciding what is wanted: everything that an environment depends on, and the
//! cache key that stands for it.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use hookpool_supervisor::{Interpreter, KnownInterpreter};

use super::contents::digest;
use super::error::EnvironmentError;
use super::installer::Installation;
use super::requirement::RequirementList;

/// An environment that is wanted.
pub(super) struct Wanted {
    /// The interpreter that it is made from.
    pub interpreter: Arc<KnownInterpreter>,
    /// The same for all paths and virtual environments of one interpreter.
    pub interpreter_id: String,
    /// The requirements, as they were asked for.
    pub requires: Vec<String>,
    pub requirements: RequirementList,
    pub installation: Arc<Installation>,
    installation_key: String,
    /// Equal if and only if the same environment is wanted.
    pub key: String,
}

impl Wanted {
    /// Blocks, as looking at files does.
    pub fn new(
        interpreter: Arc<KnownInterpreter>,
        requires: Vec<String>,
        requirements: RequirementList,
        installation: Arc<Installation>,
    ) -> Result<Self, EnvironmentError> {
        let interpreter_id = interpreter_id(&interpreter)?;
        let installation_key = installation.key();
        // Redacted: a token may be a new one in each job, and nothing of it is to
        // be kept.
        let redacted = requirements.redacted();
        let parts = [interpreter_id.as_str(), installation_key.as_str()];
        let key = digest(parts.into_iter().chain(redacted.iter().map(String::as_str)));
        Ok(Self { interpreter, interpreter_id, requires, requirements, installation, installation_key, key })
    }

    /// What decides, beside a pin, what is installed for it.
    pub fn pins_key(&self) -> String {
        digest([self.interpreter_id.as_str(), self.installation_key.as_str()])
    }

    /// Whether the same requirements would lead to the same key now. Blocks, as
    /// looking at files does.
    pub fn is_current(&self) -> bool {
        !self.interpreter.has_changed() && self.installation.key() == self.installation_key
    }
}

/// A digest of the program that runs in the end, by its path, size and time; of its version,
/// the place of its standard library, the C library and the machine. An interpreter that was
/// replaced has another one.
fn interpreter_id(interpreter: &Interpreter) -> Result<String, EnvironmentError> {
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
        interpreter.libc.clone(),
    ];
    Ok(digest(texts.iter().map(String::as_str)))
}
