//! The way to templates: a worker is asked for, and comes from the right one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hookd_protocol::ImportedModule;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Template;
use super::actor;
use super::book::{Book, Choice, Start, TemplateKey};
use super::learned::{LearnedModules, UnsavedList};
use super::message::{ForkFailure, Pace, TemplateCommand};
use super::process::ForkedProcess;
use super::socket::{TemplateSocket, WorkerDescriptors};
use super::wire::Order;
use crate::blocking::BlockingPool;
use crate::event::Event;
use crate::hookd::WorkerProgram;
use crate::interpreter::{Interpreter, KnownInterpreter};
use crate::process::Spawner;
use crate::tree::TreeImports;

/// What all templates of a supervisor have in common.
#[derive(Clone, Debug)]
pub(crate) struct TemplateSettings {
    pub program: WorkerProgram,
    pub keep_python_path: bool,
    /// Variables that all workers get.
    pub variables: Arc<BTreeMap<OsString, OsString>>,
    pub max_templates: usize,
    pub check_freshness: bool,
    /// Where learned lists are kept from run to run.
    pub learned_folder: Option<PathBuf>,
    /// For the interpreter's start and the backend's import.
    pub startup_timeout: Duration,
    /// For anything that is asked of a template that has started.
    pub answer_timeout: Duration,
}

/// A worker to be forked.
pub(crate) struct ForkRequest<'a> {
    pub key: TemplateKey,
    pub interpreter: &'a Arc<KnownInterpreter>,
    pub imports: &'a TreeImports,
    pub arguments: Vec<String>,
    pub descriptors: WorkerDescriptors,
}

/// What came of it.
pub(crate) enum Forking {
    Forked(ForkedProcess),
    /// The worker is to be spawned instead.
    Spawn,
}

/// All templates of a supervisor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Templates {
    shared: Arc<Shared>,
}

struct Shared {
    settings: TemplateSettings,
    spawner: Spawner,
    pool: BlockingPool,
    notices: async_channel::Sender<Event>,
    /// Locked for a decision only, never across a wait.
    book: Mutex<Book>,
    pace: watch::Sender<Pace>,
    /// The templates' own tasks.
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Templates").field("settings", self.settings()).finish_non_exhaustive()
    }
}

impl Templates {
    pub fn new(
        settings: TemplateSettings,
        spawner: Spawner,
        pool: BlockingPool,
        notices: async_channel::Sender<Event>,
    ) -> Self {
        let book = Mutex::new(Book::new(settings.max_templates, settings.learned_folder.clone()));
        let (pace, tasks) = (watch::Sender::default(), Mutex::default());
        Self { shared: Arc::new(Shared { settings, spawner, pool, notices, book, pace, tasks }) }
    }

    /// Forks a worker from the template of its key, which is started where
    /// there is none, or where it holds what is not on the disk any more.
    pub async fn fork(&self, request: ForkRequest<'_>) -> Forking {
        /// An environment that changes faster than templates start is not for
        /// templates.
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            self.read_list(&request).await;
            let Some(template) = self.choose(&request).await else { return Forking::Spawn };
            if !self.is_fresh(&request.key, &template).await {
                continue;
            }
            let outcome = self.ask(&template, &request).await;
            self.book().asked(&request.key, &template, outcome.is_ok());
            return match outcome {
                Ok(process) => Forking::Forked(process),
                Err(failure) => {
                    tracing::debug!("template {} forked no worker: {}", template.id, failure.reason);
                    Forking::Spawn
                }
            };
        }
        Forking::Spawn
    }

    /// Reads what a key has learned in earlier runs. What cannot be read only
    /// saves time.
    async fn read_list(&self, request: &ForkRequest<'_>) {
        let file = self.book().unread_list(&request.key);
        if let Some(file) = file {
            let load = move |_: &_| LearnedModules::load(file);
            let learned = self.shared.pool.run(&[&request.key.executable], load).await.unwrap_or_default();
            self.book().introduce(&request.key, request.interpreter, learned);
        }
    }

    async fn choose(&self, request: &ForkRequest<'_>) -> Option<Arc<Template>> {
        let started = {
            let mut book = self.book();
            match book.choose(&request.key, request.interpreter, request.imports) {
                Choice::Template(template) => return Some(template),
                Choice::Spawn => return None,
                Choice::Start(start) => self.start(&mut book, &request.key, request.interpreter, start),
            }
        };
        match started {
            Ok((template, event)) => {
                self.notify(event).await;
                Some(template)
            }
            Err(error) => {
                tracing::warn!("no template can be started: {error}");
                None
            }
        }
    }

    /// Begins the start of a template. The task that goes on with it is there
    /// when this returns, so that a second request finds the same template.
    fn start(
        &self,
        book: &mut Book,
        key: &TemplateKey,
        interpreter: &Arc<KnownInterpreter>,
        start: Start,
    ) -> std::io::Result<(Arc<Template>, Event)> {
        let (socket, theirs) = TemplateSocket::pair()?;
        let command = self.command(&interpreter.interpreter, key, theirs);
        let (commands, inbox) = mpsc::unbounded_channel();
        let template = Arc::new(Template::new(start.id, commands));
        book.started(key, start.variant, template.clone());
        let event = Event::TemplateStarting {
            template: start.id,
            interpreter: key.executable.clone(),
            backend: key.backend.clone(),
        };
        template.is_learning.send_replace(!start.learned.is_empty());
        let mut orders: Vec<Order> = start.backend.map(|backend| Order::Backend { backend }).into_iter().collect();
        orders.extend(learned_orders(&start.learned));
        let life = actor::Life {
            templates: self.clone(),
            template: template.clone(),
            key: key.clone(),
            socket,
            orders,
            inbox,
            pace: self.shared.pace.subscribe(),
            asked_at: SystemTime::now(),
        };
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(actor::run(life, command));
        drop(tasks);
        Ok((template, event))
    }

    fn command(&self, interpreter: &Interpreter, key: &TemplateKey, socket: OwnedFd) -> Command {
        let mut command = Command::new(&interpreter.executable);
        command.arg(self.settings().program.path()).args(["--template", "0"]).current_dir("/");
        interpreter.set_environment(&mut command, self.settings().keep_python_path);
        command.envs(self.settings().variables.iter()).envs(key.env.iter());
        // As a worker that is spawned: Python looks at what its output is.
        command.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn is_fresh(&self, key: &TemplateKey, template: &Arc<Template>) -> bool {
        if !self.settings().check_freshness {
            return true;
        }
        let (look, place) = (template.clone(), &key.executable);
        let change = self.shared.pool.run(&[place], move |_| look.freshness.change()).await;
        // Where its files cannot be looked at, it is not to be used.
        let Some(change) = change.unwrap_or_else(|error| Some(error.path().to_owned())) else { return true };
        if self.book().retire_stale(key, template) {
            self.notify(Event::TemplateStale { template: template.id, changed: change }).await;
        }
        false
    }

    async fn ask(&self, template: &Arc<Template>, request: &ForkRequest<'_>) -> Result<ForkedProcess, ForkFailure> {
        let (reply, answer) = oneshot::channel();
        let (arguments, descriptors) = (request.arguments.clone(), request.descriptors.clone());
        template.tell(TemplateCommand::Fork { arguments, descriptors, reply });
        answer.await.unwrap_or_else(|_| Err(ForkFailure { reason: "the template has ended".into() }))
    }

    /// Whether a worker that was spawned could be forked the next time.
    pub fn would_fork(&self, key: &TemplateKey) -> bool {
        self.book().would_fork(key)
    }

    /// Whether a worker of this template may still run hooks of its tree.
    pub fn suits(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        self.book().suits(key, template, imports)
    }

    /// A hook imported these modules.
    pub fn learn(&self, key: &TemplateKey, modules: &[ImportedModule]) {
        self.book().learn(key, modules);
    }

    /// Tells all templates.
    pub fn set_pace(&self, pace: Pace) {
        self.shared.pace.send_replace(pace);
    }

    /// Waits until the templates that fork have imported what hooks had
    /// imported before.
    pub async fn settled(&self) {
        let templates = self.book().templates();
        for template in templates {
            let mut is_learning = template.is_learning.subscribe();
            // The sender lives as long as the template that we hold.
            let _ = is_learning.wait_for(|is_learning| !is_learning).await;
        }
    }

    /// Replaces all templates.
    pub fn recycle(&self) {
        self.book().recycle();
    }

    /// Ends all templates, once their workers are gone, and waits for that.
    pub async fn end(&self) {
        /// One that imports something may be slow to hear it.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.recycle();
        let mut tasks = std::mem::take(&mut *self.tasks());
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all_ended).await.is_err() {
            // With its task goes the process.
            tasks.shutdown().await;
        }
        self.save().await;
    }

    /// Writes down what was learned, on a thread that may wait for a disk.
    pub(super) async fn save(&self) {
        let unsaved = self.book().unsaved();
        if !unsaved.is_empty() {
            let place = self.settings().learned_folder.clone().unwrap_or_default();
            let save = move |_: &_| unsaved.iter().for_each(UnsavedList::save);
            // It only saves time in the next run.
            let _ = self.shared.pool.run(&[&place], save).await;
        }
    }

    pub(super) async fn notify(&self, event: Event) {
        let _ = self.shared.notices.send(event).await;
    }

    pub(super) fn settings(&self) -> &TemplateSettings {
        &self.shared.settings
    }

    pub(super) fn pool(&self) -> &BlockingPool {
        &self.shared.pool
    }

    pub(super) fn spawner(&self) -> &Spawner {
        &self.shared.spawner
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders to preload learned modules, in packets of a size that every socket
/// takes.
pub(super) fn learned_orders(names: &[String]) -> impl Iterator<Item = Order> {
    const NAMES_IN_A_PACKET: usize = 200;
    names.chunks(NAMES_IN_A_PACKET).map(|names| Order::Learned { learned: names.to_vec() })
}
