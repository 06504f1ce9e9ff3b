//! The places for what may run at once ([`Limits::jobs`](crate::Limits::jobs)).

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All places of a supervisor.
#[derive(Debug)]
pub(crate) struct JobSlots {
    #[cfg(test)]
    limit: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Who waits for it has had a place before, and is served before the
    /// scheduler, which does not wait.
    places: Arc<Semaphore>,
    /// Told when a place is given back by somebody else than the scheduler.
    freed: Notify,
}

/// A place for something that runs: given back when it is dropped.
#[derive(Debug)]
pub struct JobSlot {
    shared: Arc<Shared>,
    place: Option<OwnedSemaphorePermit>,
    /// Whether the scheduler has to be told.
    is_lent: bool,
}

/// A place that was given back for a while.
#[derive(Debug)]
pub struct ReturnedSlot {
    shared: Arc<Shared>,
}

impl JobSlots {
    pub fn new(limit: NonZeroUsize) -> Self {
        let limit = limit.get().min(Semaphore::MAX_PERMITS);
        let shared = Shared { places: Arc::new(Semaphore::new(limit)), freed: Notify::new() };
        Self {
            #[cfg(test)]
            limit,
            shared: Arc::new(shared),
        }
    }

    /// Takes a place, if there is one. For the scheduler.
    pub fn take(&self) -> Option<JobSlot> {
        let place = self.shared.places.clone().try_acquire_owned().ok()?;
        Some(JobSlot { shared: self.shared.clone(), place: Some(place), is_lent: false })
    }

    pub fn free(&self) -> usize {
        self.shared.places.available_permits()
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.limit - self.free()
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

    /// Gives the place back while nothing runs, for others to run meanwhile.
    #[must_use]
    pub fn give_back(self) -> ReturnedSlot {
        ReturnedSlot { shared: self.shared.clone() }
    }
}

impl ReturnedSlot {
    /// Waits for a place, before all that is only about to begin. Cancel-safe,
    /// but for its turn.
    pub async fn take(self) -> JobSlot {
        let place = self.shared.places.clone().acquire_owned().await.expect("it is never closed");
        JobSlot { shared: self.shared, place: Some(place), is_lent: true }
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        drop(self.place.take());
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

    #[tokio::test]
    async fn who_had_a_place_is_served_first() {
        let slots = JobSlots::new(NonZeroUsize::MIN);
        let returned = slots.take().unwrap().lent().give_back();
        slots.freed().await;
        let other = slots.take().unwrap();
        let mut again = std::pin::pin!(returned.take());
        assert!(futures_util::poll!(&mut again).is_pending());
        drop(other);
        assert!(slots.take().is_none());
        let again = again.await;
        assert_eq!(slots.taken(), 1);
        drop(again);
        slots.freed().await;
        assert!(slots.take().is_some());
    }
}
