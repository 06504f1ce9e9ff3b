//! What a service has and does at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::Limits;
use crate::service::{Admission, Version};

/// What a service has and does at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Who serves.
    pub version: Version,
    /// The time since the start of the service, in milliseconds.
    pub uptime_ms: f64,
    /// Whether new work is admitted.
    pub admission: Admission,
    /// Whether all hooks are stopped.
    pub suspended: bool,
    /// The limits in force.
    pub limits: Limits,
    /// The number of unanswered requests in each phase: `queued`, `waiting_for_lock`,
    /// `visiting`, `preparing`, `needs_worker`, `starting`, `running` and `parked`.
    pub request_phases: BTreeMap<String, usize>,
    /// The time since the oldest unanswered request came, in milliseconds; null if there
    /// is none.
    pub oldest_request_ms: Option<f64>,
    /// The unanswered requests, the oldest first.
    pub requests: Listed<RequestStatus>,
    /// The number of workers in each phase: `starting`, `idle`, `running`, `stopping` and
    /// `lingering`.
    pub worker_phases: BTreeMap<String, usize>,
    /// The workers, the oldest first.
    pub workers: Listed<WorkerStatus>,
    /// The templates, the oldest first.
    pub templates: Vec<TemplateStatus>,
    /// The pools whose workers failed too often, so that their requests fail.
    pub quarantined: Listed<QuarantinedPool>,
    /// The pools whose workers failed, and whose next worker may not start yet.
    pub in_backoff: Listed<DelayedPool>,
    /// The build environments.
    pub environments: EnvironmentCounts,
    /// The kept answers.
    pub answers: AnswerCounts,
}

/// The first of many, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed<T> {
    /// The number of all.
    pub count: usize,
    /// The first of them, at most 1,000.
    pub first: Vec<T>,
}

/// An unanswered request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestStatus {
    /// Its number, counted by the service.
    pub id: u64,
    /// The id of its HTTP request (`x-request-id`).
    pub caller_id: Option<String>,
    /// The source tree.
    pub tree: String,
    /// The name of the hook.
    pub hook: String,
    /// What it waits for, or `running`.
    pub phase: String,
    /// The time since it came, in milliseconds.
    pub age_ms: f64,
    /// The time since it began to prepare, to start or to run, in milliseconds; null in
    /// other phases.
    pub phase_ms: Option<f64>,
    /// The number of the worker that it has, or that is being started for it.
    pub worker: Option<u64>,
    /// Higher goes first.
    pub priority: i32,
}

/// A live worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// Its number, counted by the service.
    pub id: u64,
    /// The id of its process, once it is ready.
    pub pid: Option<u32>,
    /// The source tree that it serves.
    pub tree: String,
    /// Its number among the workers of its pool, from 1.
    pub generation: u64,
    /// Its interpreter, as the request or the environment names it.
    pub python: String,
    /// `forkserver` or `spawn`.
    pub start_method: String,
    /// The number of the template that it was forked from.
    pub template: Option<u64>,
    /// What it does.
    pub phase: String,
    /// The number of the request that it has, or that it is being started for.
    pub request: Option<u64>,
    /// The time since its start began, in milliseconds.
    pub age_ms: f64,
    /// The number of requests that it has answered.
    pub served: u32,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateStatus {
    /// Its number, counted by the service.
    pub id: u64,
    /// The id of its process, once it is ready.
    pub pid: Option<u32>,
    /// The executable of its interpreter.
    pub interpreter: String,
    /// The build backend that it has imported.
    pub backend: Option<String>,
    /// The number of modules that it has loaded, once it is ready.
    pub modules: Option<usize>,
    /// Its proportional set size (`smaps_rollup` in proc(5)), in bytes; null if the
    /// system does not tell.
    pub memory_bytes: Option<u64>,
    /// The time since its start began, in milliseconds.
    pub age_ms: f64,
    /// The number of workers that it has forked.
    pub forked: u64,
    /// Whether new workers are forked from it. Otherwise it ends after its last worker.
    pub in_use: bool,
    /// Whether it has yet to import modules that hooks have imported.
    pub learning: bool,
}

/// A pool whose workers failed too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedPool {
    /// The source tree.
    pub tree: String,
    /// The interpreter of its workers.
    pub python: String,
    /// Why.
    pub reason: String,
    /// When a start is tried again, in milliseconds from now.
    pub remaining_ms: f64,
}

/// A pool whose workers failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DelayedPool {
    /// The source tree.
    pub tree: String,
    /// The interpreter of its workers.
    pub python: String,
    /// The number of failures that count.
    pub failures: usize,
    /// When the next worker may start, in milliseconds from now.
    pub remaining_ms: f64,
}

/// Build environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentCounts {
    /// Those that the service holds for single hooks: in use, or used before.
    pub held: usize,
    /// Those that it has made since its start, for hooks and for builds.
    pub made: u64,
}

/// What became of the answers of hooks since the start of the service. Those of a build
/// count when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerCounts {
    /// Hooks that did not run, since their answers were kept.
    pub hits: u64,
    /// Hooks that ran, since there was no answer of them.
    pub misses: u64,
    /// Answers that were kept.
    pub kept: u64,
    /// Kept answers that were wrong: hooks ran nevertheless, and answered something else.
    pub wrong: u64,
}
