//! Whether new work is admitted, and how much is open.

use std::time::Duration;

use hookpool_wire::{Admission, Phase};
use tokio::sync::watch;

/// Counts the open work, and can close the door to more. All clones are the same.
#[derive(Clone, Debug)]
pub struct Admissions {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    is_draining: bool,
    must_exit: bool,
    open: usize,
    /// The work that was admitted so far.
    admitted: u64,
}

impl State {
    fn phase(&self) -> Phase {
        if self.is_draining { Phase::Draining } else { Phase::Serving }
    }
}

/// The service admits no new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service admits no new work: it is being drained")]
pub struct Draining;

/// A piece of work that is open until this is dropped.
#[derive(Debug)]
pub struct OpenWork {
    state: watch::Sender<State>,
}

impl Drop for OpenWork {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.open -= 1);
    }
}

impl Admissions {
    pub fn new() -> Self {
        Self { state: watch::Sender::new(State::default()) }
    }

    /// Admits a piece of work.
    pub fn admit(&self) -> Result<OpenWork, Draining> {
        let admitted = self.state.send_if_modified(|state| {
            state.open += usize::from(!state.is_draining);
            state.admitted += u64::from(!state.is_draining);
            !state.is_draining
        });
        if admitted { Ok(OpenWork { state: self.state.clone() }) } else { Err(Draining) }
    }

    /// Admits no more work. With `exit`, the service is to end when its work is done.
    pub fn drain(&self, exit: bool) {
        self.state.send_modify(|state| {
            state.is_draining = true;
            state.must_exit |= exit;
        });
    }

    /// Admits work again. A service that is to end stays closed.
    pub fn resume(&self) -> Result<(), Draining> {
        let mut is_open = true;
        self.state.send_modify(|state| {
            state.is_draining &= state.must_exit;
            is_open = !state.is_draining;
        });
        if is_open { Ok(()) } else { Err(Draining) }
    }

    /// Whether work is admitted, and how much is open.
    pub fn now(&self) -> Admission {
        let state = *self.state.borrow();
        Admission { phase: state.phase(), open: state.open }
    }

    /// Waits until the service is to end. Cancel-safe.
    pub async fn exit_wanted(&self) {
        self.wait_for(|state| state.must_exit).await;
    }

    /// Waits until no work is open. Cancel-safe.
    pub async fn idle(&self) {
        self.wait_for(|state| state.open == 0).await;
    }

    /// Waits until no work was open for this time. Cancel-safe.
    pub async fn idle_for(&self, time: Duration) {
        loop {
            self.idle().await;
            let admitted = self.state.borrow().admitted;
            let more = self.wait_for(|state| state.admitted != admitted);
            if tokio::time::timeout(time, more).await.is_err() {
                return;
            }
        }
    }

    /// Waits until this is not the phase. Cancel-safe.
    pub async fn leaves(&self, phase: Phase) {
        self.wait_for(|state| state.phase() != phase).await;
    }

    async fn wait_for(&self, condition: impl Fn(&State) -> bool) {
        // The sender is in `self`.
        let _ = self.state.subscribe().wait_for(|state| condition(state)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_lets_open_work_end_and_admits_no_more() {
        let admissions = Admissions::new();
        let work = admissions.admit().unwrap();
        admissions.drain(false);
        assert_eq!(admissions.admit().unwrap_err(), Draining);
        assert_eq!(admissions.now(), Admission { phase: Phase::Draining, open: 1 });
        drop(work);
        admissions.idle().await;
        admissions.resume().unwrap();
        drop(admissions.admit().unwrap());
        admissions.drain(true);
        assert_eq!(admissions.resume(), Err(Draining), "a service that is to end stays closed");
        admissions.exit_wanted().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_begins_again_after_each_work() {
        let admissions = Admissions::new();
        let minute = Duration::from_secs(60);
        let begin = tokio::time::Instant::now();
        let idle = tokio::spawn({
            let admissions = admissions.clone();
            async move { admissions.idle_for(minute).await }
        });
        tokio::time::sleep(minute / 2).await;
        // The watch channel shows only its newest value.
        drop(admissions.admit().unwrap());
        tokio::time::sleep(minute / 2).await;
        let work = admissions.admit().unwrap();
        tokio::time::sleep(minute * 2).await;
        drop(work);
        idle.await.unwrap();
        assert_eq!(begin.elapsed(), minute * 4);
    }
}
