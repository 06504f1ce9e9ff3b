//! Limits that change while requests are served.

use tokio::time::Instant;

use super::super::workers::Occupation;
use super::Scheduler;
use super::lease::with_jitter;
use crate::event::{Event, StopReason};
use crate::limits::{Limits, LimitsChange, LimitsError};
use crate::process::open_files::Capacity;
use crate::worker::WorkerCommand;

impl Scheduler {
    /// Changes limits. What runs beyond the new ones ends as it would have.
    pub fn change_limits(
        &mut self,
        change: &LimitsChange,
        capacity: impl FnOnce(&Limits) -> Option<Capacity>,
        now: Instant,
    ) -> Result<Limits, LimitsError> {
        let limits = self.limits.changed(change, capacity)?;
        self.slots.resize(limits.jobs);
        self.trees.set_workers_per_tree(limits.workers_per_tree.get());
        if let Some(max_requests) = change.max_requests {
            let jitter = self.jitter;
            for record in self.workers.records_mut() {
                record.max_served = max_requests.map(|limit| with_jitter(limit.get(), jitter()));
            }
        }
        self.limits = limits.clone();
        self.observe(Event::LimitsChanged { limits: Box::new(limits.clone()) });
        self.evict_surplus();
        self.serve_waiting(now);
        self.fill();
        Ok(limits)
    }

    /// Ends the workers beyond `max_workers`, as far as they have no request.
    fn evict_surplus(&mut self) {
        while self.has_surplus()
            && let Some(worker) = self.workers.least_recently_used()
        {
            self.stop(worker, StopReason::Evicted);
        }
        self.limit_lingering();
    }

    /// Ends the workers that linger beyond `max_workers`. They use memory.
    pub(super) fn limit_lingering(&mut self) {
        while self.workers.lingering() > self.limits.max_workers.get()
            && let Some(oldest) = self.workers.oldest_lingering()
        {
            self.workers.occupy(oldest, Occupation::Stopping);
            self.tell(oldest, WorkerCommand::Terminate);
        }
    }

    /// Whether there are more workers than allowed, without those that end anyway.
    pub(super) fn has_surplus(&self) -> bool {
        let (live, most) = (self.workers.live(), self.limits.max_workers.get());
        live > most && live - self.workers.stopping() > most
    }
}
