//! The settings of a supervisor, and its start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, watch};

use crate::blocking::{BlockingPool, Progress};
use crate::dispatch::{Dispatcher, Inboxes, Outlets};
use crate::event::Event;
use crate::files::temporary_folder;
use crate::files::{FolderError, private_folder};
use crate::hookd::{UnpackError, WorkerProgram};
use crate::interpreter::{InterpreterError, Interpreters, KeptInterpreters};
use crate::limits::Limits;
use crate::process::open_files::{Capacity, OpenFilesLimit};
use crate::process::{ChildSettings, Spawner, children};
use crate::programs::Programs;
use crate::response::{Isolation, StartMethod};
use crate::semaphore::ResizableSemaphore;
use crate::subscription::{Events, Subscribers};
use crate::supervisor::{Services, Supervisor};
use crate::template::{TemplateSettings, Templates};
use crate::worker::LaunchSettings;
use crate::worker::{WorkerContext, WorkerReport};

/// Why a supervisor could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The interpreter cannot be used.
    #[error("{0}")]
    Interpreter(Arc<InterpreterError>),
    /// The worker's program could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file system does not respond.
    #[error("{reason}")]
    Unresponsive {
        /// Which file system, and for how long.
        reason: String,
    },
    /// The thread that starts processes could not be started.
    #[error("cannot start the thread that starts processes: {0}")]
    Thread(#[source] io::Error),
}

/// Settings of a [`Supervisor`].
///
/// ```no_run
/// use hookpool_supervisor::{Limits, Supervisor};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let supervisor = Supervisor::builder()
///     .limits(Limits { max_workers: 16.try_into()?, ..Limits::default() })
///     .interpreter("/srv/venv/bin/python")
///     .cache_folder("/var/cache/resolver")
///     .capture_folder("/run/resolver/output")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    limits: Limits,
    isolation: Isolation,
    start_method: StartMethod,
    check_freshness: bool,
    python: PathBuf,
    cache_folder: PathBuf,
    capture_folder: PathBuf,
    program: Option<WorkerProgram>,
    kill_detached: bool,
    keep_output: bool,
    observe: Option<String>,
    kept_interpreters: Option<(Vec<Vec<u8>>, Vec<OsString>)>,
    variables: BTreeMap<OsString, OsString>,
    report_shadowed: bool,
    keep_python_path: bool,
    children: ChildSettings,
    subscribers: Arc<Subscribers>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let temporary = temporary_folder().join(format!("hookpool-{}", nix::unistd::geteuid()));
        Self {
            limits: Limits::default(),
            isolation: Isolation::default(),
            start_method: StartMethod::default(),
            check_freshness: true,
            python: PathBuf::from("python3"),
            capture_folder: temporary.join("output"),
            cache_folder: temporary,
            program: None,
            kill_detached: false,
            keep_output: false,
            observe: None,
            kept_interpreters: None,
            variables: BTreeMap::new(),
            report_shadowed: false,
            keep_python_path: false,
            children: ChildSettings::default(),
            subscribers: Subscribers::new(),
        }
    }

    /// The limits. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How hooks are isolated from each other. Default: [`Isolation::Hook`].
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How workers are started. Default: [`StartMethod::Forkserver`] on Linux,
    /// [`StartMethod::Spawn`] elsewhere.
    #[must_use]
    pub fn start_method(mut self, start_method: StartMethod) -> Self {
        self.start_method = start_method;
        self
    }

    /// Whether the files that a worker has imported from its environment are
    /// compared with the disk before every hook, and the worker is replaced if
    /// they have changed. Otherwise changes are seen only after
    /// [`Supervisor::restart`]. Default: yes.
    #[must_use]
    pub fn check_freshness(mut self, check: bool) -> Self {
        self.check_freshness = check;
        self
    }

    /// The interpreter of requests that name none: a path, or a name on PATH.
    /// Default: `python3`.
    #[must_use]
    pub fn interpreter(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = python.into();
        self
    }

    /// The folder for the unpacked hookd, and for the locks of trees that cannot
    /// be locked themselves. Made with mode 0700 if missing. Default: a folder
    /// of this user in the system's temporary folder.
    #[must_use]
    pub fn cache_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_folder = folder.into();
        self
    }

    /// The folder for the output of hooks. Made with mode 0700 if missing.
    /// Default: a folder in the system's temporary folder.
    #[must_use]
    pub fn capture_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.capture_folder = folder.into();
        self
    }

    /// The hookd to use in place of the embedded one.
    #[must_use]
    pub fn worker_program(mut self, program: WorkerProgram) -> Self {
        self.program = Some(program);
        self
    }

    /// Whether processes that a hook has moved to sessions of their own are
    /// killed when the hook ends, and not only when the supervisor does.
    /// Default: no.
    #[must_use]
    pub fn kill_detached(mut self, kill: bool) -> Self {
        self.kill_detached = kill;
        self
    }

    /// Whether the whole output of a hook is kept on the disk until the caller
    /// takes the response with
    /// [`Ticket::with_output`](crate::Ticket::with_output), and not only its end.
    /// Default: no.
    #[must_use]
    pub fn keep_output(mut self, keep: bool) -> Self {
        self.keep_output = keep;
        self
    }

    /// Has hooks report what they use beside their tree and their environment
    /// ([`Response::observed`](crate::Response::observed)): programs, the network,
    /// other files, and the environment variables that match these names, which may
    /// begin and end with `*`. With [`Isolation::Hook`] and Python 3.8 and later only.
    /// Default: no.
    #[must_use]
    pub fn observe(mut self, variables: &[&str]) -> Self {
        self.observe = Some(variables.join(","));
        self
    }

    /// Keeps what interpreters say of themselves in the cache folder, so that other
    /// processes need not ask them. They are asked without the environment variables
    /// `withheld`; `counted` stands for the values of all others, with which the answers
    /// may differ. Linux only. Default: no.
    #[must_use]
    pub fn keep_interpreters(mut self, counted: Vec<Vec<u8>>, withheld: Vec<OsString>) -> Self {
        self.kept_interpreters = Some((counted, withheld));
        self
    }

    /// Adds an environment variable for all workers, which inherit those of this
    /// process. May be called repeatedly.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Whether each hook checks which preloaded modules it would have found
    /// elsewhere on its own `sys.path`. Subscribers get
    /// [`Event::PreloadShadowed`]. The check takes some milliseconds per hook.
    /// Default: no.
    #[must_use]
    pub fn report_shadowed(mut self, report: bool) -> Self {
        self.report_shadowed = report;
        self
    }

    /// Whether hooks inherit `PYTHONPATH`, as they should where they run in the
    /// user's own environment. Default: no.
    #[must_use]
    pub fn keep_python_path(mut self, keep: bool) -> Self {
        self.keep_python_path = keep;
        self
    }

    /// Makes this process a child subreaper (prctl(2)), so that it adopts and
    /// kills the processes that a killed worker leaves behind. This concerns the
    /// whole process: when a worker dies, every child is killed that came after
    /// the supervisor and was not started by it. So this is for programs that
    /// start no other processes. Linux only. Default: no.
    #[must_use]
    pub fn child_subreaper(mut self, adopt: bool) -> Self {
        self.children.subreaper = adopt;
        self
    }

    /// The limit of open files for workers and hooks, where this process has
    /// raised its own (see
    /// [`raise_open_files_limit`](crate::raise_open_files_limit)).
    #[must_use]
    pub fn children_open_files(mut self, limit: OpenFilesLimit) -> Self {
        self.children.open_files = Some(limit);
        self
    }

    /// Subscribes to the events that `wants` accepts, from the start on. May be called
    /// repeatedly.
    ///
    /// `wants` is called for each event in the task that serves all requests, so that
    /// unwanted events cost little.
    pub fn subscribe(&mut self, wants: impl Fn(&Event) -> bool + Send + 'static) -> Events {
        self.subscribers.add(wants)
    }

    /// Starts the supervisor on the current tokio runtime, which needs I/O and
    /// time. Runs the interpreter once to query it. No worker is started before
    /// there is a request for it.
    ///
    /// # Errors
    /// [`StartError`]: the interpreter or a folder cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(mut self) -> Result<Supervisor, StartError> {
        self.cap_workers();
        // Hooks that share a process cannot be told apart.
        self.observe = self.observe.take().filter(|_| self.isolation == Isolation::Hook);
        let pool = BlockingPool::new(self.limits.startup_timeout.get());
        let program = self.prepare_folders(&pool).await?;
        if let Some(reason) = children::why_unknown().filter(|_| self.children.subreaper) {
            self.subscribers.send(Event::OrphansUnknown { reason });
        }
        let spawner = Spawner::start(self.children).map_err(StartError::Thread)?;
        let kept = self.kept_interpreters.take();
        let kept = kept.map(|(counted, withheld)| KeptInterpreters::new(&self.cache_folder, counted, withheld));
        let interpreters = Interpreters::new(pool.clone(), self.check_freshness, kept);
        let python = self.check_interpreter(&spawner, &interpreters).await?;
        let guard = (python, program.clone());
        let limits = watch::Sender::new(self.limits.clone());
        let programs = Programs::new(spawner.clone(), guard, limits.subscribe());
        let (notices, notice_inbox) = async_channel::bounded(256);
        let variables = Arc::new(std::mem::take(&mut self.variables));
        let settings = self.template_settings(&program);
        let templates = Arc::new(Templates::new(settings, spawner.clone(), pool.clone(), notices.clone()));
        let (reports, report_inbox) = async_channel::bounded(256);
        let context = WorkerContext {
            settings: Arc::new(LaunchSettings {
                program,
                start_method: self.start_method,
                check_freshness: self.check_freshness,
                isolation: self.isolation,
                capture_folder: self.capture_folder.clone(),
                variables,
                report_shadowed: self.report_shadowed,
                kill_detached: self.kill_detached,
                keep_output: self.keep_output,
                observe: self.observe.clone(),
                keep_python_path: self.keep_python_path,
            }),
            limits: limits.subscribe(),
            pool,
            spawner,
            interpreters,
            templates,
            reports,
        };
        Ok(self.launch(context, limits, programs, report_inbox, (notices, notice_inbox)))
    }

    /// Makes the folders, and unpacks hookd into one of them.
    async fn prepare_folders(&self, pool: &BlockingPool) -> Result<WorkerProgram, StartError> {
        let (cache, capture, program) = (self.cache_folder.clone(), self.capture_folder.clone(), self.program.clone());
        let prepare = move |progress: &Progress| {
            private_folder(&cache)?;
            progress.enter(1);
            private_folder(&capture)?;
            progress.enter(0);
            Ok(match program {
                Some(program) => program,
                None => WorkerProgram::unpack(&cache)?,
            })
        };
        let prepared = pool.run(&[&self.cache_folder, &self.capture_folder], prepare).await;
        prepared.unwrap_or_else(|error| Err(StartError::Unresponsive { reason: error.to_string() }))
    }

    fn template_settings(&self, program: &WorkerProgram) -> TemplateSettings {
        TemplateSettings {
            program: program.clone(),
            observe: self.observe.clone(),
            max_templates: self.limits.max_templates.get(),
            check_freshness: self.check_freshness,
            learned_folder: Some(self.cache_folder.join("learned")),
            startup_timeout: self.limits.startup_timeout.get(),
            answer_timeout: self.limits.health_timeout.get(),
        }
    }

    /// Lowers the limits to the number of descriptors: each worker needs some,
    /// and each running hook needs a worker.
    fn cap_workers(&mut self) {
        let limits = &mut self.limits;
        limits.jobs = limits.jobs.min(limits.max_workers);
        // Where the limit cannot be read, the start of a worker will fail.
        let (jobs, templates) = (limits.jobs.get(), limits.max_templates.get());
        let Ok(capacity) = Capacity::of_this_process(jobs, templates) else { return };
        limits.max_templates = NonZeroUsize::new(capacity.templates).unwrap_or(NonZeroUsize::MIN);
        let fits = NonZeroUsize::new(capacity.workers).filter(|fits| *fits < limits.max_workers);
        let Some(fit) = fits else { return };
        limits.max_workers = fit;
        limits.jobs = limits.jobs.min(fit);
        let event = Event::WorkersCapped { max_workers: fit.get(), open_files: capacity.open_files };
        self.subscribers.send(event);
    }

    async fn check_interpreter(&self, spawner: &Spawner, interpreters: &Interpreters) -> Result<PathBuf, StartError> {
        /// An interpreter that was killed is queried again: where memory is
        /// short, the system may pick another process the next time.
        const ATTEMPTS: usize = 3;
        let timeout = self.limits.startup_timeout;
        let mut answer = interpreters.get(spawner, &self.python, timeout).await;
        for _ in 1..ATTEMPTS {
            let was_killed =
                |error: &Arc<InterpreterError>| matches!(**error, InterpreterError::NoAnswer { was_killed: true, .. });
            if !answer.as_ref().is_err_and(was_killed) {
                break;
            }
            answer = interpreters.get(spawner, &self.python, timeout).await;
        }
        let known = answer.map_err(StartError::Interpreter)?;
        let executable = known.interpreter.executable.clone();
        if known.interpreter.free_threaded {
            self.subscribers.send(Event::FreeThreaded { python: executable.clone() });
        }
        Ok(executable)
    }

    fn launch(
        self,
        context: WorkerContext,
        limits: watch::Sender<Limits>,
        programs: Programs,
        reports: async_channel::Receiver<WorkerReport>,
        (notices, notice_inbox): (async_channel::Sender<Event>, async_channel::Receiver<Event>),
    ) -> Supervisor {
        let queue_size = self.limits.queue_size.get();
        // Room for the requests, and for other commands. A larger queue than at the
        // start waits for the dispatcher, which never waits.
        let (commands, command_inbox) = async_channel::bounded(queue_size + 16);
        let (cancellations, cancellation_inbox) = mpsc::unbounded_channel();
        let (finished, is_finished) = watch::channel(false);
        let inboxes =
            Inboxes { commands: command_inbox, cancellations: cancellation_inbox, reports, notices: notice_inbox };
        let templates = context.templates.clone();
        let interpreters = context.interpreters.clone();
        let default_python = self.python.clone();
        let startup_timeout = self.limits.startup_timeout;
        let locks = self.cache_folder.join("locks");
        let places = ResizableSemaphore::new(queue_size);
        let outlets = Outlets { subscribers: self.subscribers.clone(), limits, places: places.clone(), finished };
        let dispatcher = Dispatcher::new(context, self.python, inboxes, outlets, locks, notices);
        tokio::spawn(dispatcher.run());
        let shared = Services {
            commands,
            cancellations,
            subscribers: self.subscribers,
            places,
            next_id: AtomicU64::new(1),
            finished: is_finished,
            templates,
            programs,
            interpreters,
            default_python,
            startup_timeout,
        };
        Supervisor { services: Arc::new(shared) }
    }
}
