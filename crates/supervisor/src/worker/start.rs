//! The start of a worker: its command, its interpreter, its process, its pipes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::net::unix::pipe;

use super::freshness::WorkerFreshness;
use super::message::Ending;
use super::process::WorkerProcess;
use super::task::WorkerContext;
use crate::files::private_folder;
use crate::hookd::WorkerProgram;
use crate::interpreter::{Interpreter, KnownInterpreter};
use crate::response::{Isolation, StartMethod};
use crate::template::{ForkRequest, Forking, TemplateKey, WorkerDescriptors};
use crate::tree::{Tree, TreeImports};

/// The key of the workers of a tree: requests with the same key can share a
/// worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerKey {
    /// The interpreter, as the request or the environment names it.
    pub python: PathBuf,
    /// The request's environment variables.
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

/// The command of a worker of `tree`.
fn command(settings: &LaunchSettings, interpreter: &Interpreter, key: &WorkerKey, tree: &Path) -> Command {
    let mut command = Command::new(&interpreter.executable);
    command.arg(settings.program.path()).args(arguments(settings, tree)).current_dir(tree);
    interpreter.set_environment(&mut command, settings.keep_python_path);
    command.envs(settings.variables.iter()).envs(key.env.iter());
    command
}

/// The key of the template that a worker is forked from.
fn template_key(interpreter: &Interpreter, key: &WorkerKey) -> TemplateKey {
    TemplateKey { executable: interpreter.executable.clone(), env: key.env.clone(), backend: key.backend.clone() }
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
    let timeout = context.limits.startup_timeout;
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
    let outcome = match fork(context, plan, &interpreter).await {
        Ok(Some(worker)) => Ok(worker),
        Ok(None) => spawn(context, plan, &interpreter).await,
        Err(error) => Err(error),
    };
    outcome.map_err(|error| {
        let executable = interpreter.interpreter.executable.display();
        let reason = format!("cannot start {executable} in {}: {error}", plan.tree.path.display());
        // An argument or a variable with a NUL, for example.
        let lasting = error.kind() == io::ErrorKind::InvalidInput;
        Ending::StartFailed { reason, lasting }
    })
}

/// Forks a worker from a template. `None` if it must be spawned.
async fn fork(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
) -> io::Result<Option<StartedWorker>> {
    if context.settings.start_method != StartMethod::Forkserver {
        return Ok(None);
    }
    let arguments = arguments(&context.settings, &plan.tree.path);
    let as_text = |argument: &std::ffi::OsString| argument.to_str().map(str::to_owned);
    // Orders for templates are JSON, which cannot carry bytes that are not UTF-8.
    let Some(arguments) = arguments.iter().map(as_text).collect::<Option<Vec<String>>>() else { return Ok(None) };
    let (their_input, input) = pipe()?;
    let (output, their_output) = pipe()?;
    let (log, their_log) = pipe()?;
    let key = template_key(&interpreter.interpreter, &plan.key);
    let request = ForkRequest {
        key: key.clone(),
        interpreter,
        imports: &plan.imports,
        arguments,
        descriptors: WorkerDescriptors(Arc::new([their_input, their_output, their_log])),
    };
    let process = match context.templates.fork(request).await {
        Forking::Forked(process) => process,
        Forking::Spawn => return Ok(None),
    };
    let process = WorkerProcess::forked(process);
    Ok(Some(StartedWorker {
        input: pipe::Sender::from_owned_fd(input)?,
        output: pipe::Receiver::from_owned_fd(output)?,
        log: pipe::Receiver::from_owned_fd(log)?,
        freshness: freshness(context, interpreter, key, &process).await?,
        process,
    }))
}

/// The reading and the writing end of a pipe, both close-on-exec.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

async fn spawn(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
) -> io::Result<StartedWorker> {
    let key = template_key(&interpreter.interpreter, &plan.key);
    let mut command = command(&context.settings, &interpreter.interpreter, &plan.key, &plan.tree.path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = context.settings.program.clone();
    let place = program.path().to_owned();
    let mended = context.pool.run(&[&place], move |_| program.mend()).await;
    mended.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let mut child = context.spawner.spawn(command).await?;
    let piped = "all three streams of a worker are pipes";
    let input = child.stdin.take().expect(piped).into_owned_fd()?;
    let output = child.stdout.take().expect(piped).into_owned_fd()?;
    let log = child.stderr.take().expect(piped).into_owned_fd()?;
    let process = WorkerProcess::spawned(child);
    Ok(StartedWorker {
        input: pipe::Sender::from_owned_fd(input)?,
        output: pipe::Receiver::from_owned_fd(output)?,
        log: pipe::Receiver::from_owned_fd(log)?,
        freshness: freshness(context, interpreter, key, &process).await?,
        process,
    })
}

async fn freshness(
    context: &WorkerContext,
    interpreter: &Arc<KnownInterpreter>,
    key: TemplateKey,
    process: &WorkerProcess,
) -> io::Result<WorkerFreshness> {
    let (templates, settings) = (context.templates.clone(), &context.settings);
    let freshness = WorkerFreshness::new(interpreter.clone(), templates, key, process, settings, &context.pool);
    freshness.await.map_err(io::Error::other)
}
