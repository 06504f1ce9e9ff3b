//! Requests, as callers make them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use hookd_protocol::Hook;
use serde_json::{Map, Value};

use crate::build_environment::RequestEnvironment;
use crate::caller::CallerProcess;
use crate::kept_answers::KeptAnswers;
use crate::limits::Timeout;

/// One hook to run in one source tree.
///
/// [`HookRequest::new`] sets the mandatory fields.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// The source tree; a relative path is relative to the working directory
    /// of this process.
    pub tree: PathBuf,
    /// The hook.
    pub hook: Hook,
    /// The backend's import path, in place of `build-system.build-backend`.
    pub backend: Option<String>,
    /// In place of `build-system.backend-path`; relative to the tree.
    pub backend_path: Option<Vec<PathBuf>>,
    /// The hook's argument of this name (PEP 517); relative to the working
    /// directory of this process.
    pub wheel_directory: Option<PathBuf>,
    /// As `wheel_directory`.
    pub sdist_directory: Option<PathBuf>,
    /// As `wheel_directory`.
    pub metadata_directory: Option<PathBuf>,
    /// The hook's `config_settings`.
    pub config_settings: Option<Map<String, Value>>,
    /// The interpreter, in place of [`Builder::interpreter`](crate::Builder::interpreter).
    pub python: Option<PathBuf>,
    /// The build environment. `None`: the interpreter's own environment.
    pub environment: Option<RequestEnvironment>,
    /// Where an answer may be found without running the hook.
    pub kept_answers: Option<Arc<dyn KeptAnswers>>,
    /// What its process inherits, in place of this process. A `python` that is no
    /// path is still looked for on the `PATH` of this process.
    pub caller: Option<Arc<CallerProcess>>,
    /// Environment variables for this request, in addition to those of the caller.
    /// Modules that read them when they are imported find them.
    pub env: BTreeMap<OsString, OsString>,
    /// What its caller calls it. [`Event::RequestQueued`](crate::Event::RequestQueued) tells it.
    pub caller_id: Option<Arc<str>>,
    /// Higher goes first, within a tree and between trees.
    pub priority: i32,
    /// In place of [`Limits::hook_timeout`](crate::Limits::hook_timeout).
    pub timeout: Option<Timeout>,
}

impl HookRequest {
    /// A request for `hook` in `tree` with nothing else set.
    #[must_use]
    pub fn new(tree: impl Into<PathBuf>, hook: Hook) -> Self {
        Self {
            tree: tree.into(),
            hook,
            backend: None,
            backend_path: None,
            wheel_directory: None,
            sdist_directory: None,
            metadata_directory: None,
            config_settings: None,
            python: None,
            environment: None,
            kept_answers: None,
            caller: None,
            env: BTreeMap::new(),
            caller_id: None,
            priority: 0,
            timeout: None,
        }
    }
}
