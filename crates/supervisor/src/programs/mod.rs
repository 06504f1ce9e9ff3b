//! Programs that are run to their end beside the hooks, such as installers.
//!
//! Each runs under a guard, `hookd --guard`, which adopts what the program
//! starts and kills all of it at the program's end, at the end of our interest,
//! and at our own: the guard's standard input is a pipe that only this process
//! holds open.

mod guarded;
mod unguarded;

pub use unguarded::run_unguarded;
pub(crate) use unguarded::run_unguarded_by;

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tokio::sync::{broadcast, oneshot, watch};

use crate::blocking::unblock;
use crate::error::ExitReason;
use crate::hookd::WorkerProgram;
use crate::limits::Timeout;
use crate::process::Spawner;
use crate::shutdown::Shutdown;
use crate::worker::message::Acknowledgement;

/// What a program that has ended leaves.
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
    /// It ran for longer than it may, and was killed, with all that it started.
    #[error("{program} ran longer than its limit of {:?}", limit.get())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// How long it may run.
        limit: Timeout,
        /// What it wrote until then.
        output: ProgramOutput,
    },
    /// The supervisor was told to end, or ends.
    #[error("the supervisor was ended")]
    Interrupted,
}

/// What all programs are told while they run.
#[derive(Clone, Debug)]
enum Pause {
    /// To stop; each drops this when it was told.
    Suspend {
        _told: Acknowledgement,
    },
    Resume,
}

/// What a program needs, such as a folder, until nothing of it is left.
pub(crate) type Kept = Box<dyn Send>;

/// Starts the programs of one supervisor and knows which still run.
#[derive(Debug)]
pub(crate) struct Programs {
    pub spawner: Spawner,
    /// The interpreter, and hookd.
    pub guard: (PathBuf, WorkerProgram),
    pub grace_period: Option<Timeout>,
    shutdown: watch::Sender<Shutdown>,
    pauses: broadcast::Sender<Pause>,
    /// Each program's task holds a receiver: it ends when all are dropped.
    running: watch::Sender<()>,
}

impl Programs {
    /// A program that does not heed so many misses the first, and has the last.
    const PAUSES: usize = 4;

    pub fn new(spawner: Spawner, guard: (PathBuf, WorkerProgram), grace_period: Option<Timeout>) -> Self {
        Self {
            spawner,
            guard,
            grace_period,
            shutdown: watch::Sender::new(Shutdown::NotBegun),
            pauses: broadcast::Sender::new(Self::PAUSES),
            running: watch::Sender::new(()),
        }
    }

    /// Runs the program to its end. When the future is dropped, the program is
    /// killed, with all that it started; [`Programs::finished`] waits for that.
    pub async fn run(
        &self,
        command: Command,
        limit: Option<Timeout>,
        kept: Kept,
    ) -> Result<ProgramOutput, ProgramError> {
        let shutdown = self.shutdown.subscribe();
        let is_running = self.running.subscribe();
        if *shutdown.borrow() != Shutdown::NotBegun {
            return Err(ProgramError::Interrupted);
        }
        let (reply, answer) = oneshot::channel();
        let guarded = self.guarded(&command);
        let program = PathBuf::from(command.get_program());
        let (spawner, grace_period, pauses) = (self.spawner.clone(), self.grace_period, self.pauses.subscribe());
        let hookd = self.guard.1.clone();
        tokio::spawn(async move {
            // Where it cannot be mended, the guard's end tells why.
            let _ = unblock(move || hookd.mend()).await;
            let clock = guarded::Clock::new(limit);
            let run = guarded::GuardedProgram { spawner, grace_period, shutdown, pauses, reply, kept, clock };
            run.finish(guarded, program).await;
            drop(is_running);
        });
        // A task that is gone without an answer went with its runtime.
        answer.await.unwrap_or(Err(ProgramError::Interrupted))
    }

    fn guarded(&self, command: &Command) -> Command {
        let (python, hookd) = &self.guard;
        let mut guarded = Command::new(python);
        // Isolated, without `site`: it imports nothing but hookd. The program
        // inherits the variables all the same.
        guarded.args(["-I", "-S"]).arg(hookd.path()).arg("--guard").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guarded.current_dir(folder);
        }
        guarded.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        guarded
    }

    /// Starts no others; those that run are waited for.
    pub fn drain(&self) {
        self.advance(Shutdown::Draining);
    }

    /// Has all of them stopped. Those that were told drop `told`.
    pub fn suspend(&self, told: Acknowledgement) {
        self.tell(Pause::Suspend { _told: told });
    }

    pub fn resume(&self) {
        self.tell(Pause::Resume);
    }

    fn tell(&self, pause: Pause) {
        // There may be nobody to tell.
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

    /// Waits until they were told to end.
    pub async fn interrupted(&self) {
        // The sender is right here.
        let _ = self.shutdown.subscribe().wait_for(|shutdown| shutdown.ends_hooks()).await;
    }

    /// Waits until none runs.
    pub async fn finished(&self) {
        self.running.closed().await;
    }
}
