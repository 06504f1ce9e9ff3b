//! The handle of a supervisor, which is the API of this library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use tokio::sync::{TryAcquireError, mpsc, oneshot, watch};

use crate::builder::Builder;
use crate::caller::CallerProcess;
use crate::dispatch::message::{Command, Submission};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::ids::RequestId;
use crate::interpreter::{Interpreter, InterpreterError, Interpreters, KnownInterpreter};
use crate::limits::{Limits, LimitsChange, LimitsError, Timeout};
use crate::programs::{ProgramError, ProgramOutput, Programs};
use crate::request::HookRequest;
use crate::response::Response;
use crate::selection::{Restarted, Selection};
use crate::semaphore::{Permit, ResizableSemaphore};
use crate::snapshot::Snapshot;
use crate::subscription::{Events, Subscribers};
use crate::template::Templates;
use crate::ticket::{Ticket, UnreadResponse};
use crate::tree::tree_path;
use crate::worker::capture_files::CaptureFiles;

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// [`Limits::queue_size`](crate::Limits::queue_size) requests are
    /// unanswered.
    #[error("{limit} requests are unanswered, which is the limit")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The supervisor is ending.
    #[error("the supervisor is ending and admits no more requests")]
    Closed,
}

impl SubmitError {
    /// The corresponding kind of an error in a response.
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

/// Runs hooks in pools of workers. Cheap to clone; all clones are handles of the
/// same supervisor.
///
/// When the last clone is dropped, the admitted requests are still answered;
/// then the workers end.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(crate) services: Arc<Services>,
}

#[derive(Debug)]
pub(crate) struct Services {
    pub commands: async_channel::Sender<Command>,
    pub cancellations: mpsc::UnboundedSender<RequestId>,
    /// One permit for each request that may be unanswered.
    pub subscribers: Arc<Subscribers>,
    pub places: Arc<ResizableSemaphore>,
    pub next_id: AtomicU64,
    pub finished: watch::Receiver<bool>,
    pub templates: Arc<Templates>,
    pub programs: Programs,
    pub interpreters: Interpreters,
    pub default_python: PathBuf,
    pub startup_timeout: Timeout,
}

impl Supervisor {
    /// The settings of a new supervisor.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Admits a request; waits while the queue is full. A tree that does not
    /// exist is an error in the response, not here.
    ///
    /// # Errors
    /// [`SubmitError::Closed`].
    pub async fn submit(&self, request: HookRequest) -> Result<Ticket, SubmitError> {
        let place = self.services.places.acquire().await.map_err(|_| SubmitError::Closed)?;
        let (ticket, submission) = self.prepare(request, place);
        if let Some(submission) = submission {
            self.services.commands.send(Command::Submit(submission)).await.map_err(|_| SubmitError::Closed)?;
        }
        Ok(ticket)
    }

    /// Admits a request unless the queue is full.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] and [`SubmitError::Closed`].
    pub fn try_submit(&self, request: HookRequest) -> Result<Ticket, SubmitError> {
        let limit = self.services.places.limit();
        let place = self.services.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits => SubmitError::QueueFull { limit },
            TryAcquireError::Closed => SubmitError::Closed,
        })?;
        let (ticket, submission) = self.prepare(request, place);
        if let Some(submission) = submission {
            self.services.commands.try_send(Command::Submit(submission)).map_err(|error| match error {
                // A dropped ticket frees its place before the dispatcher has
                // received its request.
                async_channel::TrySendError::Full(_) => SubmitError::QueueFull { limit },
                async_channel::TrySendError::Closed(_) => SubmitError::Closed,
            })?;
        }
        Ok(ticket)
    }

    /// The ticket of a request, and the message to the dispatcher. There is no
    /// message if the request has already failed.
    fn prepare(&self, request: HookRequest, place: Permit) -> (Ticket, Option<Box<Submission>>) {
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

    /// Queries an interpreter, by its path or its name on PATH. `None` is the
    /// interpreter of [`Builder::interpreter`]. The answer is cached until the
    /// interpreter's environment changes.
    ///
    /// # Errors
    /// [`InterpreterError`].
    pub async fn interpreter(&self, python: Option<&Path>) -> Result<Arc<KnownInterpreter>, Arc<InterpreterError>> {
        let python = python.unwrap_or(&self.services.default_python);
        let (spawner, timeout) = (&self.services.programs.spawner, self.services.startup_timeout);
        self.services.interpreters.get(spawner, python, timeout).await
    }

    /// Caches the answer that an interpreter has given to
    /// [`Supervisor::interpreter`] in an earlier process, at `asked_at` or
    /// before. If a file that the answer depends on has changed since, it is not
    /// used. Blocks on files.
    pub fn introduce(&self, python: &Path, answer: Interpreter, asked_at: SystemTime) {
        self.services.interpreters.introduce(python, answer, asked_at);
    }

    /// Runs a program to its end, without input, and returns its output. The
    /// command's own settings of the standard streams are ignored.
    ///
    /// The processes that it starts end with it. When the future is dropped, or
    /// the supervisor ends, or this process dies, the program is killed with all
    /// its descendants. [`Supervisor::interrupt`] sends it the signal and gives
    /// it the grace period; [`Supervisor::drain`] waits for it. A program that
    /// does not exist has exit code 127 and a message on standard error.
    ///
    /// It inherits the variables, the umask and the limits of `caller`; `None`: of
    /// this process. The variables that the command sets and removes are changes of
    /// these. (Nobody can see whether a command was told to begin with none, so
    /// that has no effect: for exactly some variables, give a caller with these.)
    ///
    /// It is killed after `limit`, not counting the time for which
    /// [`Supervisor::suspend`] has stopped it.
    ///
    /// `kept` is a value that it needs, such as a temporary folder. It is
    /// dropped, on one of the runtime's threads for blocking work, when no
    /// process of the program is left, and before this returns.
    ///
    /// # Errors
    /// [`ProgramError`]: it could not be started, was ended, or took too long.
    pub async fn run_program(
        &self,
        command: std::process::Command,
        caller: Option<Arc<CallerProcess>>,
        limit: Option<Timeout>,
        kept: impl Send + 'static,
    ) -> Result<ProgramOutput, ProgramError> {
        self.services.programs.run(command, caller, limit, Box::new(kept)).await
    }

    /// The same for a program that starts no others and ends soon: nothing else is started
    /// to watch it. [`Supervisor::interrupt`] kills it, and [`Supervisor::suspend`] does
    /// not stop it. The first MiB of its output is returned. Without a limit, it has an hour.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn run_unguarded_program(
        &self,
        command: &std::process::Command,
        caller: Option<&CallerProcess>,
        limit: Option<Timeout>,
    ) -> Result<ProgramOutput, ProgramError> {
        self.services.programs.run_unguarded(command, caller, limit).await
    }

    /// Waits until [`Supervisor::interrupt`] or [`Supervisor::terminate`] is
    /// called.
    pub async fn interrupted(&self) {
        self.services.programs.interrupted().await;
    }

    /// What the supervisor has and does at this moment. `None` once it has ended.
    ///
    /// It costs the dispatcher a pass over all requests and workers, some
    /// microseconds for a hundred.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Command::Snapshot).await.map(|snapshot| *snapshot)
    }

    /// Subscribes to the events that `wants` accepts, from now on. See
    /// [`Builder::subscribe`].
    #[must_use]
    pub fn subscribe(&self, wants: impl Fn(&Event) -> bool + Send + 'static) -> Events {
        self.services.subscribers.add(wants)
    }

    /// Changes limits, and returns those that are in force then. No request is
    /// lost: hooks beyond a lower limit run to their end, and requests that a higher
    /// one has room for start at once.
    ///
    /// # Errors
    /// [`LimitsError`]: nothing was changed.
    pub async fn change_limits(&self, change: LimitsChange) -> Result<Limits, LimitsError> {
        self.ask(|reply| Command::ChangeLimits { change, reply }).await.unwrap_or(Err(LimitsError::Ended))
    }

    /// Waits until the templates have preloaded the modules that hooks have
    /// imported so far. Comparisons and measurements need this; hooks do not.
    pub async fn settled(&self) {
        self.services.templates.settled().await;
    }

    /// Replaces workers and templates: idle ones now, others when their hooks have
    /// ended. No request is lost. [`Selection::All`] is what the program does at
    /// SIGHUP.
    ///
    /// The selected pools get another chance: their backoff and their quarantine are
    /// lifted, and their failures forgotten. (A template has no pools.)
    ///
    /// `None` once the supervisor has ended.
    pub async fn restart(&self, selection: Selection) -> Option<Restarted> {
        let selection = match selection {
            // As the trees of requests. A path that has no absolute form selects none.
            Selection::Tree(path) => Selection::Tree(std::path::absolute(&path).unwrap_or(path)),
            other => other,
        };
        self.ask(|reply| Command::Restart { selection, reply }).await
    }

    /// Ends the templates and workers of an interpreter, named as in requests or in build
    /// environments, because no request is expected to need them: idle ones now, others when
    /// their hooks have ended. A request that comes all the same has new ones started.
    pub async fn retire(&self, python: &Path) {
        self.command(Command::Retire(python.to_owned())).await;
    }

    /// Cancels a request, whoever its caller is: a hook that runs is ended. It is
    /// answered with [`ErrorKind::Cancelled`] and a message that an operator has
    /// cancelled it; the message is another where its caller does so
    /// ([`Ticket::cancel`]).
    ///
    /// Returns whether it was unanswered.
    pub async fn cancel(&self, request: RequestId) -> bool {
        self.ask(|reply| Command::Cancel { request, reply }).await.unwrap_or(false)
    }

    /// Stops the processes of all running hooks and programs (SIGSTOP), and
    /// starts no others. Returns when the signals are sent. Deadlines do not
    /// run meanwhile.
    pub async fn suspend(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (told, mut all_told) = mpsc::channel(1);
        self.services.programs.suspend(told.clone());
        self.command(Command::Suspend { told }).await;
        // Nothing is sent: the channel ends when all clones of the sender are
        // dropped. The timeout is for a worker that does not read.
        let _ = tokio::time::timeout(PATIENCE, all_told.recv()).await;
    }

    /// Continues after [`Supervisor::suspend`].
    pub async fn resume(&self) {
        self.services.programs.resume();
        self.command(Command::Resume).await;
    }

    /// Ends the supervisor: admits no more requests, sends `signal` to running
    /// hooks and programs, kills those that have not ended after the grace
    /// period, and answers all requests with [`ErrorKind::Interrupted`].
    pub async fn interrupt(&self, signal: EndSignal) {
        self.services.places.close();
        let signal = match signal {
            EndSignal::Interrupt => Signal::SIGINT,
            EndSignal::Terminate => Signal::SIGTERM,
        };
        self.services.programs.interrupt(signal);
        self.command(Command::Interrupt(signal)).await;
    }

    /// Ends the supervisor, and kills what runs.
    pub async fn terminate(&self) {
        self.services.places.close();
        self.services.programs.terminate();
        self.command(Command::Terminate).await;
    }

    /// Admits no more requests, and waits until all are answered and no process
    /// of the supervisor is left.
    pub async fn drain(&self) {
        self.services.places.close();
        self.services.programs.drain();
        self.command(Command::Drain).await;
        self.finished().await;
    }

    /// Waits until the supervisor and its programs have ended, for whatever
    /// reason.
    pub async fn finished(&self) {
        let mut finished = self.services.finished.clone();
        // An error means that the dispatcher has ended.
        let _ = finished.wait_for(|finished| *finished).await;
        self.services.programs.finished().await;
    }

    /// Sends a command that the dispatcher answers. `None` once it has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.services.commands.send(command(reply)).await.ok()?;
        let mut finished = self.services.finished.clone();
        tokio::select! {
            biased;
            answer = answer => answer.ok(),
            // A command that came too late stays in the channel.
            _ = finished.wait_for(|finished| *finished) => None,
        }
    }

    async fn command(&self, command: Command) {
        // An error means that the dispatcher has ended.
        let _ = self.services.commands.send(command).await;
    }
}
