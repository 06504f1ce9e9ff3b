//! How a hook is ended against its will: asked, then killed, then its worker
//! with it.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::error::{ErrorKind, HookError, Setting};

/// Why a hook is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Deadline { after: Duration },
    Cancelled,
    Interrupted(Signal),
    Memory { bytes: u64, limit: u64 },
}

impl Cause {
    /// The answer to the request whose hook is ended so.
    pub fn error(self) -> HookError {
        match self {
            Self::Deadline { after } => {
                HookError::new(ErrorKind::HookTimeout, format!("the hook ran longer than its deadline of {after:?}"))
                    .with_hint("the deadline can be longer")
                    .with_setting(Setting::HookTimeout)
            }
            Self::Cancelled => HookError::new(ErrorKind::Cancelled, "the request was cancelled"),
            Self::Interrupted(signal) => {
                HookError::new(ErrorKind::Interrupted, format!("the supervisor was ended by {signal}"))
            }
            Self::Memory { bytes, limit } => HookError::new(
                ErrorKind::HookCrashed,
                format!(
                    "the hook was killed: it and its descendants used {bytes} bytes of memory, more than the limit of \
                     {limit}"
                ),
            )
            .with_exit(crate::error::ExitReason::Signal("SIGKILL".into()))
            .with_hint("the limit can be higher")
            .with_setting(Setting::HookMemoryLimit),
        }
    }

    /// The first signal that the hook gets.
    fn first_signal(self, grace: Duration) -> Signal {
        match self {
            Self::Memory { .. } => Signal::SIGKILL,
            _ if grace.is_zero() => Signal::SIGKILL,
            Self::Interrupted(signal) => signal,
            Self::Deadline { .. } | Self::Cancelled => Signal::SIGTERM,
        }
    }
}

/// What to do to a hook that is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this signal to the hook's process group.
    Signal(Signal),
    /// The worker did not even report that its hook was killed: end it too.
    EndWorker,
}

/// How far the ending of a hook has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escalation {
    pub cause: Cause,
    pub next_at: Instant,
    killed: bool,
    /// How long the worker may take to report a hook that it killed.
    report_time: Duration,
}

impl Escalation {
    /// Begins to end a hook: the escalation, and its first step.
    pub fn begin(cause: Cause, grace: Duration, report_time: Duration, now: Instant) -> (Self, Step) {
        let signal = cause.first_signal(grace);
        let killed = signal == Signal::SIGKILL;
        let patience = if killed { report_time } else { grace };
        (Self { cause, next_at: now + patience, killed, report_time }, Step::Signal(signal))
    }

    /// The time is up: what next?
    pub fn advance(&mut self, now: Instant) -> Step {
        if self.killed {
            return Step::EndWorker;
        }
        self.killed = true;
        self.next_at = now + self.report_time;
        Step::Signal(Signal::SIGKILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_then_killed_then_the_worker_too() {
        let now = Instant::now();
        let grace = Duration::from_secs(3);
        let (mut escalation, step) = Escalation::begin(Cause::Cancelled, grace, grace, now);
        assert_eq!((step, escalation.next_at), (Step::Signal(Signal::SIGTERM), now + grace));
        assert_eq!(escalation.advance(now + grace), Step::Signal(Signal::SIGKILL));
        assert_eq!(escalation.advance(escalation.next_at), Step::EndWorker);
    }

    #[test]
    fn no_grace_means_no_asking() {
        let cause = Cause::Deadline { after: Duration::from_secs(1) };
        let (_, step) = Escalation::begin(cause, Duration::ZERO, Duration::ZERO, Instant::now());
        assert_eq!(step, Step::Signal(Signal::SIGKILL));
    }
}
