//! What a restart concerns.

use std::path::PathBuf;

use serde::Serialize;

use crate::ids::TemplateId;
use crate::json;

/// The workers and templates that [`Supervisor::restart`](crate::Supervisor::restart)
/// replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Selection {
    /// Everything.
    All,
    /// The workers of this source tree. A relative path is relative to the working
    /// directory of this process.
    Tree(#[serde(serialize_with = "json::path")] PathBuf),
    /// The templates and workers of the environment of this interpreter, named as in
    /// requests, in build environments or in a [`Snapshot`](crate::Snapshot).
    Environment(#[serde(serialize_with = "json::path")] PathBuf),
    /// This template with its workers, and the workers that are being started, whose
    /// template is not known yet.
    Template(TemplateId),
}

/// What a restart has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Restarted {
    /// The number of workers that are replaced.
    pub workers: usize,
    /// The number of templates that are replaced.
    pub templates: usize,
    /// The number of pools whose backoff or quarantine was lifted.
    pub pools: usize,
}
