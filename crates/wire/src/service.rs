//! What a service says of itself, and how it refuses a request.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of the HTTP interface, which its paths begin with.
pub const API_VERSION: u32 = 1;

/// The kind of failure of a service that admits no new work. What it refuses did not
/// run: ask again, soon this service or one that has taken its place admits it.
pub const DRAINING: &str = "Draining";

/// Who serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The version of hookpool.
    pub version: String,
    /// The version of the HTTP interface.
    pub api: u32,
    /// Equal for programs that run from the same executable file.
    pub build: String,
    /// The process of the service.
    pub pid: u32,
    /// The cache folder.
    pub cache: String,
}

/// Why a request was refused (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:hookpool:` and the kind.
    #[serde(rename = "type")]
    pub type_: String,
    /// The kind of failure. The names are stable, and those of the errors of hooks.
    pub title: String,
    /// The status code of the response.
    pub status: u16,
    /// What happened, for a person.
    pub detail: String,
    /// What might help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        let (type_, title) = (format!("urn:hookpool:{kind}"), kind.to_owned());
        Self { type_, title, status, detail: detail.into(), hint: None }
    }
}

/// Whether a service admits new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It does.
    Serving,
    /// It does not, and finishes what it has.
    Draining,
}

/// The state of the admission of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Admission {
    /// Whether new work is admitted.
    pub phase: Phase,
    /// The number of HTTP requests whose work is not done.
    pub open: usize,
}

/// What a drain is followed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Whether the service ends when its work is done, however long that takes.
    #[serde(default)]
    pub exit: bool,
}
