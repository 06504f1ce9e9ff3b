//! Answers of earlier hooks, which callers may keep.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::build_environment::BuildEnvironment;
use crate::error::HookError;

/// Finds the kept answer to one request.
pub trait KeptAnswers: fmt::Debug + Send + Sync {
    /// Returns the hook's result, or that the backend has no such hook, if that is
    /// kept for the tree as it is now. The supervisor asks before it chooses a
    /// worker; the tree is locked then, and `environment` is the one in which the
    /// hook would run (`None` if the request wants none). What the hook would have
    /// made is in place when this returns.
    ///
    /// Called on a thread where it may block, for less than
    /// [`Limits::startup_timeout`](crate::Limits::startup_timeout). It is
    /// called again if the request has to wait after all.
    fn find(&self, environment: Option<&Arc<dyn BuildEnvironment>>, tree: &Path) -> Option<Result<Value, HookError>>;
}
