//! How a running hook is ended against its will.

use std::time::Duration;

use hookd_protocol::Action;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{Effect, Effects, Machine, Phase};
use crate::event::Event;
use crate::limits::Timeout;
use crate::response::Isolation;
use crate::worker::deadline::{Cause, Escalation, Step};
use crate::worker::message::Ending;

impl Machine {
    pub fn memory_exceeded(&mut self, bytes: u64, now: Instant) -> Effects {
        let limit = self.limits.hook_memory_limit.map_or(0, std::num::NonZero::get);
        let mut effects = Effects::new();
        if let Phase::Running(running) = &self.phase
            && running.escalation.is_none()
        {
            let (request, worker) = (running.request, self.id);
            effects.push(Effect::Observe(Event::MemoryLimitExceeded { request, worker, bytes }));
            effects.extend(self.end_hook(Cause::Memory { bytes, limit }, now));
        }
        effects
    }

    /// Begins to end the running hook, unless that has begun for a reason that
    /// is as strong.
    pub(super) fn end_hook(&mut self, cause: Cause, now: Instant) -> Effects {
        match &self.phase {
            Phase::Running(running) if running.escalation.is_none() || matches!(cause, Cause::Interrupted(_)) => {}
            _ => return Effects::new(),
        }
        // What is stopped can neither end nor be waited for.
        let mut effects = self.resume(now);
        let Phase::Running(running) = &mut self.phase else { return effects };
        let grace = self.limits.grace_period.map_or(Duration::ZERO, Timeout::get);
        let report_time = self.limits.health_timeout.get();
        let (escalation, step) = Escalation::begin(cause, grace, report_time, now);
        running.escalation = Some(escalation);
        match (cause, step) {
            // The worker forwards the signal and ends once its hook has.
            (Cause::Interrupted(signal), Step::Signal(first)) if first == signal => {
                self.ending = Some(Ending::Planned);
                effects.push(Effect::SignalGroup(signal));
            }
            _ => effects.extend(self.take(step, now)),
        }
        effects
    }

    pub(super) fn escalate(&mut self, now: Instant) -> Effects {
        let Phase::Running(running) = &mut self.phase else { return Effects::new() };
        if let Some(escalation) = &mut running.escalation {
            let step = escalation.advance(now);
            return self.take(step, now);
        }
        let (request, worker) = (running.request, self.id);
        let after = running.timeout.map_or(Duration::ZERO, Timeout::get);
        let mut effects = vec![Effect::Observe(Event::DeadlineExceeded { request, worker })];
        effects.extend(self.end_hook(Cause::Deadline { after }, now));
        effects
    }

    fn take(&mut self, step: Step, now: Instant) -> Effects {
        match step {
            Step::Signal(signal) => self.hook_signal(signal),
            Step::EndWorker => self
                .terminate(Ending::Crashed("the worker did not report the end of a hook that it killed".into()), now),
        }
    }

    /// Sends a signal to the running hook. Only its worker may do that: the
    /// worker has not waited for it, so that the pid is still the hook's.
    pub(super) fn hook_signal(&mut self, signal: Signal) -> Effects {
        match (&self.phase, self.isolation) {
            (Phase::Running(_), Isolation::Hook) => {
                vec![Effect::Write(Action::Cancel(signal.as_str().to_owned()).encode())]
            }
            (Phase::Running(_), Isolation::None) => {
                // The hook runs in the worker: what ends the one ends the other.
                if !matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
                    self.ending.get_or_insert(Ending::Planned);
                }
                vec![Effect::SignalGroup(signal)]
            }
            _ => Effects::new(),
        }
    }
}
