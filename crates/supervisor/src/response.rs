//! Responses, as callers get them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::{Hook, Observed};
use serde::Serialize;
use serde_json::Value;

use crate::build_environment::BuildEnvironment;
use crate::error::HookError;
use crate::ids::RequestId;

/// How workers are started, in the terms of Python's `multiprocessing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StartMethod {
    /// A worker is forked from a template, a process that has already imported
    /// the backend. Linux only.
    Forkserver,
    /// A worker is a new interpreter, a child of the supervisor.
    Spawn,
}

impl StartMethod {
    /// Its name in flags, responses and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forkserver => "forkserver",
            Self::Spawn => "spawn",
        }
    }
}

impl Default for StartMethod {
    /// [`StartMethod::Forkserver`] where it works.
    fn default() -> Self {
        if cfg!(target_os = "linux") { Self::Forkserver } else { Self::Spawn }
    }
}

/// How hooks are isolated from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each hook runs in a process of its own, as PEP 517 requires.
    #[default]
    Hook,
    /// Hooks run in the worker itself, with the state that earlier hooks of the
    /// tree left in it. Faster, and wrong for backends that keep global state.
    None,
}

/// The worker that ran a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerInfo {
    /// The id of its process.
    pub pid: u32,
    /// Its number among the workers of its pool, from 1.
    pub generation: u64,
    /// How it was started.
    pub start_method: StartMethod,
}

/// How long a request spent in each phase. `None`: it did not reach the phase.
///
/// It serializes as milliseconds (`queued_ms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// From submission to the lease of a worker, without `prepare`.
    #[serde(rename = "queued_ms", serialize_with = "crate::json::optional_milliseconds")]
    pub queued: Option<Duration>,
    /// How long the request, at the front of its queue, waited for its build
    /// environment. `None`: it wants none.
    #[serde(rename = "prepare_ms", serialize_with = "crate::json::optional_milliseconds")]
    pub prepare: Option<Duration>,
    /// From the lease to the worker's acceptance, with the start of the worker
    /// if it was not running.
    #[serde(rename = "start_ms", serialize_with = "crate::json::optional_milliseconds")]
    pub start: Option<Duration>,
    /// From acceptance to the result.
    #[serde(rename = "hook_ms", serialize_with = "crate::json::optional_milliseconds")]
    pub hook: Option<Duration>,
}

/// The end of what a hook wrote to one of its output streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// The last bytes, at most [`CapturedOutput::LIMIT`].
    pub tail: Vec<u8>,
    /// Whether the output began before them.
    pub truncated: bool,
}

impl CapturedOutput {
    /// The number of bytes that are kept of each stream.
    pub const LIMIT: usize = 64 * 1024;

    /// The output as text. Bytes that are not UTF-8 are replaced, and a character
    /// that was cut in two is dropped.
    #[must_use]
    pub fn text(&self) -> String {
        let tail = if self.truncated {
            let start = self.tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
            &self.tail[start..]
        } else {
            &self.tail[..]
        };
        String::from_utf8_lossy(tail).into_owned()
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Response {
    /// The number that [`Ticket::id`](crate::Ticket::id) named.
    pub id: RequestId,
    /// The tree, as the request had it.
    pub tree: PathBuf,
    /// The hook.
    pub hook: Hook,
    /// The hook's result, or why there is none.
    pub outcome: Result<Value, HookError>,
    /// Whether the outcome was kept from an earlier hook
    /// ([`HookRequest::kept_answers`](crate::HookRequest::kept_answers)), and none
    /// was run.
    pub kept: bool,
    /// What the hook used beside its tree and its environment. `None` if it was
    /// not observed ([`Builder::observe`](crate::Builder::observe)) to its end.
    pub observed: Option<Observed>,
    /// The build environment, if the request wanted one and it was found.
    pub environment: Option<Arc<dyn BuildEnvironment>>,
    /// The worker that was leased, if one was.
    pub worker: Option<WorkerInfo>,
    /// How long each phase took.
    pub timing: Timing,
    /// What the hook wrote to standard output.
    pub stdout: CapturedOutput,
    /// What the hook wrote to standard error.
    pub stderr: CapturedOutput,
}

impl Response {
    /// The response to a request that no worker has seen.
    pub(crate) fn failed(id: RequestId, tree: PathBuf, hook: Hook, error: HookError) -> Self {
        Self {
            id,
            tree,
            hook,
            outcome: Err(error),
            kept: false,
            observed: None,
            environment: None,
            worker: None,
            timing: Timing::default(),
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        }
    }
}
