//! Programs besides hooks, such as installers.
//!
//! Each runs under a guard, `hookd --guard`, which adopts the processes that the
//! program starts. The guard kills them when the program ends, and when its own
//! input ends: a pipe that only this process holds open. Programs that start no
//! others need none.

mod guarded;
mod unguarded;

pub use unguarded::run_unguarded;
pub(crate) use unguarded::run_unguarded_by;

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::{broadcast, oneshot, watch};

use crate::blocking::unblock;
use crate::caller::CallerProcess;
use crate::error::ExitReason;
use crate::hookd::WorkerProgram;
use crate::limits::{Limits, Timeout};
use crate::process::Spawner;
use crate::shutdown::Shutdown;
use crate::worker::message::Acknowledgement;

/// The exit and the output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramOutput {
    /// How it ended.
    pub exit: ExitReason,
    /// The last MiB that it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The last MiB that it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl ProgramOutput {
    /// Whether it exited with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.exit == ExitReason::ExitCode(0)
    }
}

/// Why a program has no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The system could not start it, or its guard.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It exceeded its time limit, and was killed with all that it started.
    #[error("{program} ran longer than its limit of {:?}", limit.get())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The time limit.
        limit: Timeout,
        /// Its output until then.
        output: ProgramOutput,
    },
    /// The supervisor is ending.
    #[error("the supervisor was ended")]
    Interrupted,
}

/// A message to all programs that run.
#[derive(Clone, Debug)]
enum Pause {
    /// Stop. Each task drops its clone when it has sent the signal.
    Suspend {
        _told: Acknowledgement,
    },
    Resume,
}

/// The programs of a supervisor.
#[derive(Debug)]
pub(crate) struct Programs {
    pub spawner: Spawner,
    /// The interpreter, and hookd.
    pub guard: (PathBuf, WorkerProgram),
    limits: watch::Receiver<Limits>,
    shutdown: watch::Sender<Shutdown>,
    pauses: broadcast::Sender<Pause>,
    /// Each program's task holds a receiver.
    running: watch::Sender<()>,
}

impl Programs {
    /// A task that is slow to receive misses older messages, but gets the last.
    const PAUSES: usize = 4;

    pub fn new(spawner: Spawner, guard: (PathBuf, WorkerProgram), limits: watch::Receiver<Limits>) -> Self {
        Self {
            spawner,
            guard,
            limits,
            shutdown: watch::Sender::new(Shutdown::NotBegun),
            pauses: broadcast::Sender::new(Self::PAUSES),
            running: watch::Sender::new(()),
        }
    }

    /// Runs a program to its end. When the future is dropped, the program is
    /// killed with all that it started; [`Programs::finished`] waits for that.
    pub async fn run(
        &self,
        command: Command,
        caller: Option<Arc<CallerProcess>>,
        limit: Option<Timeout>,
        kept: Box<dyn Send>,
    ) -> Result<ProgramOutput, ProgramError> {
        let shutdown = self.shutdown.subscribe();
        let is_running = self.running.subscribe();
        if *shutdown.borrow() != Shutdown::NotBegun {
            return Err(ProgramError::Interrupted);
        }
        let (reply, answer) = oneshot::channel();
        let guarded = self.guarded(&command, caller.as_deref());
        let program = PathBuf::from(command.get_program());
        let (spawner, pauses) = (self.spawner.clone(), self.pauses.subscribe());
        let grace_period = self.limits.borrow().grace_period;
        let hookd = self.guard.1.clone();
        tokio::spawn(async move {
            // If this fails, the guard fails and tells why.
            let _ = unblock(move || hookd.mend()).await;
            let clock = guarded::Clock::new(limit);
            let run = guarded::GuardedProgram { spawner, caller, grace_period, shutdown, pauses, reply, kept, clock };
            run.finish(guarded, program).await;
            drop(is_running);
        });
        // A task that ends without an answer was dropped with its runtime.
        answer.await.unwrap_or(Err(ProgramError::Interrupted))
    }

    /// Runs a program that starts no others and ends soon. When the future is dropped,
    /// it is killed.
    pub async fn run_unguarded(
        &self,
        command: &Command,
        caller: Option<&CallerProcess>,
        limit: Option<Timeout>,
    ) -> Result<ProgramOutput, ProgramError> {
        /// For a program that ends soon.
        const LONGEST: Timeout = Timeout::from_secs(60 * 60);
        let limit = limit.unwrap_or(LONGEST);
        let mut shutdown = self.shutdown.subscribe();
        let _is_running = self.running.subscribe();
        if *shutdown.borrow() != Shutdown::NotBegun {
            return Err(ProgramError::Interrupted);
        }
        let mut of_caller = Command::new(command.get_program());
        of_caller.args(command.get_args());
        inherit(&mut of_caller, command, caller);
        let unwanted = async {
            // The sender is a field of `self`.
            let _ = shutdown.wait_for(|shutdown| shutdown.ends_hooks()).await;
        };
        run_unguarded_by(&self.spawner, caller, of_caller, limit, unwanted).await
    }

    fn guarded(&self, command: &Command, caller: Option<&CallerProcess>) -> Command {
        let (python, hookd) = &self.guard;
        let mut guarded = Command::new(python);
        // Isolated, and without `site`: the guard imports nothing but hookd. The
        // program still inherits all variables.
        guarded.args(["-I", "-S"]).arg(hookd.path()).arg("--guard").arg(command.get_program()).args(command.get_args());
        inherit(&mut guarded, command, caller);
        guarded.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        guarded
    }

    /// Starts no more programs. Those that run are not ended.
    pub fn drain(&self) {
        self.advance(Shutdown::Draining);
    }

    /// Stops all programs. Each task drops its clone of `told` when it has sent
    /// the signal.
    pub fn suspend(&self, told: Acknowledgement) {
        self.tell(Pause::Suspend { _told: told });
    }

    pub fn resume(&self) {
        self.tell(Pause::Resume);
    }

    fn tell(&self, pause: Pause) {
        // An error means that no program runs.
        let _ = self.pauses.send(pause);
    }

    pub fn interrupt(&self, signal: Signal) {
        self.advance(Shutdown::Interrupted(signal));
    }

    pub fn terminate(&self) {
        self.advance(Shutdown::Terminated);
    }

    fn advance(&self, next: Shutdown) {
        self.shutdown.send_if_modified(|shutdown| shutdown.advance(next));
    }

    /// Waits until they are told to end.
    pub async fn interrupted(&self) {
        // The sender is a field of `self`.
        let _ = self.shutdown.subscribe().wait_for(|shutdown| shutdown.ends_hooks()).await;
    }

    /// Waits until no program runs.
    pub async fn finished(&self) {
        self.running.closed().await;
    }
}

/// Gives a command the variables and the folder of another one: those of `caller`, with what
/// that changes.
fn inherit(command: &mut Command, other: &Command, caller: Option<&CallerProcess>) {
    if let Some(caller) = caller {
        command.env_clear().envs(&caller.variables);
    }
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = other.get_current_dir() {
        command.current_dir(folder);
    }
}
