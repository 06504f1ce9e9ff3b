//! How a worker's process is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::hookd::WorkerProgram;
use crate::interpreter::Interpreter;
use crate::response::{Isolation, StartMethod};
use crate::template::TemplateKey;

/// What distinguishes the workers of one tree: two requests with the same key
/// can share a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WorkerKey {
    /// As it was asked for; not looked at yet.
    pub python: PathBuf,
    /// Variables that the request adds to the environment.
    pub env: Arc<BTreeMap<OsString, OsString>>,
    /// The module of the backend, once the tree was visited; none for in-tree
    /// backends.
    pub backend: Option<String>,
}

/// What all workers of a supervisor have in common.
#[derive(Clone, Debug)]
pub(crate) struct LaunchSettings {
    pub program: WorkerProgram,
    pub start_method: StartMethod,
    /// Whether what was imported is compared with what is on the disk.
    pub check_freshness: bool,
    pub isolation: Isolation,
    pub capture_folder: PathBuf,
    /// Variables that all workers get.
    pub variables: Arc<BTreeMap<OsString, OsString>>,
    /// Whether hooks tell which preloaded modules they would have found
    /// elsewhere.
    pub report_shadowed: bool,
    pub kill_detached: bool,
    /// Whether the whole output of a hook waits for its caller.
    pub keep_output: bool,
    /// Whether `PYTHONPATH` reaches the workers.
    pub keep_python_path: bool,
}

/// The arguments of a worker of `tree`.
pub(crate) fn arguments(settings: &LaunchSettings, tree: &Path) -> Vec<OsString> {
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
    // `--` is not needed: the tree is absolute.
    arguments.push(tree.into());
    arguments
}

impl LaunchSettings {
    /// Whether somebody wants to know what hooks import: templates, to import
    /// it before, and whoever watches a worker that keeps it.
    fn reports_imports(&self) -> bool {
        let keeps_imports = self.isolation == Isolation::None && self.check_freshness;
        self.start_method == StartMethod::Forkserver || keeps_imports
    }
}

/// The command of a worker of `tree`.
pub(crate) fn command(settings: &LaunchSettings, interpreter: &Interpreter, key: &WorkerKey, tree: &Path) -> Command {
    let mut command = Command::new(&interpreter.executable);
    command.arg(settings.program.path()).args(arguments(settings, tree)).current_dir(tree);
    interpreter.set_environment(&mut command, settings.keep_python_path);
    command.envs(settings.variables.iter()).envs(key.env.iter());
    command
}

/// The key of the template that a worker is forked from.
pub(crate) fn template_key(interpreter: &Interpreter, key: &WorkerKey) -> TemplateKey {
    TemplateKey { executable: interpreter.executable.clone(), env: key.env.clone(), backend: key.backend.clone() }
}
