//! Commands of the dispatcher.

use hookd_protocol::Action;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::ending::Cause;
use super::running::Running;
use super::{Effect, Effects, Health, Machine, Phase};
use crate::error::Canceller;
use crate::ids::RequestId;
use crate::worker::message::{Ending, Lease};

impl Machine {
    pub fn lease(&mut self, lease: Lease, now: Instant) -> Effects {
        match self.phase {
            Phase::Idle => self.begin(lease, now),
            // It is ending. From its last report the dispatcher learns that the
            // request was not accepted.
            _ => Effects::new(),
        }
    }

    pub fn cancel(&mut self, request: RequestId, canceller: Canceller, now: Instant) -> Effects {
        match &self.phase {
            Phase::Running(running) if running.request == request => self.end_hook(Cause::Cancelled(canceller), now),
            _ => Effects::new(),
        }
    }

    pub fn interrupt(&mut self, signal: Signal, now: Instant) -> Effects {
        match self.phase {
            Phase::Running(_) => self.end_hook(Cause::Interrupted(signal), now),
            Phase::Idle => self.stop(now),
            Phase::Starting { .. } | Phase::Finishing { .. } => self.terminate(Ending::Planned, now),
            Phase::Stopping { .. } | Phase::Lingering | Phase::Terminating(_) | Phase::Gone => Effects::new(),
        }
    }

    pub fn stop(&mut self, now: Instant) -> Effects {
        match self.phase {
            Phase::Idle => {
                self.ending = Some(Ending::Planned);
                self.health = Health::Off;
                // They may have ended. If not, the worker says so again.
                self.keeper = false;
                self.phase = Phase::Stopping { give_up_at: now + self.limits.health_timeout.get() };
                vec![Effect::Write(Action::Shutdown.encode())]
            }
            Phase::Starting { .. } => self.terminate(Ending::Planned, now),
            _ => Effects::new(),
        }
    }

    pub fn suspend(&mut self, now: Instant) -> Effects {
        if self.suspended_at.is_some() {
            return Effects::new();
        }
        self.suspended_at = Some(now);
        // Also before the request is accepted: the worker reads this line after
        // those of the request, while the hook runs.
        self.hook_signal(Signal::SIGSTOP)
    }

    pub fn resume(&mut self, now: Instant) -> Effects {
        let Some(since) = self.suspended_at.take() else { return Effects::new() };
        self.postpone(now - since);
        self.hook_signal(Signal::SIGCONT)
    }

    fn begin(&mut self, lease: Lease, now: Instant) -> Effects {
        self.phase = Phase::Running(Box::new(Running::new(lease.request, lease.timeout, now)));
        self.schedule_health(now);
        self.keeper = false;
        // Both in one message: the worker wakes once.
        let mut lines = lease.tree.map_or_else(Vec::new, |tree| Action::Tree(tree.path.clone()).encode());
        lines.extend(lease.prepared.lines);
        let mut effects = vec![Effect::Write(lines)];
        if self.suspended_at.is_some() {
            effects.extend(self.hook_signal(Signal::SIGSTOP));
        }
        effects
    }
}
