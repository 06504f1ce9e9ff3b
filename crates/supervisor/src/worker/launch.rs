//! How a worker's process is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::environment::Interpreter;
use crate::program::WorkerProgram;
use crate::response::Isolation;

/// What distinguishes the workers of one tree: two requests with the same key
/// can share a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerKey {
    /// As it was asked for; not looked at yet.
    pub python: PathBuf,
    /// Variables that the request adds to the environment.
    pub env: Arc<BTreeMap<OsString, OsString>>,
}

/// What all workers of a supervisor have in common.
#[derive(Clone, Debug)]
pub(crate) struct LaunchSettings {
    pub program: WorkerProgram,
    pub isolation: Isolation,
    pub capture_folder: PathBuf,
    pub kill_detached: bool,
    /// Whether `PYTHONPATH` reaches the workers.
    pub keep_python_path: bool,
}

/// The command of a worker of `tree`.
pub(crate) fn command(settings: &LaunchSettings, interpreter: &Interpreter, key: &WorkerKey, tree: &Path) -> Command {
    let mut command = Command::new(&interpreter.executable);
    command.arg(settings.program.path());
    command.args(["--json", "--control", "--isolation"]);
    command.arg(match settings.isolation {
        Isolation::Hook => "hook",
        Isolation::None => "none",
    });
    command.arg("--capture-dir").arg(&settings.capture_folder);
    if settings.kill_detached {
        command.arg("--kill-detached");
    }
    // `--` is not needed: the tree is absolute.
    command.arg(tree).current_dir(tree);
    interpreter.set_environment(&mut command, settings.keep_python_path);
    command.envs(key.env.iter());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
