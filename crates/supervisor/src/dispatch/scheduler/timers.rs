//! What happens because time has passed.

use tokio::time::Instant;

use super::super::workers::Occupation;
use super::Scheduler;
use crate::event::{StopReason, WorkerId};

impl Scheduler {
    /// When [`Scheduler::tick`] is to be called, if nothing happens before.
    pub fn next_at(&self) -> Option<Instant> {
        let parked = self.parked.first().map(|(until, _)| *until);
        let idle = self.workers.idle().filter_map(|(_, record)| self.expires_at(record)).min();
        parked.into_iter().chain(idle).min()
    }

    fn expires_at(&self, record: &super::super::workers::WorkerRecord) -> Option<Instant> {
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
