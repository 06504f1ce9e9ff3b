//! What the scheduler knows, as a [`Snapshot`].

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::restart::Permission;
use super::super::trees::LockState;
use super::super::workers::{Occupation, PoolKey, WorkerRecord};
use super::{Pool, RequestRecord, RequestState, Scheduler};
use crate::ids::{RequestId, WorkerId};
use crate::shutdown::Shutdown;
use crate::snapshot::{
    DelayedPool, Listed, QuarantinedPool, RequestPhase, RequestSnapshot, Snapshot, TemplateSnapshot, WorkerPhase,
    WorkerSnapshot,
};

impl Scheduler {
    /// The state at this moment.
    pub fn snapshot(&self, templates: Vec<TemplateSnapshot>, now: Instant) -> Snapshot {
        let mut request_phases: BTreeMap<_, _> = RequestPhase::ALL.map(|phase| (phase, 0)).into();
        let mut requests = Vec::with_capacity(self.requests.len());
        for (id, record) in &self.requests {
            let phase = self.phase_of(record);
            *request_phases.entry(phase).or_default() += 1;
            requests.push((*id, (*id, record, phase)));
        }
        let mut worker_phases: BTreeMap<_, _> = WorkerPhase::ALL.map(|phase| (phase, 0)).into();
        let mut workers = Vec::new();
        for (id, record) in self.workers.records() {
            *worker_phases.entry(phase_of_worker(record)).or_default() += 1;
            workers.push((id, (id, record)));
        }
        let (mut quarantined, mut in_backoff) = (Vec::new(), Vec::new());
        for (pool, books) in &self.pools {
            match books.restarts.standing(now) {
                Permission::Denied { until, reason } => quarantined.push((&pool.tree.path, (pool, reason, until))),
                Permission::Wait { until } => in_backoff.push((&pool.tree.path, (pool, books, until))),
                Permission::Granted => {}
            }
        }
        let oldest = self.requests.values().map(|record| record.submitted_at).min();
        Snapshot {
            limits: self.limits.clone(),
            draining: self.shutdown != Shutdown::NotBegun,
            suspended: self.suspended,
            request_phases,
            oldest_request: oldest.map(|submitted_at| now - submitted_at),
            requests: Listed::of(requests, |(id, record, phase)| describe_request(id, record, phase, now)),
            worker_phases,
            workers: Listed::of(workers, |(id, record)| describe_worker(id, record, now)),
            templates,
            quarantined: Listed::of(quarantined, |(pool, reason, until): (&PoolKey, _, Instant)| QuarantinedPool {
                tree: pool.tree.path.clone(),
                python: pool.worker.python.clone(),
                reason,
                remaining: until - now,
            }),
            in_backoff: Listed::of(in_backoff, |(pool, books, until): (&PoolKey, &Pool, Instant)| DelayedPool {
                tree: pool.tree.path.clone(),
                python: pool.worker.python.clone(),
                failures: books.restarts.failures(),
                remaining: until - now,
            }),
        }
    }

    fn phase_of(&self, record: &RequestRecord) -> RequestPhase {
        match &record.state {
            RequestState::Queued => match self.trees.get(&record.path).map(|tree| tree.lock) {
                Some(LockState::Waiting) => RequestPhase::WaitingForLock,
                _ => RequestPhase::Queued,
            },
            RequestState::Visiting => RequestPhase::Visiting,
            RequestState::Preparing { .. } => RequestPhase::Preparing,
            RequestState::NeedsWorker { .. } => RequestPhase::NeedsWorker,
            RequestState::Starting { .. } => RequestPhase::Starting,
            RequestState::Leased { .. } => RequestPhase::Running,
            RequestState::Parked { .. } => RequestPhase::Parked,
        }
    }
}

fn describe_request(id: RequestId, record: &RequestRecord, phase: RequestPhase, now: Instant) -> RequestSnapshot {
    let (worker, since) = match &record.state {
        RequestState::Preparing { since } => (None, Some(*since)),
        RequestState::Starting { worker, .. } => (Some(*worker), record.assigned_at),
        RequestState::Leased { worker } => (Some(*worker), record.leased_at),
        RequestState::Queued
        | RequestState::Visiting
        | RequestState::NeedsWorker { .. }
        | RequestState::Parked { .. } => (None, None),
    };
    RequestSnapshot {
        id,
        caller_id: record.details.caller_id.clone(),
        tree: record.details.tree.clone(),
        hook: record.details.hook,
        phase,
        age: now - record.submitted_at,
        phase_age: since.map(|since| now - since),
        worker,
        priority: record.details.priority,
    }
}

fn phase_of_worker(record: &WorkerRecord) -> WorkerPhase {
    match record.occupation() {
        Occupation::Starting { .. } => WorkerPhase::Starting,
        Occupation::Idle { .. } => WorkerPhase::Idle,
        Occupation::Leased { .. } | Occupation::Sweeping => WorkerPhase::Running,
        Occupation::Stopping => WorkerPhase::Stopping,
        Occupation::Lingering => WorkerPhase::Lingering,
    }
}

fn describe_worker(id: WorkerId, record: &WorkerRecord, now: Instant) -> WorkerSnapshot {
    let request = match record.occupation() {
        Occupation::Starting { request } => request,
        Occupation::Leased { request, .. } => Some(request),
        Occupation::Idle { .. } | Occupation::Sweeping | Occupation::Stopping | Occupation::Lingering => None,
    };
    WorkerSnapshot {
        id,
        pid: record.pid,
        tree: record.pool.tree.path.clone(),
        generation: record.generation,
        python: record.pool.worker.python.clone(),
        start_method: record.start_method,
        template: record.template,
        phase: phase_of_worker(record),
        request,
        age: now - record.started_at,
        served: record.served,
    }
}
