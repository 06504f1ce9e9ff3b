//! A semaphore whose number of permits can change while they are taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// As tokio's semaphore, which cannot take away permits that are in use.
#[derive(Debug)]
pub(crate) struct ResizableSemaphore {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    limit: usize,
    /// The number of taken permits beyond the limit: so many are not returned.
    surplus: usize,
}

/// A permit of a [`ResizableSemaphore`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<ResizableSemaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ResizableSemaphore {
    pub fn new(limit: usize) -> Arc<Self> {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Arc::new(Self { permits: Arc::new(Semaphore::new(limit)), size: Mutex::new(Size { limit, surplus: 0 }) })
    }

    /// The number of permits.
    pub fn limit(&self) -> usize {
        self.size().limit
    }

    /// The number of permits that nobody has.
    pub fn available(&self) -> usize {
        self.permits.available_permits()
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        let size = self.size();
        size.limit + size.surplus - self.available()
    }

    /// Changes the number of permits. Those that are taken stay valid; if they are
    /// too many, the next that are dropped are not returned.
    pub fn resize(&self, limit: usize) {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let mut size = self.size();
        let (more, fewer) = (limit.saturating_sub(size.limit), size.limit.saturating_sub(limit));
        let kept = more.min(size.surplus);
        size.surplus -= kept;
        self.permits.add_permits(more - kept);
        size.surplus += fewer - self.permits.forget_permits(fewer);
        size.limit = limit;
    }

    pub fn try_acquire(self: &Arc<Self>) -> Result<Permit, TryAcquireError> {
        loop {
            let permit = self.permits.clone().try_acquire_owned()?;
            if let Some(permit) = self.accept(permit) {
                return Ok(permit);
            }
        }
    }

    /// Waits for a permit, in order. A wait that is dropped loses its turn, and
    /// nothing else.
    pub async fn acquire(self: &Arc<Self>) -> Result<Permit, AcquireError> {
        loop {
            let permit = self.permits.clone().acquire_owned().await?;
            if let Some(permit) = self.accept(permit) {
                return Ok(permit);
            }
        }
    }

    /// `None` if there are too many: a wait that is dropped just after its permit
    /// has come returns it by itself.
    fn accept(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Option<Permit> {
        let permit = Permit { semaphore: self.clone(), permit: Some(permit) };
        let fits = self.size().surplus == 0;
        fits.then_some(permit)
    }

    /// Ends all waits; no more permits can be acquired.
    pub fn close(&self) {
        self.permits.close();
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut size = self.semaphore.size();
        if size.surplus > 0 {
            size.surplus -= 1;
            permit.forget();
        }
        // Otherwise it is returned here, before the size can change.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_whenever_it_changes() {
        // Each digit: take (0), drop (1), or resize to that less 2.
        for steps in ["0003111", "00052111", "0003500111", "000253111", "52000", "0002221116"] {
            let semaphore = ResizableSemaphore::new(3);
            let (mut taken, mut limit) = (Vec::new(), 3);
            for step in steps.bytes().map(|digit| usize::from(digit - b'0')) {
                match step {
                    0 => match semaphore.try_acquire() {
                        Ok(permit) => taken.push(permit),
                        Err(_) => assert!(taken.len() >= limit, "{steps}: {} of {limit} are taken", taken.len()),
                    },
                    1 => drop(taken.pop()),
                    more => {
                        limit = more - 2;
                        semaphore.resize(limit);
                    }
                }
                assert_eq!((semaphore.taken(), semaphore.limit()), (taken.len(), limit), "{steps}");
                assert_eq!(semaphore.available(), limit.saturating_sub(taken.len()), "{steps}");
            }
        }
    }

    #[tokio::test]
    async fn a_permit_beyond_the_limit_goes_to_nobody() {
        let semaphore = ResizableSemaphore::new(2);
        let (first, second) = (semaphore.try_acquire().unwrap(), semaphore.try_acquire().unwrap());
        let mut waiting = Box::pin(semaphore.acquire());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        semaphore.resize(1);
        drop(first);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(second);
        let third = waiting.await.unwrap();
        // The permit comes to a wait that is dropped before it looks.
        let mut waiting = Box::pin(semaphore.acquire());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        semaphore.resize(2);
        semaphore.resize(1);
        drop(waiting);
        assert!(semaphore.try_acquire().is_err());
        assert_eq!(semaphore.taken(), 1);
        drop(third);
        assert_eq!(semaphore.taken(), 0);
    }
}
