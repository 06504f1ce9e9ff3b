//! Python interpreters: found, asked about themselves, and compared with what
//! they were when they answered.

mod freshness;
mod kept;
mod offered;
mod probe;
mod stamp;

pub(crate) use freshness::Freshness;
pub(crate) use kept::KeptInterpreters;
pub(crate) use offered::{is_folder, is_package, module_of_file};
pub(crate) use probe::Interpreters;
pub use probe::{InterpreterError, KnownInterpreter};
pub(crate) use stamp::{Stamp, Watched};

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What a Python interpreter says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interpreter {
    /// `sys.executable`: absolute, symbolic links not resolved, since that would
    /// lose a virtual environment.
    pub executable: PathBuf,
    /// Major, minor and micro version.
    pub version: (u32, u32, u32),
    /// `sys.implementation.name`, `cpython` for example.
    pub implementation: String,
    /// Whether it was built without the global interpreter lock (PEP 703).
    #[serde(default)]
    pub free_threaded: bool,
    /// `sys.prefix`.
    pub prefix: PathBuf,
    /// `sys.base_prefix`; differs from `prefix` in a virtual environment.
    pub base_prefix: PathBuf,
    /// The folder of the environment's programs.
    pub scripts: PathBuf,
    /// The values of environment markers (PEP 508) by their names.
    #[serde(default)]
    pub markers: BTreeMap<String, String>,
    /// The folders whose `.pth` and `.start` files are read at start (`site`).
    #[serde(default)]
    pub site_folders: Vec<PathBuf>,
    /// `sys.path`.
    #[serde(default)]
    pub(crate) path: Vec<PathBuf>,
    /// Files that are imported at every start, such as `sitecustomize`.
    #[serde(default)]
    pub(crate) startup_files: Vec<PathBuf>,
}

impl Interpreter {
    /// The oldest version that hookd runs on.
    pub const OLDEST: (u32, u32) = (3, 7);

    /// Whether it is the interpreter of a virtual environment.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.prefix != self.base_prefix
    }

    /// Gives `command` the environment of an activated virtual environment:
    /// its programs first on `PATH`, so that backends find the tools of their
    /// requirements (PEP 517, "build environment").
    pub(crate) fn set_environment(&self, command: &mut Command, keep_python_path: bool) {
        command.env("PATH", self.path(std::env::var_os("PATH")));
        command.env_remove("PYTHONHOME");
        if !keep_python_path {
            command.env_remove("PYTHONPATH");
        }
        if self.is_virtual() {
            command.env("VIRTUAL_ENV", &self.prefix);
        } else {
            command.env_remove("VIRTUAL_ENV");
        }
    }

    fn path(&self, inherited: Option<OsString>) -> OsString {
        let mut path = self.scripts.clone().into_os_string();
        // An empty entry would mean the working directory.
        if let Some(inherited) = inherited.filter(|path| !path.is_empty()) {
            path.push(":");
            path.push(inherited);
        }
        path
    }
}
