//! The worker's messages, and the end of its output and of its process.

use hookd_protocol::{Failure, Message};
use serde_json::Value;
use tokio::time::Instant;

use super::time::Health;
use super::{Effect, Effects, Machine, Phase, finished};
use crate::error::{ExitReason, HookError};
use crate::event::Event;
use crate::worker::message::{Ending, WorkerEvent};

impl Machine {
    pub fn message(&mut self, message: Message, now: Instant) -> Effects {
        match message {
            Message::Ready => self.ready(now),
            Message::Stdout(path) => match &mut self.phase {
                Phase::Running(running) if running.accepted_at.is_none() => {
                    running.files.stdout = Some(path.into());
                    running.accept(now);
                    vec![Effect::Report(WorkerEvent::Accepted { request: running.request })]
                }
                _ => self.unexpected("STDOUT", now),
            },
            Message::Stderr(path) => match &mut self.phase {
                Phase::Running(running) => {
                    let request = running.request;
                    running.files.stderr = Some(path.clone().into());
                    let stdout = running.files.stdout.as_ref().map(|file| file.path().to_owned());
                    let event = |stdout| Event::OutputCaptured { request, stdout, stderr: path };
                    stdout.map(|stdout| Effect::observe(event(stdout))).into_iter().collect()
                }
                _ => self.unexpected("STDERR", now),
            },
            Message::Silent => match &mut self.phase {
                Phase::Running(running) => {
                    running.files.are_empty = true;
                    Effects::new()
                }
                _ => self.unexpected("SILENT", now),
            },
            Message::Observed(observed) => match &mut self.phase {
                Phase::Running(running) if running.accepted_at.is_some() => {
                    running.observed = Some(observed);
                    Effects::new()
                }
                _ => self.unexpected("OBSERVED", now),
            },
            Message::Ok(value) => self.finish(Ok(value), now),
            Message::Error(failure) => match &mut self.phase {
                Phase::Running(running) if running.failure.is_none() => {
                    running.failure = Some(failure);
                    Effects::new()
                }
                _ => self.unexpected("ERROR", now),
            },
            Message::Traceback(text) => self.traceback(text, now),
            Message::Fatal(failure) => self.fatal(&failure),
            Message::Pong(token) => self.pong(&token, now),
            Message::Debug(text) => vec![Effect::observe(Event::WorkerLog { worker: self.id, line: text })],
            Message::Keeping(_) => {
                self.keeper = true;
                Effects::new()
            }
            Message::Shutdown if self.keeper && matches!(self.phase, Phase::Stopping { .. }) => {
                self.phase = Phase::Lingering;
                vec![Effect::Report(WorkerEvent::Lingers)]
            }
            Message::Imported(modules) => vec![Effect::Imported(modules)],
            Message::Shadowed(modules) => vec![Effect::Shadowed(modules)],
            Message::Shutdown | Message::Other => Effects::new(),
        }
    }

    /// The worker wrote a line that is not a message, or one that is not expected
    /// in this phase.
    pub fn violation(&mut self, reason: &str, now: Instant) -> Effects {
        let reason = format!("the worker violated the protocol: {reason}");
        let mut effects = vec![Effect::observe(Event::ProtocolViolated { worker: self.id, reason: reason.clone() })];
        effects.extend(self.terminate(Ending::Violated(reason), now));
        effects
    }

    pub fn output_ended(&mut self, now: Instant) -> Effects {
        self.output_ended = true;
        if self.exit.is_some() {
            return self.gone(now);
        }
        match self.phase {
            Phase::Terminating(_) | Phase::Gone | Phase::Stopping { .. } | Phase::Lingering => Effects::new(),
            // Most likely it has died, and its exit status will come. If not, it is
            // useless without its output.
            _ => {
                self.drain_until = Some(now + Self::DRAIN_TIME);
                Effects::new()
            }
        }
    }

    pub fn exited(&mut self, exit: ExitReason, now: Instant) -> Effects {
        self.exit = Some(exit);
        if self.output_ended {
            return self.gone(now);
        }
        self.drain_until = Some(now + Self::DRAIN_TIME);
        Effects::new()
    }

    fn ready(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::new();
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Starting { .. } => {
                self.was_ready = true;
                effects.push(Effect::Ready);
            }
            Phase::Finishing { .. } => effects.push(self.idle()),
            Phase::Running(running) if running.failure.is_some() => {
                effects.push(finished(running.answer_failure(None, now)));
                effects.push(self.idle());
            }
            other => {
                self.phase = other;
                return match self.phase {
                    Phase::Idle | Phase::Running(_) => self.unexpected("READY", now),
                    _ => Effects::new(),
                };
            }
        }
        if let Some(ending) = self.ending.clone() {
            // It got a signal after its hook had ended, and will die of that.
            effects.retain(|effect| !matches!(effect, Effect::Report(WorkerEvent::Idle { .. })));
            effects.extend(self.terminate(ending, now));
            return effects;
        }
        self.schedule_health(now);
        effects
    }

    fn idle(&self) -> Effect {
        Effect::Report(WorkerEvent::Idle { keeps_processes: self.keeper })
    }

    fn finish(&mut self, outcome: Result<Value, HookError>, now: Instant) -> Effects {
        let give_up_at = now + self.limits.health_timeout.get();
        match std::mem::replace(&mut self.phase, Phase::Finishing { give_up_at }) {
            Phase::Running(running) if running.failure.is_none() && running.accepted_at.is_some() => {
                vec![finished(running.answer(outcome, now))]
            }
            other => {
                self.phase = other;
                self.unexpected("OK", now)
            }
        }
    }

    fn traceback(&mut self, text: String, now: Instant) -> Effects {
        let give_up_at = now + self.limits.health_timeout.get();
        match std::mem::replace(&mut self.phase, Phase::Finishing { give_up_at }) {
            Phase::Running(running) if running.failure.is_some() => {
                vec![finished(running.answer_failure(Some(text), now))]
            }
            // The traceback of a FATAL, for example, goes to the log.
            other => {
                self.phase = other;
                vec![Effect::observe(Event::WorkerLog { worker: self.id, line: text })]
            }
        }
    }

    fn fatal(&mut self, failure: &Failure<String>) -> Effects {
        let reason = format!("the worker gave up: {failure}");
        let ending = if self.was_ready {
            Ending::Crashed(reason.clone())
        } else {
            Ending::StartFailed { reason: reason.clone(), lasting: false }
        };
        self.ending.get_or_insert(ending);
        vec![Effect::observe(Event::WorkerLog { worker: self.id, line: reason })]
    }

    fn unexpected(&mut self, kind: &str, now: Instant) -> Effects {
        match self.phase {
            // It is ending anyway.
            Phase::Terminating(_) | Phase::Gone | Phase::Stopping { .. } | Phase::Lingering => Effects::new(),
            _ => self.violation(&format!("unexpected {kind}"), now),
        }
    }

    fn pong(&mut self, token: &str, now: Instant) -> Effects {
        if let Health::DueAt { token: expected, .. } = self.health
            && token == expected.to_string()
        {
            self.schedule_health(now);
        }
        Effects::new()
    }
}
