//! The start of a worker: its interpreter, its process, its pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use tokio::net::unix::pipe;

use super::freshness::WorkerFreshness;
use super::launch::{self, WorkerKey};
use super::life::WorkerContext;
use super::message::Ending;
use super::process::WorkerProcess;
use crate::folder::private_folder;
use crate::interpreter::KnownInterpreter;
use crate::response::StartMethod;
use crate::template::{ForkRequest, Forking, TemplateKey, WorkerDescriptors};
use crate::tree::{Tree, TreeImports};

/// Which worker is to be started.
#[derive(Clone, Debug)]
pub(crate) struct WorkerPlan {
    pub key: WorkerKey,
    pub tree: Arc<Tree>,
    /// As the tree was when its first request was read.
    pub imports: Arc<TreeImports>,
}

/// A process that has begun to be a worker.
pub(crate) struct StartedWorker {
    pub process: WorkerProcess,
    pub input: pipe::Sender,
    pub output: pipe::Receiver,
    pub log: pipe::Receiver,
    pub freshness: WorkerFreshness,
}

/// Starts a worker, from a template if there is one for it.
///
/// May be dropped at any time: what was begun of the start is killed then.
pub(crate) async fn start(context: &WorkerContext, plan: &WorkerPlan) -> Result<StartedWorker, Ending> {
    let timeout = context.limits.startup_timeout.get();
    let interpreter = context
        .interpreters
        .get(&context.spawner, &plan.key.python, timeout)
        .await
        .map_err(|error| Ending::StartFailed { lasting: error.is_lasting(), reason: error.to_string() })?;
    // Something that tidies up may have taken it.
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
        // Arguments or variables that no process can be given.
        let lasting = error.kind() == io::ErrorKind::InvalidInput;
        Ending::StartFailed { reason, lasting }
    })
}

/// A worker forked from a template; nothing where it is to be spawned.
async fn fork(
    context: &WorkerContext,
    plan: &WorkerPlan,
    interpreter: &Arc<KnownInterpreter>,
) -> io::Result<Option<StartedWorker>> {
    if context.settings.start_method != StartMethod::Forkserver {
        return Ok(None);
    }
    let arguments = launch::arguments(&context.settings, &plan.tree.path);
    let as_text = |argument: &std::ffi::OsString| argument.to_str().map(str::to_owned);
    // The orders for templates are JSON, which has no word for other bytes.
    let Some(arguments) = arguments.iter().map(as_text).collect::<Option<Vec<String>>>() else { return Ok(None) };
    let (their_input, input) = pipe()?;
    let (output, their_output) = pipe()?;
    let (log, their_log) = pipe()?;
    let key = launch::template_key(&interpreter.interpreter, &plan.key);
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
    let key = launch::template_key(&interpreter.interpreter, &plan.key);
    let mut command = launch::command(&context.settings, &interpreter.interpreter, &plan.key, &plan.tree.path);
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
