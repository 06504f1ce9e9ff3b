//! Workers that end on request: in a restart they are replaced, and pools in quarantine get
//! another chance; those of an environment that is not needed any more are not.

use std::collections::HashSet;
use std::path::PathBuf;

use tokio::time::Instant;

use super::super::restart::{Permission, RestartTracker};
use super::super::workers::{Occupation, PoolKey, WorkerRecord};
use super::Scheduler;
use crate::event::{Event, StopReason};
use crate::ids::{RequestId, TemplateId, WorkerId};
use crate::selection::Selection;

impl Scheduler {
    /// Replaces workers: idle ones now, others after their hook. Lifts the backoff
    /// and the quarantine of their pools. `interpreters` has all names of the
    /// interpreter of a selected environment. Returns the numbers of workers and of such pools.
    pub fn restart(&mut self, selection: &Selection, interpreters: &HashSet<PathBuf>, now: Instant) -> (usize, usize) {
        self.observe(Event::Restarting { selection: selection.clone() });
        let selected = self.workers.ids_where(|record| selects_worker(selection, interpreters, record));
        for worker in &selected {
            self.end(*worker, StopReason::RestartRequested);
        }
        let lifted = self.lift(selection, interpreters, now);
        self.serve_waiting(now);
        self.fill();
        (selected.len(), lifted)
    }

    /// Ends the workers of an interpreter, which has these names: idle ones now, others when
    /// their hooks have ended.
    pub fn retire(&mut self, interpreters: &HashSet<PathBuf>, now: Instant) {
        for worker in self.workers.ids_where(|record| interpreters.contains(&record.pool.worker.python)) {
            self.end(worker, StopReason::Retired);
        }
        self.serve_waiting(now);
    }

    fn end(&mut self, worker: WorkerId, reason: StopReason) {
        let Some(record) = self.workers.get_mut(worker) else { return };
        record.to_stop = Some(reason);
        if record.is_idle() {
            self.stop(worker, reason);
        }
    }

    /// Forgets the failures of pools. The requests that wait for their next start
    /// are queued again.
    fn lift(&mut self, selection: &Selection, interpreters: &HashSet<PathBuf>, now: Instant) -> usize {
        let mut lifted = 0;
        for (pool, books) in &mut self.pools {
            if selects_pool(selection, interpreters, pool) {
                lifted += usize::from(books.restarts.standing(now) != Permission::Granted);
                books.restarts = RestartTracker::default();
            }
        }
        let parked: Vec<RequestId> = self.parked.iter().map(|(_, request)| *request).collect();
        for request in parked {
            if self.pool_of(request).is_some_and(|pool| selects_pool(selection, interpreters, &pool)) {
                self.unpark(request);
                self.requeue(request);
            }
        }
        lifted
    }

    /// The names of the workers' interpreters, each with a template of it.
    pub fn interpreters(&self) -> impl Iterator<Item = (&PathBuf, TemplateId)> {
        let records = self.workers.records().map(|(_, record)| record);
        records.filter_map(|record| Some((&record.pool.worker.python, record.template?)))
    }
}

fn selects_worker(selection: &Selection, interpreters: &HashSet<PathBuf>, record: &WorkerRecord) -> bool {
    // Which template forks it is not known yet.
    let is_starting = matches!(record.occupation(), Occupation::Starting { .. });
    match selection {
        Selection::Template(template) => is_starting || record.template == Some(*template),
        _ => selects_pool(selection, interpreters, &record.pool),
    }
}

fn selects_pool(selection: &Selection, interpreters: &HashSet<PathBuf>, pool: &PoolKey) -> bool {
    match selection {
        Selection::All => true,
        Selection::Tree(path) => pool.tree.path == *path,
        Selection::Environment(_) => interpreters.contains(&pool.worker.python),
        Selection::Template(_) => false,
    }
}
