//! Responses of hooks, and the parts that they share with the results of builds.
//! Callers may rely on the order of the fields, and on each being present: `None` is
//! written as null, and means unknown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::request::Id;

/// The response to a request for a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HookResponse {
    /// The id of the request; null for a line that is not a request.
    pub id: Option<Id>,
    /// Whether the hook returned its result.
    pub ok: bool,
    /// What the hook returned: a list of requirements, or the name of what it made.
    pub result: Option<Value>,
    /// Why there is no result.
    pub error: Option<Error>,
    /// The number of a line that is not a request, from 1.
    pub line: Option<u64>,
    /// As in the request.
    pub tree: Option<String>,
    /// As in the request.
    pub hook: Option<String>,
    /// The worker that got the request.
    pub worker: Option<Worker>,
    /// What became of the answer; null if such answers are not kept.
    pub answer: Option<Answer>,
    /// How long it took.
    pub timing: Timing,
    /// The last 64 KiB of what the hook wrote to standard output.
    pub stdout: String,
    /// The last 64 KiB of what the hook wrote to standard error.
    pub stderr: String,
    /// Whether the output was longer.
    pub stdout_truncated: bool,
    /// Whether the output was longer.
    pub stderr_truncated: bool,
}

impl HookResponse {
    /// A failure without any of the other fields.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        Self {
            id: None,
            ok: false,
            result: None,
            error: Some(error),
            line: None,
            tree: None,
            hook: None,
            worker: None,
            answer: None,
            timing: Timing::default(),
            stdout: String::new(),
            stderr: String::new(),
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }
}

/// Why there is no result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Error {
    /// The kind of failure. The names are stable: match on them.
    pub kind: String,
    /// What happened, for a person.
    pub message: String,
    /// The name of the Python exception.
    pub exception: Option<String>,
    /// Whether the backend raised its `UnsupportedOperation` (PEP 517).
    pub unsupported_operation: bool,
    /// Python's traceback.
    pub traceback: Option<String>,
    /// How the process ended.
    pub exit: Option<ExitReason>,
    /// What might help.
    pub hint: Option<String>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It exited with this code.
    ExitCode(i32),
    /// The signal of this name ended it, `SIGSEGV` for example.
    Signal(String),
    /// Not known.
    Unknown,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// The id of its process.
    pub pid: u32,
    /// Its number among the workers of its pool, from 1.
    pub generation: u64,
    /// How it was started: `forkserver` or `spawn`.
    pub start_method: String,
}

/// What became of the answer of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// It was kept from an earlier run, and the hook did not run.
    Used {
        /// How long the hook ran then.
        saved_ms: f64,
    },
    /// It is kept for later runs.
    Kept,
    /// It is not kept.
    NotKept {
        /// Why.
        reason: String,
    },
    /// The one that was kept was another one.
    Wrong {
        /// How they differ.
        difference: String,
    },
}

/// Times in milliseconds; null if the request did not get that far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timing {
    /// From submission until it got a worker, without `prepare_ms`.
    pub queued_ms: Option<f64>,
    /// While its build environment was made.
    pub prepare_ms: Option<f64>,
    /// From then until the worker accepted it.
    pub start_ms: Option<f64>,
    /// From acceptance to the result.
    pub hook_ms: Option<f64>,
}

/// Milliseconds, with the microseconds as decimals.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
