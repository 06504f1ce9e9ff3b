//! How a worker is ended, and what becomes of its request.

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{Effect, Effects, Health, Machine, Phase, answered};
use crate::error::{ErrorKind, HookError};
use crate::worker::message::Ending;
use crate::worker::running::Running;

impl Machine {
    /// Ends the worker with everything that it started. The one place where
    /// that begins.
    pub fn terminate(&mut self, ending: Ending, now: Instant) -> Effects {
        if matches!(self.phase, Phase::Terminating { .. }) {
            return Effects::new();
        }
        self.ending.get_or_insert(ending);
        self.health = Health::Off;
        // From here on time counts, also for what was stopped.
        self.suspended_at = None;
        let before =
            std::mem::replace(&mut self.phase, Phase::Terminating { kill_at: Some(now + Self::TERMINATION_TIME) });
        let mut effects = vec![Effect::CloseInput];
        // What is stopped cannot see the end of its input.
        effects.push(Effect::SignalGroup(Signal::SIGCONT));
        match before {
            Phase::Running(running) => effects.extend(self.answer_lost(*running, now)),
            // An interpreter that starts does not look at its input, and has
            // started nothing that would be left behind.
            Phase::Starting { .. } => effects.push(Effect::SignalWorker(Signal::SIGKILL)),
            _ => {}
        }
        effects
    }

    /// The answer to a request whose worker is lost, if it must not be tried
    /// again.
    fn answer_lost(&self, running: Running, now: Instant) -> Option<Effect> {
        let accepted = running.accepted_at.is_some();
        if running.failure.is_some() {
            return Some(answered(running.answer_failure(None, now)));
        }
        let error = match &self.ending {
            Some(Ending::Violated(reason)) => HookError::new(ErrorKind::ProtocolViolation, reason.clone()),
            _ if !accepted && running.escalation.is_none() => return None,
            Some(Ending::Crashed(reason)) => HookError::new(ErrorKind::WorkerCrashed, reason.clone()),
            _ => HookError::new(ErrorKind::Interrupted, "the supervisor was ended"),
        };
        let error = match &self.exit {
            Some(exit) => error.with_exit(exit.clone()),
            None => error,
        };
        Some(answered(running.answer(Err(error), now)))
    }

    /// The process has been waited for, and its output read to the end.
    pub(super) fn gone(&mut self, now: Instant) -> Effects {
        self.drain_until = None;
        self.health = Health::Off;
        let exit = self.exit.clone().expect("only called once the worker has exited");
        let ending = self.ending.take().unwrap_or_else(|| {
            if self.was_ready {
                Ending::Crashed(format!("the worker {exit}"))
            } else {
                Ending::StartFailed { reason: format!("the worker {exit} before it was ready"), lasting: false }
            }
        });
        self.ending = Some(ending.clone());
        let mut effects = Effects::new();
        let before = std::mem::replace(&mut self.phase, Phase::Terminating { kill_at: None });
        if let Phase::Running(running) = before {
            effects.extend(self.answer_lost(*running, now));
        }
        effects.push(Effect::Gone(ending));
        effects
    }
}
