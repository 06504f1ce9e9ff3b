//! All decisions about a worker, without I/O.
//!
//! The machine is told events and returns effects. It never waits and never
//! touches a process, so the whole table is tested without processes.

mod commands;
mod ending;
mod messages;
mod running;
mod time;

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::time::Duration;

use hookd_protocol::{ImportedModule, ShadowedModule};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use self::running::Running;
use self::time::Health;
use super::message::{Ending, Finished, WorkerEvent};
use crate::error::ExitReason;
use crate::event::Event;
use crate::ids::WorkerId;
use crate::limits::Limits;
use crate::process::Termination;
use crate::response::Isolation;

/// An action that the machine has decided on.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Write this to the worker.
    Write(Vec<u8>),
    /// Close the worker's input.
    CloseInput,
    /// Send this signal to the worker itself.
    SignalWorker(Signal),
    /// Send this signal to the process group that the worker leads. With
    /// isolation `hook` the worker is alone in it.
    SignalGroup(Signal),
    /// The worker became ready.
    Ready,
    /// The hook imported these modules.
    Imported(Vec<ImportedModule>),
    /// The hook would have imported these from elsewhere.
    Shadowed(Vec<ShadowedModule>),
    /// The request has its answer. Its capture files are still the worker's.
    Finished(Box<Finished>),
    /// Tell the dispatcher.
    Report(WorkerEvent),
    /// The worker is gone.
    Gone(Ending),
}

impl Effect {
    pub fn observe(event: Event) -> Self {
        Self::Report(WorkerEvent::Observed(event))
    }
}

/// The phase of a worker's life.
#[derive(Debug)]
enum Phase {
    Starting {
        give_up_at: Instant,
    },
    Idle,
    Running(Box<Running>),
    /// The answer was given. The worker cleans up and will be ready again.
    Finishing {
        give_up_at: Instant,
    },
    /// It was told to shut down.
    Stopping {
        give_up_at: Instant,
    },
    Lingering,
    /// It is being ended, with everything that it started.
    Terminating(Termination),
    /// It was waited for.
    Gone,
}

pub(crate) struct Machine {
    id: WorkerId,
    isolation: Isolation,
    limits: Limits,
    phase: Phase,
    health: Health,
    next_token: u64,
    suspended_at: Option<Instant>,
    /// The worker has reported processes that outlive its hooks, since its last
    /// lease or when it was stopped.
    keeper: bool,
    /// Why it is ending, once that is known.
    ending: Option<Ending>,
    was_ready: bool,
    exit: Option<ExitReason>,
    output_ended: bool,
    /// Until when the rest of the output is read after the exit.
    drain_until: Option<Instant>,
}

type Effects = Vec<Effect>;

impl Machine {
    /// How long the output of a dead worker is read. All that it wrote is in the
    /// pipe; only a descendant that holds the pipe delays its end.
    const DRAIN_TIME: Duration = Duration::from_secs(1);

    pub fn new(id: WorkerId, isolation: Isolation, limits: Limits, now: Instant) -> Self {
        let give_up_at = now + limits.startup_timeout.get();
        Self {
            id,
            isolation,
            limits,
            phase: Phase::Starting { give_up_at },
            health: Health::Off,
            next_token: 1,
            suspended_at: None,
            keeper: false,
            ending: None,
            was_ready: false,
            exit: None,
            output_ended: false,
            drain_until: None,
        }
    }

    /// Sets the limits for the next hook. They may have been changed since the last.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The memory limit of the running hook, if there is one.
    pub fn hook_memory_limit(&self) -> Option<NonZeroU64> {
        match &self.phase {
            Phase::Running(running) if running.accepted_at.is_some() => self.limits.hook_memory_limit,
            _ => None,
        }
    }

    /// Whether lines that are not messages are expected: interpreters may print
    /// something while they start (`sitecustomize`, `.pth` files).
    pub fn tolerates_noise(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }
}

fn finished(finished: Finished) -> Effect {
    Effect::Finished(Box::new(finished))
}
