//! The start of a worker: its command, its interpreter, its process, its pipes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::process::Child;

use super::freshness::WorkerFreshness;
use super::message::Ending;
use super::process::WorkerProcess;
use super::task::WorkerContext;
use crate::caller::{CallerProcess, Variables};
use crate::files::private_folder;
use crate::hookd::WorkerProgram;
use crate::interpreter::{Interpreter, KnownInterpreter};
use crate::response::{Isolation, StartMethod};
use crate::template::{ForkRequest, ForkedProcess, TemplateKey};
use crate::tree::{Tree, TreeImports};

/// The key of the workers of a tree: requests with the same key can share a
/// worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerKey {
    /// The interpreter, as the request or the environment names it.
    pub python: PathBuf,
    /// The process whose variables, umask and limits it has. `None`: this one.
    pub caller: Option<Arc<CallerProcess>>,
    /// The environment variables that the request adds.
    pub env: Arc<BTreeMap<OsString, OsString>>,
    /// The module of the backend. `None` before the tree is visited, and for
    /// in-tree backends.
    pub backend: Option<String>,
}

/// The settings of all workers of a supervisor.
#[derive(Clone, Debug)]
pub(crate) struct LaunchSettings {
    pub program: WorkerProgram,
    pub start_method: StartMethod,
    /// Whether imported files are compared with the disk.
    pub check_freshness: bool,
    pub isolation: Isolation,
    pub capture_folder: PathBuf,
    /// Environment variables of all workers.
    pub variables: Arc<BTreeMap<OsString, OsString>>,
    /// Whether hooks report preloaded modules that they would have found
    /// elsewhere.
    pub report_shadowed: bool,
    pub kill_detached: bool,
    /// The environment variables whose reading hooks report, as hookd takes them.
    /// `None`: hooks are not observed.
    pub observe: Option<String>,
    /// Whether the whole output of a hook is kept.
    pub keep_output: bool,
    /// Whether workers inherit `PYTHONPATH`.
    pub keep_python_path: bool,
}

/// The arguments of a worker of `tree`.
fn arguments(settings: &LaunchSettings, tree: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--json".into(), "--control".into(), "--isolation".into()];
    arguments.push(
        match settings.isolation {
            Isolation::Hook => "hook",
            Isolation::None => "none",
        }
        .into(),
    );
    if settings.reports_imports() {
        arguments.push("--report-imports".into());
    }
    if settings.report_shadowed {
        arguments.push("--report-shadowed".into());
    }
    arguments.extend(["--capture-dir".into(), settings.capture_folder.clone().into_os_string()]);
    arguments.push("--reuse-captures".into());
    if settings.kill_detached {
        arguments.push("--kill-detached".into());
    }
    if let Some(variables) = &settings.observe {
        arguments.push(format!("--observe={variables}").into());
    }
    // Without `--`, since the path of the tree is absolute.
    arguments.push(tree.into());
    arguments
}

impl LaunchSettings {
    /// Whether workers report what hooks import: templates preload it, and a
    /// worker that keeps it is watched.
    fn reports_imports(&self) -> bool {
        let keeps_imports = self.isolation == Isolation::None && self.check_freshness;
        self.start_method == StartMethod::Forkserver || keeps_imports
    }
}

/// All environment variables of a worker.
fn variables(settings: &LaunchSettings, interpreter: &Interpreter, key: &WorkerKey) -> Variables {
    let mut variables = match &key.caller {
        Some(caller) => caller.variables.clone(),
        None => std::env::vars_os().collect(),
    };
    interpreter.activate(&mut variables, settings.keep_python_path);
    let added = settings.variables.iter().chain(key.env.iter());
    variables.extend(added.map(|(name, value)| (name.clone(), value.clone())));
    variables
}

/// The command of a worker of `tree`.
fn command(settings: &LaunchSettings, interpreter: &Interpreter, variables: &Variables, tree: &Path) -> Command {
    let mut command = Command::new(&interpreter.executable);
    // As templates, so that the start of the interpreter does not depend on the
    // tree: the worker may come to serve another.
    command.arg(settings.program.path()).args(arguments(settings, tree)).current_dir("/");
    command.env_clear().envs(variables);
    command
}

/// The key of the template that a worker is forked from.
fn template_key(interpreter: &Interpreter, key: &WorkerKey) -> TemplateKey {
    TemplateKey { executable: interpreter.executable.clone(), backend: key.backend.clone() }
}

/// The worker that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct WorkerPlan {
    pub key: WorkerKey,
    pub tree: Arc<Tree>,
    /// As the visit of the first request found it.
    pub imports: Arc<TreeImports>,
}

/// The process of a worker that is not ready yet.
pub(crate) struct StartedWorker {
    pub process: WorkerProcess,
    pub input: pipe::Sender,
    pub output: pipe::Receiver,
    pub log: pipe::Receiver,
    pub freshness: WorkerFreshness,
}

/// Starts a worker, from a template if there is one for it. Dropping the future
/// kills the process.
pub(crate) async fn start(context: &WorkerContext, plan: &WorkerPlan) -> Result<StartedWorker, Ending> {
    let timeout = context.limits.borrow().startup_timeout;
    let interpreter = context
        .interpreters
        .get(&context.spawner, &plan.key.python, timeout)
        .await
        .map_err(|error| Ending::StartFailed { lasting: error.is_lasting(), reason: error.to_string() })?;
    // A program that cleans up temporary files may have removed it.
    let folder = context.settings.capture_folder.clone();
    let made = context.pool.run(&[&context.settings.capture_folder], move |_| private_folder(&folder)).await;
    let failed = |reason: String| Ending::StartFailed { lasting: false, reason };
    made.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    start_process(context, plan, &interpreter).await.map_err(|error| {
        let executable = interpreter.interpreter.executable.display();
        let reason = format!("cannot start {executable} in {}: {error}", plan.tree.path.display());
        // An argument or a variable with a NUL, for example.
        let lasting = error.kind() == io::ErrorKind::InvalidInput;
        Ending::StartFailed { reason, lasting }
    })
}

async fn start_process(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
) -> io::Result<StartedWorker> {
    let key = template_key(&interpreter.interpreter, &plan.key);
    let variables = Arc::new(variables(&context.settings, &interpreter.interpreter, &plan.key));
    let (process, pipes) = match fork(context, plan, interpreter, key.clone(), &variables).await? {
        Some((process, pipes)) => (WorkerProcess::forked(process), pipes),
        None => {
            let (child, pipes) = spawn(context, plan, interpreter, &variables).await?;
            (WorkerProcess::spawned(child), pipes)
        }
    };
    let (templates, settings) = (context.templates.clone(), &context.settings);
    let origin = (key, variables);
    let freshness = WorkerFreshness::new(interpreter.clone(), templates, origin, &process, settings, &context.pool);
    Ok(StartedWorker {
        input: pipe::Sender::from_owned_fd(pipes.input)?,
        output: pipe::Receiver::from_owned_fd(pipes.output)?,
        log: pipe::Receiver::from_owned_fd(pipes.log)?,
        freshness: freshness.await.map_err(io::Error::other)?,
        process,
    })
}

/// Our ends of the pipes of a worker.
///
/// Each attempt to start one has its own: a template that fails may have forked a
/// worker by then, which would write to the pipes, and read from them, beside its
/// replacement.
struct Pipes {
    input: OwnedFd,
    output: OwnedFd,
    log: OwnedFd,
}

impl Pipes {
    /// With the worker's ends, in the order of descriptors 0 to 2. All are
    /// close-on-exec.
    fn new() -> io::Result<(Self, [OwnedFd; 3])> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let ((their_input, input), (output, their_output), (log, their_log)) = (pipe()?, pipe()?, pipe()?);
        Ok((Self { input, output, log }, [their_input, their_output, their_log]))
    }
}

/// Forks a worker from a template. `None` if it must be spawned.
async fn fork(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
    key: TemplateKey,
    variables: &Arc<Variables>,
) -> io::Result<Option<(ForkedProcess, Pipes)>> {
    if context.settings.start_method != StartMethod::Forkserver {
        return Ok(None);
    }
    let arguments = arguments(&context.settings, &plan.tree.path);
    let as_text = |argument: &OsString| argument.to_str().map(str::to_owned);
    // Orders for templates are JSON, which cannot carry bytes that are not UTF-8.
    let Some(arguments) = arguments.iter().map(as_text).collect::<Option<Vec<String>>>() else { return Ok(None) };
    let (pipes, theirs) = Pipes::new()?;
    let (imports, caller, descriptors) = (&plan.imports, plan.key.caller.clone(), theirs.into());
    let request = ForkRequest { key, interpreter, imports, variables, caller, arguments, descriptors };
    Ok(context.templates.fork(request).await.map(|process| (process, pipes)))
}

async fn spawn(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
    variables: &Variables,
) -> io::Result<(Child, Pipes)> {
    let mut command = command(&context.settings, &interpreter.interpreter, variables, &plan.tree.path);
    let (pipes, [input, output, log]) = Pipes::new()?;
    command.stdin(input).stdout(output).stderr(log);
    let program = context.settings.program.clone();
    let place = program.path().to_owned();
    let mended = context.pool.run(&[&place], move |_| program.mend()).await;
    mended.map_err(io::Error::other)?.map_err(io::Error::other)?;
    Ok((context.spawner.spawn_for(plan.key.caller.as_deref(), command).await?, pipes))
}
