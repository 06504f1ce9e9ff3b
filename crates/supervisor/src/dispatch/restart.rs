//! Restart intensity: how often the workers of a pool may fail, how long the
//! pool waits before the next start, and when it is quarantined.
//!
//! As in OTP's supervisors, more than `max_restarts` failures within
//! `restart_window` are too many. A hook process that crashes is not a failure
//! of its worker.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// Whether a pool may start a worker now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Granted,
    /// Not before this time.
    Wait {
        until: Instant,
    },
    /// The pool is quarantined until this time, for this reason.
    Denied {
        until: Instant,
        reason: String,
    },
}

/// The consequence of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Backoff { delay: Duration, failures: usize },
    Quarantine { cool_down: Duration },
}

#[derive(Debug, Default)]
pub(crate) struct RestartTracker {
    failures: VecDeque<Instant>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Healthy,
    Backoff {
        until: Instant,
    },
    Quarantined {
        until: Instant,
        reason: String,
    },
    /// The quarantine is over, and one start is tried.
    Trial,
}

impl RestartTracker {
    const FIRST_DELAY: Duration = Duration::from_millis(50);
    const LONGEST_DELAY: Duration = Duration::from_secs(30);

    /// Whether a worker may start.
    pub fn permission(&mut self, now: Instant) -> Permission {
        let permission = self.standing(now);
        if permission == Permission::Granted && matches!(self.state, State::Quarantined { .. }) {
            self.state = State::Trial;
        }
        permission
    }

    /// The same, for somebody who starts none.
    pub fn standing(&self, now: Instant) -> Permission {
        match &self.state {
            State::Backoff { until } if *until > now => Permission::Wait { until: *until },
            State::Quarantined { until, reason } if *until > now => {
                Permission::Denied { until: *until, reason: reason.clone() }
            }
            _ => Permission::Granted,
        }
    }

    /// The number of failures that count, as of the last one.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// A worker failed. `jitter`, from 0 to 1, spreads the restarts of pools
    /// that failed together.
    pub fn failed(&mut self, reason: &str, limits: &Limits, jitter: f64, now: Instant) -> Verdict {
        let window = limits.restart_window.get();
        self.failures.push_back(now);
        self.failures.retain(|failure| now - *failure <= window);
        let count = self.failures.len();
        if matches!(self.state, State::Trial) || count > limits.max_restarts as usize {
            let reason = match &self.state {
                State::Trial => format!("the trial start after a quarantine failed too: {reason}"),
                _ => format!("{count} failures within {window:?}, the last: {reason}"),
            };
            self.failures.clear();
            self.state = State::Quarantined { until: now + window, reason };
            return Verdict::Quarantine { cool_down: window };
        }
        let doublings = u32::try_from(count - 1).unwrap_or(u32::MAX).min(16);
        let delay = (Self::FIRST_DELAY * 2_u32.pow(doublings)).min(Self::LONGEST_DELAY);
        let delay = delay.mul_f64(1.0 + jitter.clamp(0.0, 1.0) * 0.25);
        self.state = State::Backoff { until: now + delay };
        Verdict::Backoff { delay, failures: count }
    }

    /// A worker has answered a request: a trial has succeeded.
    pub fn succeeded(&mut self) {
        if matches!(self.state, State::Trial | State::Backoff { .. }) {
            self.state = State::Healthy;
        }
    }

    /// Whether a new tracker would decide the same.
    pub fn is_clean(&self, window: Duration, now: Instant) -> bool {
        match &self.state {
            State::Healthy | State::Backoff { .. } => self.failures.iter().all(|failure| now - *failure > window),
            State::Quarantined { until, .. } => *until + window < now,
            State::Trial => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Timeout;

    fn limits(max_restarts: u32) -> Limits {
        Limits { max_restarts, restart_window: Timeout::from_secs(10), ..Limits::default() }
    }

    #[test]
    fn delays_double_until_there_were_too_many() {
        let mut tracker = RestartTracker::default();
        let now = Instant::now();
        let mut delays = Vec::new();
        for _ in 0..3 {
            match tracker.failed("x", &limits(3), 0.0, now) {
                Verdict::Backoff { delay, .. } => delays.push(delay.as_millis()),
                Verdict::Quarantine { .. } => panic!("too early"),
            }
        }
        assert_eq!(delays, [50, 100, 200]);
        assert_eq!(tracker.permission(now), Permission::Wait { until: now + Duration::from_millis(200) });
        assert_eq!(tracker.permission(now + Duration::from_millis(200)), Permission::Granted);
        let verdict = tracker.failed("no memory", &limits(3), 0.0, now);
        assert_eq!(verdict, Verdict::Quarantine { cool_down: Duration::from_secs(10) });
        let Permission::Denied { reason, .. } = tracker.permission(now) else { panic!("it is quarantined") };
        assert_eq!(reason, "4 failures within 10s, the last: no memory");
    }

    #[test]
    fn failures_that_lie_apart_do_not_add_up() {
        let mut tracker = RestartTracker::default();
        let mut now = Instant::now();
        for _ in 0..20 {
            assert!(matches!(tracker.failed("x", &limits(1), 0.0, now), Verdict::Backoff { failures: 1, .. }));
            now += Duration::from_secs(11);
        }
    }

    #[test]
    fn after_the_quarantine_one_trial_decides() {
        let mut tracker = RestartTracker::default();
        let now = Instant::now();
        tracker.failed("x", &limits(0), 0.0, now);
        let later = now + Duration::from_secs(10);
        assert_eq!(tracker.permission(later), Permission::Granted);
        assert!(matches!(tracker.failed("y", &limits(5), 0.0, later), Verdict::Quarantine { .. }));
        let later = later + Duration::from_secs(10);
        assert_eq!(tracker.permission(later), Permission::Granted);
        tracker.succeeded();
        assert!(matches!(tracker.failed("z", &limits(5), 0.0, later), Verdict::Backoff { failures: 1, .. }));
    }
}
