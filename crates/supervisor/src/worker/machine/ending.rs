//! How a hook and a worker are ended. The stages and their times are those of
//! [`Termination`]; this file carries them out, and answers the request.

use std::num::NonZero;
use std::time::Duration;

use hookd_protocol::Action;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::running::Running;
use super::{Effect, Effects, Health, Machine, Phase, finished};
use crate::error::{Canceller, ErrorKind, ExitReason, HookError, Setting};
use crate::event::Event;
use crate::limits::Timeout;
use crate::process::{Stage, Termination};
use crate::response::Isolation;
use crate::worker::message::Ending;

/// Why a hook is ended before it has a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Deadline { after: Duration },
    Cancelled(Canceller),
    Interrupted(Signal),
    Memory { bytes: u64, limit: u64 },
}

impl Cause {
    /// The answer to the request of the hook.
    pub fn error(self) -> HookError {
        match self {
            Self::Deadline { after } => {
                HookError::new(ErrorKind::HookTimeout, format!("the hook ran longer than its deadline of {after:?}"))
                    .with_hint("the deadline can be longer")
                    .with_setting(Setting::HookTimeout)
            }
            Self::Cancelled(canceller) => HookError::cancelled(canceller),
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
            .with_exit(ExitReason::Signal("SIGKILL".into()))
            .with_hint("the limit can be higher")
            .with_setting(Setting::HookMemoryLimit),
        }
    }

    fn first_signal(self) -> Signal {
        match self {
            Self::Interrupted(signal) => signal,
            Self::Deadline { .. } | Self::Cancelled(_) => Signal::SIGTERM,
            // As the kernel does when memory is short.
            Self::Memory { .. } => Signal::SIGKILL,
        }
    }
}

impl Machine {
    pub fn memory_exceeded(&mut self, bytes: u64, now: Instant) -> Effects {
        let limit = self.limits.hook_memory_limit.map_or(0, NonZero::get);
        let mut effects = Effects::new();
        if let Phase::Running(running) = &self.phase
            && running.ending.is_none()
        {
            let (request, worker) = (running.request, self.id);
            effects.push(Effect::observe(Event::MemoryLimitExceeded { request, worker, bytes }));
            effects.extend(self.end_hook(Cause::Memory { bytes, limit }, now));
        }
        effects
    }

    /// Begins to end the running hook. Only an interruption replaces a
    /// termination that has begun.
    pub(super) fn end_hook(&mut self, cause: Cause, now: Instant) -> Effects {
        match &self.phase {
            Phase::Running(running) if running.ending.is_none() || matches!(cause, Cause::Interrupted(_)) => {}
            _ => return Effects::new(),
        }
        // A stopped process does not react to signals.
        let mut effects = self.resume(now);
        let Phase::Running(running) = &mut self.phase else { return effects };
        let (grace, report_time) = (self.limits.grace_period, self.limits.health_timeout.get());
        let termination = Termination::of_hook(cause.first_signal(), grace, report_time, now);
        let stage = termination.stage();
        running.ending = Some((cause, termination));
        match (cause, stage) {
            // The worker forwards the signal, and ends after its hook.
            (Cause::Interrupted(_), Stage::Signal(signal)) => {
                self.ending = Some(Ending::Planned);
                effects.push(Effect::SignalGroup(signal));
            }
            _ => effects.extend(self.carry_out(stage, now)),
        }
        effects
    }

    /// The deadline of the hook, or the next stage of its termination, has come.
    pub(super) fn hook_is_due(&mut self, now: Instant) -> Effects {
        let Phase::Running(running) = &mut self.phase else { return Effects::new() };
        if let Some((_, termination)) = &mut running.ending {
            let stage = termination.advance(now);
            return stage.map_or_else(Effects::new, |stage| self.carry_out(stage, now));
        }
        let (request, worker) = (running.request, self.id);
        let after = running.timeout.map_or(Duration::ZERO, Timeout::get);
        let mut effects = vec![Effect::observe(Event::DeadlineExceeded { request, worker })];
        effects.extend(self.end_hook(Cause::Deadline { after }, now));
        effects
    }

    fn carry_out(&mut self, stage: Stage, now: Instant) -> Effects {
        match stage {
            Stage::Signal(signal) => self.hook_signal(signal),
            Stage::Kill => self.hook_signal(Signal::SIGKILL),
            Stage::CloseInput | Stage::EndParent => self
                .terminate(Ending::Crashed("the worker did not report the end of a hook that it killed".into()), now),
        }
    }

    /// Sends a signal to the running hook, by way of its worker: only a process
    /// that is the hook's parent knows that the pid is still the hook's.
    pub(super) fn hook_signal(&mut self, signal: Signal) -> Effects {
        match (&self.phase, self.isolation) {
            (Phase::Running(_), Isolation::Hook) => {
                vec![Effect::Write(Action::Cancel(signal.as_str().to_owned()).encode())]
            }
            (Phase::Running(_), Isolation::None) => {
                // The hook runs in the worker: a signal that ends it ends both.
                if !matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
                    self.ending.get_or_insert(Ending::Planned);
                }
                vec![Effect::SignalGroup(signal)]
            }
            _ => Effects::new(),
        }
    }

    /// Ends the worker with everything that it started.
    pub fn terminate(&mut self, ending: Ending, now: Instant) -> Effects {
        if matches!(self.phase, Phase::Terminating(_) | Phase::Gone) {
            return Effects::new();
        }
        self.ending.get_or_insert(ending);
        self.health = Health::Off;
        // The termination goes on even if the supervisor is suspended.
        self.suspended_at = None;
        let termination = Termination::of_worker(matches!(self.phase, Phase::Starting { .. }), now);
        let mut effects = Self::end_worker(termination.stage());
        if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Terminating(termination)) {
            effects.extend(self.answer_lost(*running, now));
        }
        effects
    }

    pub(super) fn end_worker(stage: Stage) -> Effects {
        match stage {
            // A stopped worker does not see the end of its input.
            Stage::CloseInput => vec![Effect::CloseInput, Effect::SignalGroup(Signal::SIGCONT)],
            Stage::Signal(_) | Stage::Kill | Stage::EndParent => {
                vec![Effect::SignalGroup(Signal::SIGKILL), Effect::SignalWorker(Signal::SIGKILL)]
            }
        }
    }

    /// The answer to the request of a worker that is lost. `None` if another
    /// worker may run it.
    fn answer_lost(&self, running: Running, now: Instant) -> Option<Effect> {
        let accepted = running.accepted_at.is_some();
        if running.failure.is_some() {
            return Some(finished(running.answer_failure(None, now)));
        }
        let error = match &self.ending {
            Some(Ending::Violated(reason)) => HookError::new(ErrorKind::ProtocolViolation, reason.clone()),
            _ if !accepted && running.ending.is_none() => return None,
            Some(Ending::Crashed(reason)) => HookError::new(ErrorKind::WorkerCrashed, reason.clone()),
            _ => HookError::new(ErrorKind::Interrupted, "the supervisor was ended"),
        };
        let error = match &self.exit {
            Some(exit) => error.with_exit(exit.clone()),
            None => error,
        };
        Some(finished(running.answer(Err(error), now)))
    }

    /// The process was waited for, and its output was read to the end.
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
        if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Gone) {
            effects.extend(self.answer_lost(*running, now));
        }
        effects.push(Effect::Gone(ending));
        effects
    }
}
