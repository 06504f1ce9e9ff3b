//! Reports of workers.

use tokio::time::Instant;

use super::super::restart::{Permission, Verdict};
use super::super::workers::{Occupation, PoolKey, WorkerRecord};
use super::lease::quarantined;
use super::{RequestState, Scheduler};
use crate::error::{ErrorKind, ExitReason, HookError};
use crate::event::{Event, StopReason};
use crate::ids::{RequestId, WorkerId};
use crate::response::StartMethod;
use crate::shutdown::Shutdown;
use crate::tree::TreePath;
use crate::worker::message::Finished;
use crate::worker::{Ending, WorkerCommand, WorkerEvent, WorkerReport};

impl Scheduler {
    /// A worker has reported an event.
    pub fn worker_reported(&mut self, report: WorkerReport, now: Instant) {
        let worker = report.worker;
        match report.event {
            WorkerEvent::Ready { pid, start_method, after, freshness } => {
                if let Some(record) = self.workers.get_mut(worker) {
                    record.template = freshness.and_then(|freshness| freshness.template());
                }
                self.observe(Event::WorkerReady { worker, pid, start_method, after });
                self.worker_ready(worker, pid, start_method, now);
            }
            WorkerEvent::Accepted { request } => {
                self.workers.occupy(worker, Occupation::Leased { request, accepted: true });
                self.observe(Event::RequestAccepted { request, worker });
            }
            WorkerEvent::Finished(finished) => self.worker_finished(worker, *finished, now),
            WorkerEvent::Idle { keeps_processes } => self.worker_idle(worker, keeps_processes, now),
            WorkerEvent::Lingers => self.worker_lingers(worker),
            WorkerEvent::Gone { pid, exit, ending } => self.worker_gone(worker, pid, exit, ending, now),
            WorkerEvent::Observed(event) => self.observe(event),
        }
        self.serve_waiting(now);
        self.fill();
        self.stop_all_when_drained();
    }

    fn worker_ready(&mut self, worker: WorkerId, pid: u32, start_method: StartMethod, now: Instant) {
        let Some(record) = self.workers.get_mut(worker) else { return };
        record.pid = Some(pid);
        record.start_method = start_method;
        let Occupation::Starting { request } = record.occupation() else { return };
        let prepared = request.and_then(|request| self.requests.get_mut(&request)).and_then(|record| {
            match std::mem::replace(&mut record.state, RequestState::Visiting) {
                RequestState::Starting { prepared, .. } => Some(prepared),
                other => {
                    record.state = other;
                    None
                }
            }
        });
        match request.zip(prepared) {
            Some((request, prepared)) => self.lease(worker, request, prepared, now),
            None => self.rest(worker, now),
        }
    }

    fn worker_finished(&mut self, worker: WorkerId, finished: Finished, now: Instant) {
        let Some(record) = self.workers.get_mut(worker) else { return };
        if !matches!(record.occupation(), Occupation::Leased { request, .. } if request == finished.request) {
            return;
        }
        record.served += 1;
        let path = record.path.clone();
        self.workers.occupy(worker, Occupation::Sweeping);
        self.trees.change(&path, |state| state.sweeping += 1);
        let info = self.worker_info(worker);
        // This returns the job slot. The tree stays active until the worker has
        // cleaned up.
        self.answer(finished, info, now);
    }

    fn worker_idle(&mut self, worker: WorkerId, keeps_processes: bool, now: Instant) {
        let Some(record) = self.workers.get_mut(worker) else { return };
        if record.occupation() != Occupation::Sweeping {
            return;
        }
        record.keeps_processes = keeps_processes;
        let (pool, path) = (record.pool.clone(), record.path.clone());
        // It has answered and is alive, which is the success of a trial start.
        if let Some(books) = self.pools.get_mut(&pool) {
            books.restarts.succeeded();
        }
        self.leave_after_sweep(&path);
        self.rest(worker, now);
    }

    fn leave_after_sweep(&mut self, path: &TreePath) {
        self.trees.change(path, |state| state.sweeping -= 1);
        self.leave_tree(path);
    }

    /// A worker has no request: it becomes idle, or is stopped.
    fn rest(&mut self, worker: WorkerId, now: Instant) {
        let Some(record) = self.workers.get(worker) else { return };
        match self.reason_to_stop(record, now) {
            Some(reason) => {
                // Only idle workers are stopped.
                self.workers.make_idle(worker, now);
                self.stop(worker, reason);
            }
            None => self.workers.make_idle(worker, now),
        }
    }

    pub(super) fn reason_to_stop(&self, record: &WorkerRecord, now: Instant) -> Option<StopReason> {
        if self.shutdown != Shutdown::NotBegun && self.requests.is_empty() {
            return Some(StopReason::Shutdown);
        }
        if record.to_stop.is_some() {
            return record.to_stop;
        }
        if record.max_served.is_some_and(|max| record.served >= max) {
            return Some(StopReason::MaxRequests);
        }
        if self.has_surplus() {
            return Some(StopReason::Evicted);
        }
        let too_old = |lifetime: crate::limits::Timeout| now - record.started_at >= lifetime.get();
        self.limits.max_lifetime.is_some_and(too_old).then_some(StopReason::MaxLifetime)
    }

    /// A worker that was stopped stays, as the parent of processes that its hooks
    /// detached.
    fn worker_lingers(&mut self, worker: WorkerId) {
        if let Some(pid) = self.workers.get(worker).and_then(|record| record.pid) {
            self.observe(Event::WorkerLingers { worker, pid });
        }
        self.workers.occupy(worker, Occupation::Lingering);
        if self.shutdown != Shutdown::NotBegun && self.requests.is_empty() {
            self.tell(worker, WorkerCommand::Terminate);
        } else {
            self.limit_lingering();
        }
    }

    fn worker_gone(
        &mut self,
        worker: WorkerId,
        pid: Option<u32>,
        exit: Option<ExitReason>,
        ending: Ending,
        now: Instant,
    ) {
        let Some(record) = self.workers.remove(worker) else { return };
        if let Some((pid, exit)) = pid.zip(exit.clone()) {
            self.observe(Event::WorkerExited { worker, pid, exit, planned: ending == Ending::Planned });
        }
        match &ending {
            Ending::Planned => {}
            Ending::Crashed(reason) | Ending::Violated(reason) => self.pool_failed(&record.pool, reason, now),
            Ending::StartFailed { reason, lasting } => {
                let tree = record.pool.tree.path.clone();
                self.observe(Event::WorkerStartFailed { worker, tree, reason: reason.clone() });
                // A start that cannot succeed fails at once: delaying the next
                // attempt would save nothing.
                if !lasting {
                    self.pool_failed(&record.pool, reason, now);
                }
            }
        }
        match record.occupation() {
            Occupation::Starting { request: Some(request) } => {
                self.lost(request, &record.pool, &ending, exit, now);
                self.leave_tree(&record.path);
            }
            Occupation::Leased { request, .. } => {
                // An accepted request was answered by a report before.
                self.lost(request, &record.pool, &ending, exit, now);
                self.leave_tree(&record.path);
            }
            Occupation::Sweeping => self.leave_after_sweep(&record.path),
            Occupation::Starting { request: None }
            | Occupation::Idle { .. }
            | Occupation::Stopping
            | Occupation::Lingering => {}
        }
        self.forget_clean_pools(now);
    }

    /// The worker of a request died before accepting it.
    fn lost(&mut self, request: RequestId, pool: &PoolKey, ending: &Ending, exit: Option<ExitReason>, now: Instant) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        if let Some(canceller) = record.cancelled {
            // The worker died before it could be told.
            return self.fail(request, HookError::cancelled(canceller), now);
        }
        record.attempts += 1;
        record.assigned_at = None;
        record.leased_at = None;
        let (kind, reason, again) = match ending {
            Ending::Planned => (ErrorKind::Interrupted, "its worker was ended".to_owned(), true),
            Ending::Violated(reason) => (ErrorKind::ProtocolViolation, reason.clone(), false),
            Ending::Crashed(reason) => (ErrorKind::WorkerCrashed, reason.clone(), record.attempts < Self::MAX_ATTEMPTS),
            Ending::StartFailed { reason, lasting } => (ErrorKind::WorkerStartFailed, reason.clone(), !lasting),
        };
        if !again || self.shutdown.ends_hooks() {
            let mut error = HookError::new(kind, reason);
            error.exit = exit;
            return self.fail(request, error, now);
        }
        let attempts = record.attempts;
        self.observe(Event::RequestRetried { request, reason: reason.clone() });
        match self.pools.entry(pool.clone()).or_default().restarts.permission(now) {
            Permission::Denied { reason, .. } => self.fail(request, quarantined(&reason), now),
            // Starts that take longer than `restart_window` to fail never cause a
            // quarantine, so each request has a limit of its own.
            _ if attempts > self.limits.max_restarts.max(Self::MAX_ATTEMPTS) => {
                self.fail(request, HookError::new(kind, reason), now);
            }
            Permission::Wait { until } => self.park(request, until),
            Permission::Granted => self.requeue(request),
        }
    }

    fn pool_failed(&mut self, pool: &PoolKey, reason: &str, now: Instant) {
        let tree = pool.tree.path.clone();
        let jitter = (self.jitter)();
        let books = self.pools.entry(pool.clone()).or_default();
        match books.restarts.failed(reason, &self.limits, jitter, now) {
            Verdict::Backoff { delay, failures } => self.observe(Event::PoolBackoff { tree, delay, failures }),
            Verdict::Quarantine { cool_down } => {
                self.observe(Event::PoolQuarantined { tree, cool_down, reason: reason.to_owned() });
                self.fail_parked(pool, reason, now);
            }
        }
    }

    /// A pool is quarantined: the requests that wait for it fail.
    fn fail_parked(&mut self, pool: &PoolKey, reason: &str, now: Instant) {
        let mut parked: Vec<RequestId> = self.parked.iter().map(|(_, request)| *request).collect();
        parked.retain(|request| self.pool_of(*request).as_ref() == Some(pool));
        for request in parked {
            self.unpark(request);
            self.fail(request, quarantined(reason), now);
        }
    }

    /// Forgets the pools without failures, each time the number of pools has
    /// doubled.
    fn forget_clean_pools(&mut self, now: Instant) {
        if self.pools.len() < self.pools_purged_at {
            return;
        }
        let window = self.limits.restart_window.get();
        let workers = &self.workers;
        self.pools.retain(|pool, books| !books.restarts.is_clean(window, now) || workers.has_pool(pool));
        self.pools_purged_at = (2 * self.pools.len()).max(Self::POOLS_KEPT);
    }
}
