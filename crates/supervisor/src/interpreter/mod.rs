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
pub(crate) use stamp::{Stamp, Watched, file_clock};

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::caller::Variables;

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
    /// The version of the GNU C library that it runs with, `glibc 2.36` for example. Empty:
    /// it is another library.
    #[serde(default)]
    pub libc: String,
    /// The folders whose `.pth` and `.start` files are read at start (`site`).
    #[serde(default)]
    pub site_folders: Vec<PathBuf>,
    /// `sys.path`.
    #[serde(default)]
    pub(crate) path: Vec<PathBuf>,
    /// Whether code runs at every start that may read any variable: lines of `.pth`
    /// and `.start` files, `sitecustomize`.
    #[serde(default = "is_possible")]
    pub(crate) runs_code_at_start: bool,
    /// Files that are imported at every start, such as `sitecustomize`.
    #[serde(default)]
    pub(crate) startup_files: Vec<PathBuf>,
}

/// In an answer that does not tell.
fn is_possible() -> bool {
    true
}

impl Interpreter {
    /// The oldest version that hookd runs on.
    pub const OLDEST: (u32, u32) = (3, 7);

    /// Whether it is the interpreter of a virtual environment.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.prefix != self.base_prefix
    }

    /// What the interpreter of a virtual environment in `prefix` says that was made like this
    /// one, if nothing that is installed in it runs at start. `None` if something runs at start
    /// already, or if its paths are unusual.
    #[must_use]
    pub fn moved(&self, prefix: &Path) -> Option<Self> {
        if self.runs_code_at_start || !self.startup_files.is_empty() {
            return None;
        }
        let own = |path: &PathBuf| Some(prefix.join(path.strip_prefix(&self.prefix).ok()?));
        let moved = |paths: &[PathBuf]| paths.iter().map(|path| own(path).unwrap_or_else(|| path.clone())).collect();
        Some(Self {
            executable: own(&self.executable)?,
            prefix: prefix.to_owned(),
            scripts: own(&self.scripts)?,
            site_folders: moved(&self.site_folders),
            path: moved(&self.path),
            ..self.clone()
        })
    }

    /// The same, if these files are imported at every start.
    #[must_use]
    pub fn with_startup_files(self, startup_files: Vec<PathBuf>) -> Self {
        Self { startup_files, ..self }
    }

    /// Whether both would say the same at any time: markers also describe the running system.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let without_markers = |interpreter: &Self| Self { markers: BTreeMap::new(), ..interpreter.clone() };
        without_markers(self) == without_markers(other)
    }

    /// Whether code runs at every start that may read any variable.
    #[must_use]
    pub fn runs_code_at_start(&self) -> bool {
        self.runs_code_at_start
    }

    /// Makes the variables those of an activated virtual environment: its programs
    /// first on `PATH`, so that backends find the tools of their requirements (PEP
    /// 517, "build environment").
    pub(crate) fn activate(&self, variables: &mut Variables, keep_python_path: bool) {
        let path = self.path(variables.remove(OsStr::new("PATH")));
        variables.insert("PATH".into(), path);
        variables.remove(OsStr::new("PYTHONHOME"));
        if !keep_python_path {
            variables.remove(OsStr::new("PYTHONPATH"));
        }
        if self.is_virtual() {
            variables.insert("VIRTUAL_ENV".into(), self.prefix.clone().into_os_string());
        } else {
            variables.remove(OsStr::new("VIRTUAL_ENV"));
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
