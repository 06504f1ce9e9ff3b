//! Timeouts and health checks.

use std::time::Duration;

use hookd_protocol::Action;
use tokio::time::Instant;

use super::{Effect, Effects, Machine, Phase};
use crate::event::Event;
use crate::response::Isolation;
use crate::worker::message::Ending;

/// The state of the health checks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Health {
    Off,
    AskAt(Instant),
    DueAt { token: u64, at: Instant },
}

impl Machine {
    /// When to call [`Machine::tick`], if no event comes before.
    pub fn next_at(&self) -> Option<Instant> {
        if self.suspended_at.is_some() && self.exit.is_none() && !self.output_ended {
            return None;
        }
        let phase = match &self.phase {
            Phase::Starting { give_up_at } | Phase::Finishing { give_up_at } | Phase::Stopping { give_up_at } => {
                Some(*give_up_at)
            }
            Phase::Running(running) => running.next_at(),
            Phase::Terminating(termination) => termination.next_at(),
            Phase::Idle | Phase::Lingering | Phase::Gone => None,
        };
        let health = match self.health {
            Health::Off => None,
            Health::AskAt(at) | Health::DueAt { at, .. } => Some(at),
        };
        [phase, health, self.drain_until].into_iter().flatten().min()
    }

    pub fn tick(&mut self, now: Instant) -> Effects {
        if self.drain_until.is_some_and(|until| until <= now) {
            self.drain_until = None;
            return if self.exit.is_some() {
                self.gone(now)
            } else {
                let reason = "the worker closed its output".to_owned();
                let ending = if self.was_ready {
                    Ending::Crashed(reason)
                } else {
                    Ending::StartFailed { reason, lasting: false }
                };
                self.terminate(ending, now)
            };
        }
        let due = |at: Instant| at <= now;
        match &mut self.phase {
            Phase::Starting { give_up_at } if due(*give_up_at) => {
                let after = self.limits.startup_timeout.get();
                let reason = format!("the worker was not ready after {after:?}");
                self.terminate(Ending::StartFailed { reason, lasting: false }, now)
            }
            Phase::Running(running) if running.next_at().is_some_and(due) => self.hook_is_due(now),
            Phase::Finishing { give_up_at } if due(*give_up_at) => {
                self.terminate(Ending::Crashed("the worker did not become ready again after a hook".into()), now)
            }
            Phase::Stopping { give_up_at } if due(*give_up_at) => self.terminate(Ending::Planned, now),
            Phase::Terminating(termination) if termination.next_at().is_some_and(due) => {
                termination.advance(now).map_or_else(Effects::new, Self::end_worker)
            }
            _ => self.check_health(now),
        }
    }

    pub(super) fn schedule_health(&mut self, now: Instant) {
        // With isolation `none` the worker does not read while its hook runs.
        let deaf = self.isolation == Isolation::None && matches!(self.phase, Phase::Running(_));
        self.health = match self.limits.health_interval {
            Some(interval) if !deaf => Health::AskAt(now + interval.get()),
            _ => Health::Off,
        };
    }

    fn check_health(&mut self, now: Instant) -> Effects {
        match self.health {
            Health::AskAt(at) if at <= now => {
                let token = self.next_token;
                self.next_token += 1;
                self.health = Health::DueAt { token, at: now + self.limits.health_timeout.get() };
                vec![Effect::Write(Action::Ping(token.to_string()).encode())]
            }
            Health::DueAt { at, token } if at <= now => {
                // If this process did not run for long, neither did the worker,
                // which gets more time.
                if now - at > Duration::from_secs(1) {
                    self.health = Health::DueAt { token, at: now + self.limits.health_timeout.get() };
                    return Effects::new();
                }
                let mut effects = vec![Effect::observe(Event::HealthCheckFailed { worker: self.id })];
                let after = self.limits.health_timeout.get();
                effects.extend(
                    self.terminate(Ending::Crashed(format!("no answer to a health check within {after:?}")), now),
                );
                effects
            }
            _ => Effects::new(),
        }
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        match &mut self.phase {
            Phase::Starting { give_up_at } | Phase::Finishing { give_up_at } | Phase::Stopping { give_up_at } => {
                *give_up_at += by;
            }
            Phase::Running(running) => {
                if let Some(deadline) = &mut running.deadline {
                    *deadline += by;
                }
                if let Some((_, termination)) = &mut running.ending {
                    termination.postpone(by);
                }
            }
            Phase::Terminating(termination) => termination.postpone(by),
            Phase::Idle | Phase::Lingering | Phase::Gone => {}
        }
        match &mut self.health {
            Health::Off => {}
            Health::AskAt(at) | Health::DueAt { at, .. } => *at += by,
        }
    }
}
