//! The job slots of a supervisor ([`Limits::jobs`](crate::Limits::jobs)).

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::semaphore::{Permit, ResizableSemaphore};

/// All job slots of a supervisor.
#[derive(Debug)]
pub(crate) struct JobSlots {
    pool: Arc<SlotPool>,
}

#[derive(Debug)]
struct SlotPool {
    /// Holders of a returned slot wait here. They are served before the
    /// scheduler, which does not wait.
    free: Arc<ResizableSemaphore>,
    /// Notified when a lent slot is returned.
    freed: Notify,
}

/// The right to run one hook or installer, until it is dropped.
#[derive(Debug)]
pub struct JobSlot {
    pool: Arc<SlotPool>,
    permit: Option<Permit>,
    /// Whether the scheduler must be notified of its return.
    is_lent: bool,
}

/// A job slot that was returned for a while.
#[derive(Debug)]
pub struct ReturnedSlot {
    pool: Arc<SlotPool>,
}

impl JobSlots {
    pub fn new(limit: NonZeroUsize) -> Self {
        let pool = SlotPool { free: ResizableSemaphore::new(limit.get()), freed: Notify::new() };
        Self { pool: Arc::new(pool) }
    }

    /// Changes their number. What runs keeps its slot.
    pub fn resize(&self, limit: NonZeroUsize) {
        self.pool.free.resize(limit.get());
    }

    /// Takes a slot for the scheduler, if one is free.
    pub fn take(&self) -> Option<JobSlot> {
        let permit = self.pool.free.try_acquire().ok()?;
        Some(JobSlot { pool: self.pool.clone(), permit: Some(permit), is_lent: false })
    }

    pub fn free(&self) -> usize {
        self.pool.free.available()
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.pool.free.taken()
    }

    /// Waits until a lent slot is returned. Cancel-safe.
    pub async fn freed(&self) {
        self.pool.freed.notified().await;
    }
}

impl JobSlot {
    /// The slot for a holder who may return it at any time.
    pub(crate) fn lent(mut self) -> Self {
        self.is_lent = true;
        self
    }

    /// Returns the slot while nothing runs, so that something else can.
    #[must_use]
    pub fn give_back(self) -> ReturnedSlot {
        ReturnedSlot { pool: self.pool.clone() }
    }
}

impl ReturnedSlot {
    /// Waits for a slot, ahead of all requests that have had none yet. A wait
    /// that is dropped loses its turn, and nothing else.
    pub async fn take(self) -> JobSlot {
        let permit = self.pool.free.acquire().await.expect("the semaphore is never closed");
        JobSlot { pool: self.pool, permit: Some(permit), is_lent: true }
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.is_lent {
            self.pool.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_returns_itself() {
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
    async fn whoever_had_a_slot_is_served_first() {
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
