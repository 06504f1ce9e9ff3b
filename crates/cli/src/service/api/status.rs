//! What the service has and does.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{
    DelayedPool, Limits, Listed, QuarantinedPool, RequestSnapshot, Snapshot, TemplateSnapshot, Timeout, WorkerSnapshot,
    process_memory,
};
use hookpool_wire::{
    AnswerCounts, EnvironmentCounts, PoolEvent, Problem, RequestStatus, Status, TemplateStatus, WorkerStatus,
    milliseconds, to_line,
};
use serde::Serialize;

use super::json_lines;
use crate::service::admission::Draining;
use crate::service::problem::Refusal;
use crate::service::{Service, Shared};

/// Says what the service has and does
///
/// All of it is of the same moment, but for the memory of the templates.
#[utoipa::path(
    get,
    path = "/v1/status",
    responses(
        (status = 200, description = "What the service has and does.", body = Status),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn status(State(service): State<Shared>) -> Result<Json<Status>, Refusal> {
    Ok(Json(service.status().await?))
}

/// Sends what happens, from now on
///
/// Each line is a JSON object with the name of the event, its time in milliseconds since
/// 1970, and what belongs to the event. A client that reads too slowly misses events, and
/// learns by the event `events_lost` how many they were.
#[utoipa::path(
    get,
    path = "/v1/events",
    responses((status = 200, description = "A PoolEvent in each line.", body = PoolEvent, content_type = "application/x-ndjson"))
)]
pub async fn events(State(service): State<Shared>) -> Response {
    let events = service.hooks.supervisor.subscribe(|_| true);
    json_lines(stream::unfold(events, async |mut events| {
        let event = events.next().await?;
        Some((to_line(&*event), events))
    }))
}

/// The snapshot of the supervisor, unless it has ended.
pub async fn snapshot(service: &Service) -> Result<Snapshot, Draining> {
    service.hooks.supervisor.snapshot().await.ok_or(Draining)
}

/// The memory of each template, in bytes, in the order of the snapshot.
pub async fn template_memory(snapshot: &Snapshot) -> Vec<Option<u64>> {
    let processes: Vec<_> = snapshot.templates.iter().map(|template| template.pid).collect();
    unblock(move || processes.into_iter().map(|pid| process_memory(pid?)).collect()).await
}

impl Service {
    async fn status(&self) -> Result<Status, Draining> {
        let snapshot = snapshot(self).await?;
        let memory = template_memory(&snapshot).await;
        let Snapshot { limits, suspended, oldest_request, requests, workers, templates, .. } = snapshot;
        Ok(Status {
            version: self.version.clone(),
            uptime_ms: milliseconds(self.started_at.elapsed()),
            admission: self.admissions.now(),
            suspended,
            limits: limits_fields(&limits),
            request_phases: snapshot.request_phases.iter().map(|(phase, count)| (name(phase), *count)).collect(),
            oldest_request_ms: oldest_request.map(milliseconds),
            requests: listed(requests, request_fields),
            worker_phases: snapshot.worker_phases.iter().map(|(phase, count)| (name(phase), *count)).collect(),
            workers: listed(workers, worker_fields),
            templates: templates.into_iter().zip(memory).map(template_fields).collect(),
            quarantined: listed(snapshot.quarantined, quarantined_fields),
            in_backoff: listed(snapshot.in_backoff, delayed_fields),
            environments: EnvironmentCounts {
                held: self.hooks.environments.held(),
                made: self.monitor.metrics.environments_made(),
            },
            answers: self.answers(),
        })
    }

    /// What became of answers.
    pub fn answers(&self) -> AnswerCounts {
        let of_builds = self.monitor.answers_of_builds();
        let of_hooks = self.hooks.answers.as_ref().map(|answers| answers.statistics()).unwrap_or_default();
        AnswerCounts {
            hits: of_builds.hits + of_hooks.hits,
            misses: of_builds.misses + of_hooks.misses,
            kept: of_builds.kept + of_hooks.kept,
            wrong: of_builds.wrong + of_hooks.mismatches,
        }
    }
}

/// The name of a variant, as the supervisor's types serialize it.
pub fn name(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a variant without fields is a string, not {other:?}"),
    }
}

pub fn listed<T, U>(listed: Listed<T>, describe: impl Fn(T) -> U) -> hookpool_wire::Listed<U> {
    hookpool_wire::Listed { count: listed.count, first: listed.first.into_iter().map(describe).collect() }
}

pub fn limits_fields(limits: &Limits) -> hookpool_wire::Limits {
    let time = |timeout: Timeout| milliseconds(timeout.get());
    hookpool_wire::Limits {
        jobs: limits.jobs.get(),
        max_workers: limits.max_workers.get(),
        workers_per_tree: limits.workers_per_tree.get(),
        max_templates: limits.max_templates.get(),
        queue_size: limits.queue_size.get(),
        idle_timeout_ms: limits.idle_timeout.map(time),
        max_requests: limits.max_requests.map(Into::into),
        max_lifetime_ms: limits.max_lifetime.map(time),
        hook_memory_limit: limits.hook_memory_limit.map(Into::into),
        hook_timeout_ms: limits.hook_timeout.map(time),
        startup_timeout_ms: time(limits.startup_timeout),
        lock_timeout_ms: limits.lock_timeout.map(time),
        grace_period_ms: limits.grace_period.map(time),
        health_interval_ms: limits.health_interval.map(time),
        health_timeout_ms: time(limits.health_timeout),
        max_restarts: limits.max_restarts,
        restart_window_ms: time(limits.restart_window),
    }
}

pub fn request_fields(request: RequestSnapshot) -> RequestStatus {
    RequestStatus {
        id: request.id.number(),
        caller_id: request.caller_id.map(|id| (*id).to_owned()),
        tree: request.tree.to_string_lossy().into_owned(),
        hook: request.hook.to_string(),
        phase: name(&request.phase),
        age_ms: milliseconds(request.age),
        phase_ms: request.phase_age.map(milliseconds),
        worker: request.worker.map(|worker| worker.number()),
        priority: request.priority,
    }
}

fn worker_fields(worker: WorkerSnapshot) -> WorkerStatus {
    WorkerStatus {
        id: worker.id.number(),
        pid: worker.pid,
        tree: worker.tree.to_string_lossy().into_owned(),
        generation: worker.generation,
        python: worker.python.to_string_lossy().into_owned(),
        start_method: worker.start_method.name().to_owned(),
        template: worker.template.map(|template| template.number()),
        phase: name(&worker.phase),
        request: worker.request.map(|request| request.number()),
        age_ms: milliseconds(worker.age),
        served: worker.served,
    }
}

fn template_fields((template, memory): (TemplateSnapshot, Option<u64>)) -> TemplateStatus {
    TemplateStatus {
        id: template.id.number(),
        pid: template.pid,
        interpreter: template.interpreter.to_string_lossy().into_owned(),
        backend: template.backend,
        modules: template.modules,
        memory_bytes: memory,
        age_ms: milliseconds(template.age),
        forked: template.forked,
        in_use: template.in_use,
        learning: template.learning,
    }
}

fn quarantined_fields(pool: QuarantinedPool) -> hookpool_wire::QuarantinedPool {
    hookpool_wire::QuarantinedPool {
        tree: pool.tree.to_string_lossy().into_owned(),
        python: pool.python.to_string_lossy().into_owned(),
        reason: pool.reason,
        remaining_ms: milliseconds(pool.remaining),
    }
}

fn delayed_fields(pool: DelayedPool) -> hookpool_wire::DelayedPool {
    hookpool_wire::DelayedPool {
        tree: pool.tree.to_string_lossy().into_owned(),
        python: pool.python.to_string_lossy().into_owned(),
        failures: pool.failures,
        remaining_ms: milliseconds(pool.remaining),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use hookpool_supervisor::{
        ErrorKind, Event, ExitReason, Hook, RequestId, RequestPhase, Selection, StartMethod, StopReason, TemplateId,
        Timing, WorkerId, WorkerPhase,
    };
    use hookpool_wire::Happening;
    use utoipa::PartialSchema;

    #[test]
    fn events_are_those_of_the_document() {
        let limits = Limits::for_jobs(NonZeroUsize::MIN);
        let events = [
            Event::RequestQueued {
                request: RequestId::from(1),
                tree: "/p".into(),
                hook: Hook::BuildWheel,
                caller_id: Some("c".into()),
            },
            Event::RequestPreparing { request: RequestId::from(1) },
            Event::RequestPrepared { request: RequestId::from(1) },
            Event::TreeLocked { request: RequestId::from(1), tree: "/p".into() },
            Event::TreeStillLocked { tree: "/p".into(), holder: None },
            Event::RequestAccepted { request: RequestId::from(1), worker: WorkerId::from(2) },
            Event::OutputCaptured { request: RequestId::from(1), stdout: "/p".into(), stderr: "/p".into() },
            Event::RequestRetried { request: RequestId::from(1), reason: "s".into() },
            Event::RequestFinished {
                request: RequestId::from(1),
                tree: "/p".into(),
                hook: Hook::BuildWheel,
                error: Some(ErrorKind::Cancelled),
                timing: Timing::default(),
                caller_id: Some("c".into()),
            },
            Event::WorkerStarting {
                worker: WorkerId::from(2),
                tree: "/p".into(),
                generation: 4,
                start_method: StartMethod::Spawn,
            },
            Event::WorkerReady {
                worker: WorkerId::from(2),
                pid: 5,
                start_method: StartMethod::Spawn,
                after: Duration::from_millis(7),
            },
            Event::WorkerStartFailed { worker: WorkerId::from(2), tree: "/p".into(), reason: "s".into() },
            Event::WorkerMoved { worker: WorkerId::from(2), tree: "/p".into(), generation: 4 },
            Event::WorkerStopping { worker: WorkerId::from(2), reason: StopReason::Evicted },
            Event::WorkerExited { worker: WorkerId::from(2), pid: 5, exit: ExitReason::ExitCode(8), planned: true },
            Event::WorkerLingers { worker: WorkerId::from(2), pid: 5 },
            Event::HealthCheckFailed { worker: WorkerId::from(2) },
            Event::ProtocolViolated { worker: WorkerId::from(2), reason: "s".into() },
            Event::DeadlineExceeded { request: RequestId::from(1), worker: WorkerId::from(2) },
            Event::MemoryLimitExceeded { request: RequestId::from(1), worker: WorkerId::from(2), bytes: 4 },
            Event::WorkerLog { worker: WorkerId::from(2), line: "s".into() },
            Event::PoolBackoff { tree: "/p".into(), delay: Duration::from_millis(7), failures: 6 },
            Event::PoolQuarantined { tree: "/p".into(), cool_down: Duration::from_millis(7), reason: "s".into() },
            Event::OrphanKilled { pid: 5 },
            Event::TemplateStarting { template: TemplateId::from(3), interpreter: "/p".into(), backend: None },
            Event::TemplateReady { template: TemplateId::from(3), pid: 5, modules: 6, after: Duration::from_millis(7) },
            Event::TemplateLearned { template: TemplateId::from(3), modules: 6 },
            Event::PreloadRefused { template: TemplateId::from(3), backend: None, reason: "s".into() },
            Event::PreloadShadowed { tree: "/p".into(), module: "s".into(), loaded: "s".into(), found: "s".into() },
            Event::TemplateStale { template: TemplateId::from(3), changed: "/p".into() },
            Event::TemplateFailed { template: TemplateId::from(3), reason: "s".into() },
            Event::TemplateFallback { interpreter: "/p".into(), backend: None, reason: "s".into() },
            Event::TemplateExited { template: TemplateId::from(3) },
            Event::TemplateLog { template: TemplateId::from(3), line: "s".into() },
            Event::FreeThreaded { python: "/p".into() },
            Event::WorkersCapped { max_workers: 6, open_files: 4 },
            Event::OrphansUnknown { reason: "s".into() },
            Event::LimitsChanged { limits: Box::new(limits.clone()) },
            Event::Restarting { selection: Selection::Tree("/p".into()) },
            Event::Draining,
            Event::Interrupted { signal: "s".into() },
            Event::Suspended,
            Event::Resumed,
            Event::EventsLost { count: 4 },
            Event::Restarting { selection: Selection::All },
            Event::Restarting { selection: Selection::Template(TemplateId::from(3)) },
        ];
        let mut names = BTreeSet::new();
        for event in events {
            let written = serde_json::to_value(event).unwrap();
            let read: Happening = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), written);
            names.insert(written["event"].to_string());
        }
        let schema = serde_json::to_value(Happening::schema()).unwrap();
        assert_eq!(schema["oneOf"].as_array().unwrap().len(), names.len(), "{names:?}");
    }

    #[test]
    fn phases_have_the_documented_names() {
        let requests = RequestPhase::ALL.map(|phase| name(&phase));
        let expected =
            ["queued", "waiting_for_lock", "visiting", "preparing", "needs_worker", "starting", "running", "parked"];
        assert_eq!(requests, expected);
        let workers = WorkerPhase::ALL.map(|phase| name(&phase));
        assert_eq!(workers, ["starting", "idle", "running", "stopping", "lingering"]);
    }
}
