//! Workers for requests: idle ones, new ones, and those that make room. Here are
//! also the timers of workers and of parked requests.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::message::Action;
use super::super::restart::Permission;
use super::super::workers::{Occupation, PoolKey, WorkerRecord};
use super::{RequestState, Scheduler};
use crate::error::{ErrorKind, HookError, Setting};
use crate::event::{Event, StopReason};
use crate::ids::{RequestId, WorkerId};
use crate::response::Isolation;
use crate::tree::{CheckedWorker, Fitness, Prepared, Tree};
use crate::worker::{Lease, WorkerCommand, WorkerPlan};

impl Scheduler {
    /// Gives a visited request a worker, or makes it wait for one, or fails it. An
    /// idle worker must have been `checked` by the visit.
    pub(super) fn assign(
        &mut self,
        request: RequestId,
        prepared: Prepared,
        checked: Option<CheckedWorker>,
        now: Instant,
    ) {
        let Some(pool) = self.pool_of(request) else { return };
        let Some(path) = self.requests.get(&request).map(|record| record.path.clone()) else { return };
        if self.suspended {
            // It is not visited again.
            self.set_state(request, RequestState::NeedsWorker { prepared });
            return self.needs_worker.push_back(request);
        }
        // It may have been stopped or have died since.
        let checked = checked.filter(|checked| self.workers.get(checked.worker).is_some_and(WorkerRecord::is_idle));
        if let Some(CheckedWorker { worker, fitness: Fitness::Stale(reason) }) = checked {
            self.stop(worker, reason);
        }
        let fit = checked.filter(|checked| checked.fitness == Fitness::Fit).map(|checked| checked.worker);
        let of_pool = |record: &WorkerRecord| record.pool == pool;
        if let Some(worker) = fit.filter(|worker| self.workers.get(*worker).is_some_and(of_pool)) {
            return self.lease(worker, request, prepared, now);
        }
        if self.workers.idle_of(&pool).is_some() {
            // Another worker was checked.
            return self.visit(request);
        }
        match self.pools.entry(pool.clone()).or_default().restarts.permission(now) {
            Permission::Wait { until } => {
                self.park(request, until);
                self.leave_tree(&path);
            }
            Permission::Denied { reason, .. } => {
                self.fail(request, quarantined(&reason), now);
                self.leave_tree(&path);
            }
            Permission::Granted => self.assign_another(request, pool, prepared, checked, now),
        }
    }

    /// Gives a visited request a worker that its pool does not have yet: one of
    /// another tree, or a new one.
    fn assign_another(
        &mut self,
        request: RequestId,
        pool: PoolKey,
        prepared: Prepared,
        checked: Option<CheckedWorker>,
        now: Instant,
    ) {
        if let Some(CheckedWorker { worker, fitness: Fitness::Fit }) = checked
            && self.workers.get(worker).is_some_and(|record| self.can_move(record, &pool))
        {
            return self.lease(worker, request, prepared, now);
        }
        // Where one is unsuited, the others probably are.
        let is_unsuited = checked.is_some_and(|checked| checked.fitness == Fitness::Unsuited);
        if !is_unsuited && self.idle_to_move(&pool).is_some() {
            // Another worker was checked.
            return self.visit(request);
        }
        if self.workers.live() < self.limits.max_workers.get() {
            return self.start(request, pool, prepared, now);
        }
        self.set_state(request, RequestState::NeedsWorker { prepared });
        self.needs_worker.push_back(request);
        self.make_room();
    }

    /// An idle worker of another tree that can be moved to the tree of this pool.
    pub(super) fn idle_to_move(&self, pool: &PoolKey) -> Option<WorkerId> {
        self.workers.idle_where(|record| self.can_move(record, pool))
    }

    /// Whether an idle worker can be moved to the tree of this pool.
    fn can_move(&self, record: &WorkerRecord, pool: &PoolKey) -> bool {
        // The protocol cannot carry a newline.
        let is_line = !pool.tree.path.as_os_str().as_bytes().contains(&b'\n');
        self.isolation == Isolation::Hook && record.may_move() && record.pool.worker == pool.worker && is_line
    }

    /// Evicts the least recently used idle workers until there will be room for
    /// all requests that need a worker.
    fn make_room(&mut self) {
        // After a change of limits, not every worker that ends makes room.
        let mut coming = (self.limits.max_workers.get() + self.workers.stopping()).saturating_sub(self.workers.live());
        while coming < self.needs_worker.len() {
            let Some(worker) = self.workers.least_recently_used() else { return };
            self.stop(worker, StopReason::Evicted);
            coming += 1;
        }
    }

    /// Tries again to give workers to the requests that need one.
    pub(super) fn serve_waiting(&mut self, now: Instant) {
        if self.suspended {
            return;
        }
        for _ in 0..self.needs_worker.len() {
            let Some(request) = self.needs_worker.pop_front() else { break };
            let Some(record) = self.requests.get_mut(&request) else { continue };
            // `assign` puts it back if there is still no room.
            if let RequestState::NeedsWorker { prepared } = std::mem::replace(&mut record.state, RequestState::Visiting)
            {
                self.assign(request, prepared, None, now);
            }
        }
    }

    fn start(&mut self, request: RequestId, pool: PoolKey, prepared: Prepared, now: Instant) {
        let tree = pool.tree.clone();
        let generation = self.next_generation(&pool);
        let max_served = self.limits.max_requests.map(|limit| with_jitter(limit.get(), (self.jitter)()));
        let imports = prepared.imports.clone();
        let plan = WorkerPlan { key: pool.worker.clone(), tree: tree.clone(), imports };
        let Some(record) = self.requests.get(&request) else { return };
        let path = record.path.clone();
        let record = WorkerRecord::starting(pool, path, generation, request, self.start_method, max_served, now);
        let worker = self.workers.add(record);
        if let Some(record) = self.requests.get_mut(&request) {
            record.assigned_at = Some(now);
        }
        self.set_state(request, RequestState::Starting { worker, prepared });
        let path = tree.path.clone();
        self.actions.push(Action::Start { worker, plan });
        self.observe(Event::WorkerStarting { worker, tree: path, generation, start_method: self.start_method });
    }

    fn next_generation(&mut self, pool: &PoolKey) -> u64 {
        let books = self.pools.entry(pool.clone()).or_default();
        books.generation += 1;
        books.generation
    }

    /// Gives a request to an idle worker, which is moved to the tree of the request
    /// if it serves another one.
    pub(super) fn lease(&mut self, worker: WorkerId, request: RequestId, prepared: Prepared, now: Instant) {
        let tree = self.move_to_pool_of(request, worker);
        let Some(record) = self.requests.get_mut(&request) else { return };
        record.state = RequestState::Leased { worker };
        // It was assigned before if the worker was started for it.
        record.assigned_at.get_or_insert(now);
        record.leased_at = Some(now);
        let timeout = record.details.timeout.or(self.limits.hook_timeout);
        let path = record.path.clone();
        self.workers.occupy(worker, Occupation::Leased { request, accepted: false });
        if let Some(record) = self.workers.get_mut(worker) {
            record.path = path;
        }
        self.tell(worker, WorkerCommand::Lease(Lease { request, tree, prepared, timeout }));
    }

    /// Makes a worker one of the request's pool. Returns the tree, if the worker
    /// has served another one. From now on a failure of the worker counts for the
    /// new pool.
    fn move_to_pool_of(&mut self, request: RequestId, worker: WorkerId) -> Option<Arc<Tree>> {
        let pool = self.pool_of(request)?;
        if self.workers.get(worker)?.pool == pool {
            return None;
        }
        let (tree, generation) = (pool.tree.clone(), self.next_generation(&pool));
        let record = self.workers.get_mut(worker)?;
        record.pool = pool;
        record.generation = generation;
        self.observe(Event::WorkerMoved { worker, tree: tree.path.clone(), generation });
        Some(tree)
    }

    /// Stops an idle worker.
    pub(super) fn stop(&mut self, worker: WorkerId, reason: StopReason) {
        self.workers.occupy(worker, Occupation::Stopping);
        self.observe(Event::WorkerStopping { worker, reason });
        self.tell(worker, WorkerCommand::Stop);
    }

    /// A worker that is being started is not needed by its request any more.
    pub(super) fn abandon_start(&mut self, worker: WorkerId) {
        self.workers.occupy(worker, Occupation::Starting { request: None });
    }

    pub(super) fn tell(&mut self, worker: WorkerId, command: WorkerCommand) {
        self.actions.push(Action::Tell { worker, command });
    }

    fn set_state(&mut self, request: RequestId, state: RequestState) {
        if let Some(record) = self.requests.get_mut(&request) {
            record.state = state;
        }
    }

    /// Makes a request wait until its pool may start a worker again.
    pub(super) fn park(&mut self, request: RequestId, until: Instant) {
        if let Some(record) = self.requests.get_mut(&request) {
            record.state = RequestState::Parked { until };
            record.slot = None;
            self.parked.insert((until, request));
        }
    }

    pub(super) fn unpark(&mut self, request: RequestId) {
        if let Some(RequestState::Parked { until }) = self.requests.get(&request).map(|record| &record.state) {
            self.parked.remove(&(*until, request));
        }
    }

    /// When to call [`Scheduler::tick`], if no event comes before.
    pub fn next_at(&self) -> Option<Instant> {
        let parked = self.parked.first().map(|(until, _)| *until);
        let idle = self.workers.idle().filter_map(|(_, record)| self.expires_at(record)).min();
        parked.into_iter().chain(idle).min()
    }

    fn expires_at(&self, record: &WorkerRecord) -> Option<Instant> {
        let Occupation::Idle { since, .. } = record.occupation() else { return None };
        let idle = self.limits.idle_timeout.map(|timeout| since + timeout.get());
        let lifetime = self.limits.max_lifetime.map(|timeout| record.started_at + timeout.get());
        idle.into_iter().chain(lifetime).min()
    }

    pub fn tick(&mut self, now: Instant) {
        let expired: Vec<WorkerId> = self
            .workers
            .idle()
            .filter(|(_, record)| self.expires_at(record).is_some_and(|at| at <= now))
            .map(|(worker, _)| worker)
            .collect();
        for worker in expired {
            let record = self.workers.get(worker).expect("it was just listed");
            let reason = self.reason_to_stop(record, now).unwrap_or(StopReason::IdleTimeout);
            self.stop(worker, reason);
        }
        while let Some((until, request)) = self.parked.first().copied()
            && until <= now
        {
            self.unpark(request);
            self.requeue(request);
        }
        self.fill();
    }
}

pub(super) fn quarantined(reason: &str) -> HookError {
    HookError::new(ErrorKind::Quarantined, format!("the workers of this tree failed too often: {reason}"))
        .with_hint("another start is tried after a while")
        .with_setting(Setting::RestartWindow)
}

/// The limit, reduced by up to a tenth, so that workers that started together
/// are not replaced together.
pub(super) fn with_jitter(limit: u32, jitter: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a tenth of a u32")]
    let less = (f64::from(limit) * 0.1 * jitter.clamp(0.0, 1.0)) as u32;
    (limit - less).max(1)
}
