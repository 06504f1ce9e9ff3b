//! The handle of a supervisor.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

use crate::builder::Builder;
use crate::dispatch::message::{Command, Submission};
use crate::error::ErrorKind;
use crate::interpreter::{Interpreter, InterpreterError, Interpreters, KnownInterpreter};
use crate::limits::Timeout;
use crate::programs::{ProgramError, ProgramOutput, Programs};
use crate::request::{HookRequest, RequestId};
use crate::response::Response;
use crate::template::Templates;
use crate::ticket::{Ticket, UnreadResponse};
use crate::tree::tree_path;
use crate::worker::capture_files::CaptureFiles;

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many requests as [`Limits::queue_size`](crate::Limits::queue_size)
    /// allows are unanswered.
    #[error("{limit} requests are unanswered, which is the limit")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The supervisor is ending.
    #[error("the supervisor is ending and admits nothing more")]
    Closed,
}

impl SubmitError {
    /// The kind of error that a response would have.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::QueueFull { .. } => ErrorKind::QueueFull,
            Self::Closed => ErrorKind::Interrupted,
        }
    }
}

/// A signal that ends a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSignal {
    /// SIGINT, the terminal's Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Runs hooks through pools of workers. Cheap to clone; all clones are the same
/// supervisor.
///
/// When the last one is dropped, what was admitted is still answered, then
/// the workers end.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(crate) services: Arc<Services>,
}

#[derive(Debug)]
pub(crate) struct Services {
    pub commands: async_channel::Sender<Command>,
    pub cancellations: mpsc::UnboundedSender<RequestId>,
    /// One place for each request that may be unanswered.
    pub places: Arc<Semaphore>,
    pub queue_size: usize,
    pub next_id: AtomicU64,
    pub finished: watch::Receiver<bool>,
    pub templates: Templates,
    pub programs: Programs,
    pub interpreters: Interpreters,
    pub default_python: PathBuf,
    pub startup_timeout: Timeout,
}

impl Supervisor {
    /// A supervisor to be.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Admits a request; waits while the queue is full.
    ///
    /// A tree that does not exist is no error here: the ticket resolves with
    /// it.
    ///
    /// # Errors
    /// [`SubmitError::Closed`].
    pub async fn submit(&self, request: HookRequest) -> Result<Ticket, SubmitError> {
        let place = self.services.places.clone().acquire_owned().await.map_err(|_| SubmitError::Closed)?;
        let (ticket, submission) = self.prepare(request, place);
        if let Some(submission) = submission {
            self.services.commands.send(Command::Submit(submission)).await.map_err(|_| SubmitError::Closed)?;
        }
        Ok(ticket)
    }

    /// Admits a request if the queue has a place.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] and [`SubmitError::Closed`].
    pub fn try_submit(&self, request: HookRequest) -> Result<Ticket, SubmitError> {
        let limit = self.services.queue_size;
        let place = self.services.places.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => SubmitError::QueueFull { limit },
            TryAcquireError::Closed => SubmitError::Closed,
        })?;
        let (ticket, submission) = self.prepare(request, place);
        if let Some(submission) = submission {
            self.services.commands.try_send(Command::Submit(submission)).map_err(|error| match error {
                // Tickets that were dropped leave their places before the
                // dispatcher has seen their requests.
                async_channel::TrySendError::Full(_) => SubmitError::QueueFull { limit },
                async_channel::TrySendError::Closed(_) => SubmitError::Closed,
            })?;
        }
        Ok(ticket)
    }

    /// The ticket of a request, and what the dispatcher gets; nothing where the
    /// answer is clear already.
    fn prepare(&self, request: HookRequest, place: OwnedSemaphorePermit) -> (Ticket, Option<Box<Submission>>) {
        let id = RequestId(self.services.next_id.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket {
            id,
            tree: request.tree.clone(),
            hook: request.hook,
            reply: answer,
            cancellations: self.services.cancellations.clone(),
            settled: false,
            _place: place,
        };
        match tree_path(&request.tree) {
            Ok(path) => (ticket, Some(Box::new(Submission { id, request, path, reply }))),
            Err(error) => {
                let response = Response::failed(id, request.tree, request.hook, error);
                // The receiver is in the ticket above.
                let _ = reply.send(UnreadResponse { response, files: CaptureFiles::default() });
                (ticket, None)
            }
        }
    }

    /// Asks an interpreter, a path or a name on PATH, who it is; without one,
    /// the interpreter of requests that name none. The answer is remembered
    /// until the interpreter's environment changes.
    ///
    /// # Errors
    /// [`InterpreterError`].
    pub async fn interpreter(&self, python: Option<&Path>) -> Result<Arc<KnownInterpreter>, Arc<InterpreterError>> {
        let python = python.unwrap_or(&self.services.default_python);
        let (spawner, timeout) = (&self.services.programs.spawner, self.services.startup_timeout);
        self.services.interpreters.get(spawner, python, timeout).await
    }

    /// Believes what an interpreter has answered to [`Supervisor::interpreter`]
    /// in an earlier process, so that it need not be asked again. `asked_at` is
    /// a time after the answer: where something that the answer depends on was
    /// changed since, the interpreter is asked all the same, as it is once that
    /// changes. Blocks, as looking at files does.
    pub fn introduce(&self, python: &Path, answer: Interpreter, asked_at: SystemTime) {
        self.services.interpreters.introduce(python, answer, asked_at);
    }

    /// Runs a program to its end, with nothing to read and what it writes
    /// returned. Its settings of the standard streams are not looked at.
    ///
    /// What it starts ends with it. When the future is dropped, or the
    /// supervisor ends, or this process dies, the program is killed with all
    /// its descendants. [`Supervisor::interrupt`] sends it the signal and gives
    /// it the grace period; [`Supervisor::drain`] waits for it. A program that
    /// does not exist exits with code 127 and says so.
    ///
    /// It may run for as long as `limit` says, not counting the time for which
    /// [`Supervisor::suspend`] has it stopped; then it is killed.
    ///
    /// `kept` is what it needs, such as a folder for its temporary files: it is
    /// dropped, on a thread of the runtime's for blocking work, when nothing of
    /// the program is left; before this returns, if it is still waited for.
    ///
    /// # Errors
    /// [`ProgramError`]: it could not be started, was ended by us, or took too long.
    pub async fn run_program(
        &self,
        command: std::process::Command,
        limit: Option<Timeout>,
        kept: impl Send + 'static,
    ) -> Result<ProgramOutput, ProgramError> {
        self.services.programs.run(command, limit, Box::new(kept)).await
    }

    /// Waits until [`Supervisor::interrupt`] or [`Supervisor::terminate`] is
    /// called: for whoever waits for something else on the supervisor's behalf.
    pub async fn interrupted(&self) {
        self.services.programs.interrupted().await;
    }

    /// Waits until the templates have imported what hooks imported so far, so
    /// that the next hooks find it ready. No hook needs that; comparisons and
    /// measurements do.
    pub async fn settled(&self) {
        self.services.templates.settled().await;
    }

    /// Replaces every worker; no request is lost. What SIGHUP asks for.
    pub async fn recycle(&self) {
        self.command(Command::Recycle).await;
    }

    /// Stops the processes of all running hooks and programs (SIGSTOP) and
    /// starts no others; returns once all have been told. Deadlines do not run.
    pub async fn suspend(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (told, mut all_told) = mpsc::channel(1);
        self.services.programs.suspend(told.clone());
        self.command(Command::Suspend { told }).await;
        // Nothing is ever sent: the channel ends when all clones are dropped. A
        // worker that does not read does not keep the others from stopping.
        let _ = tokio::time::timeout(PATIENCE, all_told.recv()).await;
    }

    /// Goes on after [`Supervisor::suspend`].
    pub async fn resume(&self) {
        self.services.programs.resume();
        self.command(Command::Resume).await;
    }

    /// Ends everything in good order: admits nothing more, sends `signal` to
    /// the running hooks, answers all requests with
    /// [`ErrorKind::Interrupted`], and kills after the grace period what has
    /// not ended.
    pub async fn interrupt(&self, signal: EndSignal) {
        self.services.places.close();
        let signal = match signal {
            EndSignal::Interrupt => Signal::SIGINT,
            EndSignal::Terminate => Signal::SIGTERM,
        };
        self.services.programs.interrupt(signal);
        self.command(Command::Interrupt(signal)).await;
    }

    /// Ends everything now.
    pub async fn terminate(&self) {
        self.services.places.close();
        self.services.programs.terminate();
        self.command(Command::Terminate).await;
    }

    /// Admits nothing more, and waits until everything is answered and no
    /// process of the supervisor is left.
    pub async fn drain(&self) {
        self.services.places.close();
        self.services.programs.drain();
        self.command(Command::Drain).await;
        self.finished().await;
    }

    /// Waits until the supervisor has ended, for whatever reason, and the
    /// programs that it ran.
    pub async fn finished(&self) {
        let mut finished = self.services.finished.clone();
        // The sender is dropped by a dispatcher that has ended.
        let _ = finished.wait_for(|finished| *finished).await;
        self.services.programs.finished().await;
    }

    async fn command(&self, command: Command) {
        // A dispatcher that is gone has nothing left to be told.
        let _ = self.services.commands.send(command).await;
    }
}
