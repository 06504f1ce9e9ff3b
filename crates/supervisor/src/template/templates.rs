//! All templates of a supervisor: a worker is requested, and the right template
//! forks it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookd_protocol::ImportedModule;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::forked_process::ForkedProcess;
use super::learned::{LearnedModules, UnsavedList};
use super::protocol::{TemplateOrder, learned_orders};
use super::selector::{NewTemplate, Selected, TemplateKey, TemplateSelector};
use super::socket::{PacketDescriptors, TemplateSocket};
use super::task::{self, TemplateContext};
use super::variables::read_at_start;
use super::{NotForked, Pace, Template, TemplateCommand, Tempo};
use crate::blocking::BlockingPool;
use crate::caller::{CallerProcess, Variables};
use crate::event::Event;
use crate::hookd::WorkerProgram;
use crate::ids::TemplateId;
use crate::interpreter::{Interpreter, KnownInterpreter, file_clock};
use crate::process::Spawner;
use crate::tree::TreeImports;

/// The settings of all templates of a supervisor.
#[derive(Clone, Debug)]
pub(crate) struct TemplateSettings {
    pub program: WorkerProgram,
    /// As that of the workers.
    pub observe: Option<String>,
    pub max_templates: usize,
    pub check_freshness: bool,
    /// The folder with the lists of learned modules, which later runs read.
    pub learned_folder: Option<PathBuf>,
    /// How long the interpreter's start and the backend's import may take.
    pub startup_timeout: Duration,
    /// How long a template that has started may take to answer an order.
    pub answer_timeout: Duration,
}

/// A worker to be forked.
pub(crate) struct ForkRequest<'a> {
    pub key: TemplateKey,
    pub interpreter: &'a Arc<KnownInterpreter>,
    pub imports: &'a TreeImports,
    /// All of its environment variables.
    pub variables: &'a Arc<Variables>,
    /// Whose umask and limits it gets.
    pub caller: Option<Arc<CallerProcess>>,
    pub arguments: Vec<String>,
    pub descriptors: Vec<OwnedFd>,
}

/// All templates of a supervisor.
pub(crate) struct Templates {
    pub(super) settings: TemplateSettings,
    pub(super) spawner: Spawner,
    pub(super) pool: BlockingPool,
    notices: async_channel::Sender<Event>,
    /// Locked for a decision only, never across an `await`.
    selector: Mutex<TemplateSelector>,
    tempo: watch::Sender<Tempo>,
    /// One task per template.
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Templates").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Templates {
    pub fn new(
        settings: TemplateSettings,
        spawner: Spawner,
        pool: BlockingPool,
        notices: async_channel::Sender<Event>,
    ) -> Self {
        let selector = Mutex::new(TemplateSelector::new(settings.max_templates, settings.learned_folder.clone()));
        let (tempo, tasks) = (watch::Sender::default(), Mutex::default());
        Self { settings, spawner, pool, notices, selector, tempo, tasks }
    }

    /// Forks a worker from the template of its key. The template is started if
    /// there is none, and replaced if a file that it has imported has changed.
    /// `None` if the worker must be spawned.
    pub async fn fork(self: &Arc<Self>, mut request: ForkRequest<'_>) -> Option<ForkedProcess> {
        /// If an environment changes faster than templates start, its workers
        /// are spawned.
        const ATTEMPTS: usize = 3;
        let descriptors = PacketDescriptors::new(std::mem::take(&mut request.descriptors));
        let mut with_variables = None;
        for _ in 0..ATTEMPTS {
            self.read_list(&request).await;
            let template = self.select(&request)?;
            if !self.is_fresh(&request.key, &template).await {
                continue;
            }
            let has_variables = template.variables != *request.variables;
            let descriptors = match &with_variables {
                _ if !has_variables => &descriptors,
                Some(descriptors) => descriptors,
                None => with_variables.insert(descriptors.and(variables_file(request.variables).ok()?)),
            };
            let outcome = self.ask(&template, &request, descriptors.clone(), has_variables).await;
            let outcome = match outcome {
                // Now it is known which variables its modules have read.
                Err(NotForked::Differs) => continue,
                Err(NotForked::Failed(reason)) => Err(reason),
                Ok(process) => Ok(process),
            };
            self.selector().answered(&request.key, &template, outcome.is_ok());
            return match outcome {
                Ok(process) => Some(process),
                Err(reason) => {
                    tracing::debug!("template {} forked no worker: {reason}", template.id);
                    None
                }
            };
        }
        None
    }

    /// Reads the list of modules that a key has learned in earlier runs. A list
    /// that cannot be read counts as empty, since it only saves time.
    async fn read_list(&self, request: &ForkRequest<'_>) {
        let file = self.selector().unread_list(&request.key);
        if let Some(file) = file {
            let load = move |_: &_| LearnedModules::load(file);
            let learned = self.pool.run(&[&request.key.executable], load).await.unwrap_or_default();
            self.selector().add_key(&request.key, request.interpreter, learned);
        }
    }

    fn select(self: &Arc<Self>, request: &ForkRequest<'_>) -> Option<Arc<Template>> {
        let started = {
            let mut selector = self.selector();
            match selector.select(&request.key, request.interpreter, request.variables, request.imports) {
                Selected::Template(template) => return Some(template),
                Selected::Spawn => return None,
                Selected::Start(start) => self.start(&mut selector, &request.key, request.interpreter, start),
            }
        };
        started.inspect_err(|error| tracing::warn!("no template can be started: {error}")).ok()
    }

    /// Begins the start of a template. Its task exists when this returns, and a
    /// second request finds the same template.
    fn start(
        self: &Arc<Self>,
        selector: &mut TemplateSelector,
        key: &TemplateKey,
        interpreter: &Arc<KnownInterpreter>,
        start: NewTemplate,
    ) -> std::io::Result<Arc<Template>> {
        let (socket, theirs) = TemplateSocket::pair()?;
        let interpreter = &interpreter.interpreter;
        // Code that runs at the start may look for any variable.
        let has_all = interpreter.runs_code_at_start;
        let at_start = if has_all { Variables::clone(&start.variables) } else { read_at_start(&start.variables) };
        let variables = if at_start == *start.variables {
            None
        } else {
            Some(PacketDescriptors::new([variables_file(&start.variables)?]))
        };
        let command = self.command(interpreter, &at_start, theirs);
        let (commands, inbox) = mpsc::unbounded_channel();
        let template = Arc::new(Template::new(start.id, start.variables, commands));
        selector.started(key, start.variant, template.clone());
        template.is_learning.send_replace(!start.learned.is_empty());
        let mut orders: Vec<TemplateOrder> =
            start.backend.map(|backend| TemplateOrder::Backend { backend }).into_iter().collect();
        orders.extend(learned_orders(&start.learned));
        let context = TemplateContext {
            templates: self.clone(),
            template: template.clone(),
            key: key.clone(),
            socket,
            variables,
            orders,
            inbox,
            tempo: self.tempo.subscribe(),
            asked_at: file_clock(),
        };
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task::run(context, command));
        drop(tasks);
        Ok(template)
    }

    fn command(&self, interpreter: &Interpreter, variables: &Variables, socket: OwnedFd) -> Command {
        let mut command = Command::new(&interpreter.executable);
        command.arg(self.settings.program.path()).args(["--template", "0"]).current_dir("/");
        command.args(self.settings.observe.as_ref().map(|variables| format!("--observe={variables}")));
        command.env_clear().envs(variables);
        // Pipes, as for a worker that is spawned: Python initializes its
        // streams by the kind of its output.
        command.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn is_fresh(&self, key: &TemplateKey, template: &Arc<Template>) -> bool {
        if !self.settings.check_freshness {
            return true;
        }
        let (look, place) = (template.clone(), &key.executable);
        let change = self.pool.run(&[place], move |_| look.freshness.change()).await;
        // A template whose files cannot be examined must not be used.
        let Some(change) = change.unwrap_or_else(|error| Some(error.path().to_owned())) else { return true };
        if self.selector().retire_stale(key, template) {
            self.notify(Event::TemplateStale { template: template.id, changed: change }).await;
        }
        false
    }

    async fn ask(
        &self,
        template: &Arc<Template>,
        request: &ForkRequest<'_>,
        descriptors: PacketDescriptors,
        has_variables: bool,
    ) -> Result<ForkedProcess, NotForked> {
        let (reply, answer) = oneshot::channel();
        let (arguments, caller) = (request.arguments.clone(), request.caller.clone());
        template.tell(TemplateCommand::Fork { arguments, descriptors, has_variables, caller, reply });
        answer.await.unwrap_or_else(|_| Err(NotForked::Failed("the template has ended".into())))
    }

    /// Whether a worker of this key that was spawned would be forked now.
    pub fn would_fork(&self, key: &TemplateKey, variables: &Variables) -> bool {
        self.selector().would_fork(key, variables)
    }

    /// Whether a worker of this template may still run hooks of its tree.
    pub fn suits(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        self.selector().suits(key, template, imports)
    }

    /// Whether this template forks the workers of such a tree.
    pub fn forks_for(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        self.selector().forks_for(key, template, imports)
    }

    /// A hook of a worker of this key has imported these modules.
    pub fn learn(&self, key: &TemplateKey, modules: &[ImportedModule]) {
        self.selector().learn(key, modules);
    }

    /// Sets it for all templates.
    pub fn set_pace(&self, pace: Pace) {
        self.tempo.send_modify(|tempo| tempo.set(pace, Instant::now()));
    }

    /// Waits until the templates in use have preloaded the modules that hooks
    /// have imported.
    pub async fn settled(&self) {
        let templates = self.selector().templates();
        for template in templates {
            let mut is_learning = template.is_learning.subscribe();
            // The sender belongs to the template, which is held here.
            let _ = is_learning.wait_for(|is_learning| !is_learning).await;
        }
    }

    /// Replaces the selected templates. Returns how many.
    pub fn restart(&self, selects: impl Fn(&Path, Option<TemplateId>) -> bool) -> usize {
        self.selector().restart(selects)
    }

    /// Retires the templates of an interpreter, which has these names.
    pub fn retire(&self, interpreters: &HashSet<PathBuf>) {
        self.selector().retire_interpreter(interpreters);
    }

    /// Retires all templates and waits for their end.
    pub async fn end(&self) {
        /// A template reads the order only after its present import.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.restart(|_, _| true);
        let mut tasks = std::mem::take(&mut *self.tasks());
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all_ended).await.is_err() {
            // The process of a template is killed with its task.
            tasks.shutdown().await;
        }
        self.save().await;
    }

    /// Saves the lists of learned modules, on a thread that may wait for a disk.
    pub(super) async fn save(&self) {
        let unsaved = self.selector().unsaved();
        if !unsaved.is_empty() {
            let place = self.settings.learned_folder.clone().unwrap_or_default();
            let save = move |_: &_| unsaved.iter().for_each(UnsavedList::save);
            // Without the lists, only the next run takes longer.
            let _ = self.pool.run(&[&place], save).await;
        }
    }

    /// Changes the number of templates that fork. If there are more, the least
    /// recently used ones are retired.
    pub fn set_max(&self, max_templates: usize) {
        self.selector().set_max(max_templates);
    }

    /// Those that fork new workers, and whether they have yet to import learned
    /// modules.
    pub fn in_use(&self) -> HashMap<TemplateId, bool> {
        let templates = self.selector().templates();
        templates.into_iter().map(|template| (template.id, *template.is_learning.borrow())).collect()
    }

    pub(super) async fn notify(&self, event: Event) {
        let _ = self.notices.send(event).await;
    }

    pub(super) fn selector(&self) -> MutexGuard<'_, TemplateSelector> {
        self.selector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file without a name that holds these as environ(7) describes them.
fn variables_file(variables: &Variables) -> std::io::Result<OwnedFd> {
    let mut block = Vec::new();
    for (name, value) in variables {
        block.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }
    let descriptor = rustix::fs::memfd_create("hookpool-variables", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(&block)?;
    Ok(file.into())
}
