//! The places for what may run at once ([`Limits::jobs`](crate::Limits::jobs)).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// All places of a supervisor.
#[derive(Debug)]
pub(crate) struct JobSlots {
    limit: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: AtomicUsize,
    /// Told when a place is given back by somebody else than the scheduler.
    freed: Notify,
}

/// A place for something that runs: given back when it is dropped.
#[derive(Debug)]
pub struct JobSlot {
    shared: Arc<Shared>,
    /// Whether the scheduler has to be told.
    is_lent: bool,
}

impl JobSlots {
    pub fn new(limit: NonZeroUsize) -> Self {
        Self { limit: limit.get(), shared: Arc::default() }
    }

    /// Takes a place, if there is one. Only the scheduler takes any.
    pub fn take(&self) -> Option<JobSlot> {
        if self.taken() >= self.limit {
            return None;
        }
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
        Some(JobSlot { shared: self.shared.clone(), is_lent: false })
    }

    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Waits until a place that was lent is given back. Cancel-safe.
    pub async fn freed(&self) {
        self.shared.freed.notified().await;
    }
}

impl JobSlot {
    /// The place in the hands of somebody who may give it back at any time.
    pub(crate) fn lent(mut self) -> Self {
        self.is_lent = true;
        self
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        self.shared.taken.fetch_sub(1, Ordering::Relaxed);
        if self.is_lent {
            self.shared.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_gives_itself_back() {
        let slots = JobSlots::new(NonZeroUsize::new(2).unwrap());
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap().lent());
        assert!(slots.take().is_none());
        drop(first);
        assert_eq!(slots.taken(), 1);
        drop(second);
        slots.freed().await;
        assert_eq!(slots.taken(), 0);
    }
}
