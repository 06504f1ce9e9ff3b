//! The state of a supervisor at one moment, for those who run it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::Hook;
use serde::Serialize;

use crate::ids::{RequestId, TemplateId, WorkerId};
use crate::json;
use crate::limits::Limits;
use crate::response::StartMethod;

/// What a supervisor has and does, by
/// [`Supervisor::snapshot`](crate::Supervisor::snapshot). All of it is of the same
/// moment.
///
/// It serializes with times as milliseconds (`age_ms`), and with the names of the
/// fields and variants in `snake_case`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The limits in force.
    pub limits: Limits,
    /// No more requests are admitted.
    pub draining: bool,
    /// All hooks are stopped ([`Supervisor::suspend`](crate::Supervisor::suspend)).
    pub suspended: bool,
    /// The number of unanswered requests in each phase. Phases without any are
    /// zero.
    pub request_phases: BTreeMap<RequestPhase, usize>,
    /// The time since the oldest unanswered request was submitted.
    #[serde(rename = "oldest_request_ms", serialize_with = "json::optional_milliseconds")]
    pub oldest_request: Option<Duration>,
    /// The unanswered requests, the oldest first.
    pub requests: Listed<RequestSnapshot>,
    /// The number of workers in each phase. Phases without any are zero.
    pub worker_phases: BTreeMap<WorkerPhase, usize>,
    /// The workers, the oldest first.
    pub workers: Listed<WorkerSnapshot>,
    /// The templates, the oldest first.
    pub templates: Vec<TemplateSnapshot>,
    /// The pools whose workers have failed too often, so that their requests fail.
    pub quarantined: Listed<QuarantinedPool>,
    /// The pools whose workers have failed, and whose next worker may not start
    /// yet.
    pub in_backoff: Listed<DelayedPool>,
}

/// The first of many, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed<T> {
    /// The number of all.
    pub count: usize,
    /// At most [`Snapshot::LISTED`] of them.
    pub first: Vec<T>,
}

impl Snapshot {
    /// The most entries of each list.
    pub const LISTED: usize = 1000;
}

impl<T> Listed<T> {
    /// Lists the first of the entries in the order of their keys.
    pub(crate) fn of<K: Ord, Entry>(mut keyed: Vec<(K, Entry)>, describe: impl Fn(Entry) -> T) -> Self {
        let count = keyed.len();
        if count > Snapshot::LISTED {
            // There may be a million.
            keyed.select_nth_unstable_by(Snapshot::LISTED, |(one, _), (other, _)| one.cmp(other));
            keyed.truncate(Snapshot::LISTED);
        }
        keyed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { count, first: keyed.into_iter().map(|(_, entry)| describe(entry)).collect() }
    }
}

/// What an unanswered request waits for, or that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RequestPhase {
    /// It waits for its tree's turn and a job slot.
    Queued,
    /// Another process holds the lock of its tree.
    WaitingForLock,
    /// Its tree is being checked.
    Visiting,
    /// Its build environment is being made.
    Preparing,
    /// It waits for room for its worker
    /// ([`Limits::max_workers`](crate::Limits::max_workers)).
    NeedsWorker,
    /// Its worker is being started.
    Starting,
    /// A worker has it.
    Running,
    /// Its pool is in backoff.
    Parked,
}

impl RequestPhase {
    /// All phases.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::WaitingForLock,
        Self::Visiting,
        Self::Preparing,
        Self::NeedsWorker,
        Self::Starting,
        Self::Running,
        Self::Parked,
    ];
}

/// An unanswered request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RequestSnapshot {
    /// Its number.
    pub id: RequestId,
    /// What its caller calls it ([`HookRequest::caller_id`](crate::HookRequest::caller_id)).
    pub caller_id: Option<Arc<str>>,
    /// The source tree, as the request has it.
    #[serde(serialize_with = "json::path")]
    pub tree: PathBuf,
    /// The hook.
    pub hook: Hook,
    /// What it waits for.
    pub phase: RequestPhase,
    /// The time since it was submitted.
    #[serde(rename = "age_ms", serialize_with = "json::milliseconds")]
    pub age: Duration,
    /// The time since it began to prepare, to start or to run; `None` in other
    /// phases.
    #[serde(rename = "phase_ms", serialize_with = "json::optional_milliseconds")]
    pub phase_age: Option<Duration>,
    /// The worker that it has, or that is being started for it.
    pub worker: Option<WorkerId>,
    /// Its priority.
    pub priority: i32,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerPhase {
    /// Its process is being started.
    Starting,
    /// It waits for a request.
    Idle,
    /// It has a request, or cleans up after one.
    Running,
    /// It was told to end.
    Stopping,
    /// It was told to end, and stays as the parent of processes that its hooks
    /// detached.
    Lingering,
}

impl WorkerPhase {
    /// All phases.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Idle, Self::Running, Self::Stopping, Self::Lingering];
}

/// A live worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// Its number.
    pub id: WorkerId,
    /// The id of its process, once it is ready.
    pub pid: Option<u32>,
    /// The tree that it serves.
    #[serde(serialize_with = "json::path")]
    pub tree: PathBuf,
    /// Its number among the workers of its pool, from 1.
    pub generation: u64,
    /// Its interpreter, as the request or the environment names it.
    #[serde(serialize_with = "json::path")]
    pub python: PathBuf,
    /// How it was started.
    pub start_method: StartMethod,
    /// The template that it was forked from.
    pub template: Option<TemplateId>,
    /// What it does.
    pub phase: WorkerPhase,
    /// The request that it has, or that it is being started for.
    pub request: Option<RequestId>,
    /// The time since its start began.
    #[serde(rename = "age_ms", serialize_with = "json::milliseconds")]
    pub age: Duration,
    /// The number of requests that it has answered.
    pub served: u32,
}

/// A template whose process has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TemplateSnapshot {
    /// Its number.
    pub id: TemplateId,
    /// The id of its process, once it is ready.
    pub pid: Option<u32>,
    /// The executable of its interpreter.
    #[serde(serialize_with = "json::path")]
    pub interpreter: PathBuf,
    /// The backend that it has imported.
    pub backend: Option<String>,
    /// The number of modules that it has loaded, once it is ready.
    pub modules: Option<usize>,
    /// The time since its start began.
    #[serde(rename = "age_ms", serialize_with = "json::milliseconds")]
    pub age: Duration,
    /// The number of workers that it has forked.
    pub forked: u64,
    /// New workers are forked from it. Otherwise it ends after its last worker.
    pub in_use: bool,
    /// It has yet to import modules that hooks have imported.
    pub learning: bool,
}

/// A pool in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuarantinedPool {
    /// The tree of its workers.
    #[serde(serialize_with = "json::path")]
    pub tree: PathBuf,
    /// Their interpreter, as the request or the environment names it.
    #[serde(serialize_with = "json::path")]
    pub python: PathBuf,
    /// Why.
    pub reason: String,
    /// When a start is tried again.
    #[serde(rename = "remaining_ms", serialize_with = "json::milliseconds")]
    pub remaining: Duration,
}

/// A pool in backoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DelayedPool {
    /// The tree of its workers.
    #[serde(serialize_with = "json::path")]
    pub tree: PathBuf,
    /// Their interpreter, as the request or the environment names it.
    #[serde(serialize_with = "json::path")]
    pub python: PathBuf,
    /// The number of failures that count.
    pub failures: usize,
    /// When the next worker may start.
    #[serde(rename = "remaining_ms", serialize_with = "json::milliseconds")]
    pub remaining: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_has_its_first_entries_in_order() {
        let listed = Listed::of((0..5000_u64).rev().map(|number| (number, number)).collect(), |number| number);
        assert_eq!(listed.count, 5000);
        assert_eq!(listed.first, (0..1000).collect::<Vec<_>>());
        let listed = Listed::of(vec![(2, 'b'), (1, 'a')], |entry| entry);
        assert_eq!(listed, Listed { count: 2, first: vec!['a', 'b'] });
    }
}
