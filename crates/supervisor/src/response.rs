//! What a caller gets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::Hook;
use serde::Serialize;
use serde_json::Value;

use crate::build_environment::BuildEnvironment;
use crate::error::HookError;
use crate::request::RequestId;

/// How workers come to life.
///
/// The words are those of Python's `multiprocessing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StartMethod {
    /// A worker is forked from a template, a process that has imported the
    /// backend already. Linux only.
    Forkserver,
    /// A worker is a plain child process of the supervisor.
    Spawn,
}

impl StartMethod {
    /// The word for it in flags, responses and logs.
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

/// What separates one hook from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A process for each hook, as PEP 517 asks for.
    #[default]
    Hook,
    /// Hooks run in the worker itself and see what earlier hooks of the tree
    /// left in it: faster, and wrong with backends that keep global state.
    None,
}

/// The worker that ran a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerInfo {
    /// Its process.
    pub pid: u32,
    /// Its number among the workers of its pool, from 1.
    pub generation: u64,
    /// How it was started.
    pub start_method: StartMethod,
}

/// Where the time of a request went. `None`: the request did not get there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From submission to the lease of a worker, without the time in which the
    /// environment was prepared.
    pub queued: Option<Duration>,
    /// How long the request, in front of its queue, waited for its build
    /// environment; nothing where it was there. `None`: it runs in none.
    pub prepare: Option<Duration>,
    /// From the lease to the worker's acceptance: the start of the worker, if
    /// it had to be started, included.
    pub start: Option<Duration>,
    /// From acceptance to the result.
    pub hook: Option<Duration>,
}

/// What a hook wrote to one of its output streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// The end of the output, at most [`CapturedOutput::LIMIT`] bytes.
    pub tail: Vec<u8>,
    /// Whether there was more before it.
    pub truncated: bool,
}

impl CapturedOutput {
    /// How many bytes of each stream are kept.
    pub const LIMIT: usize = 64 * 1024;

    /// The output as text. Bytes that are not UTF-8 are replaced; a character
    /// that was cut in two is left out.
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

/// The answer to a request: exactly one for each.
#[derive(Clone, Debug)]
pub struct Response {
    /// The number that [`Ticket::id`](crate::Ticket::id) named.
    pub id: RequestId,
    /// The tree, as the request had it.
    pub tree: PathBuf,
    /// The hook.
    pub hook: Hook,
    /// What the hook returned, or why it did not.
    pub outcome: Result<Value, HookError>,
    /// The build environment that it ran in, or was to run in, if one was asked
    /// for and found.
    pub environment: Option<Arc<dyn BuildEnvironment>>,
    /// The worker that ran it, if one was leased.
    pub worker: Option<WorkerInfo>,
    /// Where the time went.
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
            environment: None,
            worker: None,
            timing: Timing::default(),
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        }
    }
}
