//! Templates: Python processes that hold a backend's imports and fork workers.
//!
//! [`Templates`] finds or starts the template for a worker; the [`selector`]
//! decides which one. Each template has a [`task`], whose [`event_loop`] owns the
//! process. All messages over its [`socket`] are in [`protocol`]. [`learned`] has
//! the modules that templates preload.

mod event_loop;
mod forked_process;
mod learned;
mod protocol;
mod selector;
mod socket;
mod task;
mod templates;
mod variables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::caller::{CallerProcess, Variables};
use crate::ids::TemplateId;
use crate::interpreter::Freshness;

pub(crate) use forked_process::ForkedProcess;
pub(crate) use selector::TemplateKey;
pub(crate) use socket::PacketDescriptors;
pub(crate) use templates::{ForkRequest, TemplateSettings, Templates};

/// The handle of a template, shared by its task and its users.
#[derive(Debug)]
pub(crate) struct Template {
    pub id: TemplateId,
    /// Its environment variables.
    pub variables: Arc<Variables>,
    /// Whether the files that it has imported are unchanged on the disk.
    pub freshness: Freshness,
    /// Unbounded, because no command may be lost. There are few: a fork and a
    /// reap for each worker, and the modules that hooks have imported.
    commands: mpsc::UnboundedSender<TemplateCommand>,
    /// Grows when it is told to learn modules; see [`Template::learned_version`].
    learned_version: AtomicU64,
    /// Whether learned modules remain to be imported.
    is_learning: watch::Sender<bool>,
    ended: AtomicBool,
}

impl Template {
    fn new(id: TemplateId, variables: Arc<Variables>, commands: mpsc::UnboundedSender<TemplateCommand>) -> Self {
        Self {
            id,
            variables,
            freshness: Freshness::default(),
            commands,
            learned_version: AtomicU64::new(0),
            is_learning: watch::Sender::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// A worker that was forked at a lower version lacks modules that another one, forked
    /// now, would have: the template imports what it was told to learn before it forks.
    pub fn learned_version(&self) -> u64 {
        self.learned_version.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Sends a command to its task; without effect if the task has ended.
    fn tell(&self, command: TemplateCommand) {
        let _ = self.commands.send(command);
    }
}

/// A command to a template's task.
#[derive(Debug)]
enum TemplateCommand {
    /// Fork a worker that runs with these arguments.
    Fork {
        arguments: Vec<String>,
        descriptors: PacketDescriptors,
        /// Whether the last descriptor is a file with its environment variables,
        /// which are not those of the template.
        has_variables: bool,
        caller: Option<Arc<CallerProcess>>,
        reply: oneshot::Sender<Result<ForkedProcess, NotForked>>,
    },
    /// Reap this dead worker. The reply is its wait status, once its pid is free
    /// and the processes that it left behind are killed.
    Reap { pid: u32, reply: oneshot::Sender<Option<i32>> },
    /// Import these modules before the next fork: hooks have imported them.
    Learn(Vec<String>),
    /// Fork no more workers, and end after the last one.
    Retire,
}

/// Why a template has not forked a worker.
#[derive(Debug)]
enum NotForked {
    /// The worker's variables differ from the template's in some that modules have
    /// read. The supervisor knows of these by now.
    Differs,
    /// Any other reason.
    Failed(String),
}

/// How the state of the supervisor changes the deadlines of all templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    #[default]
    Normal,
    /// The supervisor is suspended. Deadlines do not run.
    Suspended,
    /// The supervisor shuts down. Deadlines are short.
    Hurried,
    /// Templates end now.
    AtOnce,
}

/// The pace, and for how long it was [`Pace::Suspended`] in all. A template that misses
/// a change, because the process was stopped before its task ran, still knows how long
/// that took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tempo {
    pub pace: Pace,
    suspended: Duration,
    /// When the present suspension began.
    since: Option<Instant>,
}

impl Tempo {
    /// Changes the pace.
    pub fn set(&mut self, pace: Pace, now: Instant) {
        if pace == Pace::Suspended {
            self.since.get_or_insert(now);
        } else {
            self.suspended = self.suspended_until(now);
            self.since = None;
        }
        self.pace = pace;
    }

    /// For how long it was suspended until now.
    pub fn suspended_until(&self, now: Instant) -> Duration {
        self.suspended + self.since.map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspensions_add_up_whoever_looks() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tempo = Tempo::default();
        let mut found = Vec::new();
        for (pace, second) in [
            (Pace::Suspended, 1),
            // A second suspension begins nothing anew.
            (Pace::Suspended, 2),
            (Pace::Normal, 4),
            (Pace::Normal, 5),
            (Pace::Suspended, 6),
            (Pace::Hurried, 10),
        ] {
            tempo.set(pace, at(second));
            found.push(tempo.suspended_until(at(second)).as_secs());
        }
        assert_eq!(found, [0, 1, 3, 3, 3, 7]);
        assert_eq!(tempo.suspended_until(at(20)).as_secs(), 7);
    }
}
