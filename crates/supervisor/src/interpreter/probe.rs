//! Queries interpreters, and caches their answers by path.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::kept::{Answer, KeptInterpreters};
use super::stamp::{by_file_clock_at_least, file_clock};
use super::{Freshness, Interpreter};
use crate::blocking::{BlockingPool, Unresponsive};
use crate::error::ExitReason;
use crate::limits::Timeout;
use crate::process::Spawner;
use crate::programs::{ProgramError, ProgramOutput, run_unguarded_by};

/// Why an interpreter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterpreterError {
    /// There is no such program.
    #[error("interpreter {path}: no such program; expected a path, or a name on PATH")]
    NotFound {
        /// As the request names it.
        path: PathBuf,
    },
    /// The system cannot run it.
    #[error("interpreter {path} cannot be started: {source}")]
    NotStarted {
        /// As the request names it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not give the answer of a Python interpreter.
    #[error("{path} is not a working Python interpreter: it {exit} without an answer{words}")]
    NoAnswer {
        /// As the request names it.
        path: PathBuf,
        /// How it ended.
        exit: String,
        /// Whether a signal ended it. That may not be its own fault: when memory
        /// is short, the system picks a process to kill.
        was_killed: bool,
        /// The last line of its standard error, with a separator; may be empty.
        words: String,
    },
    /// It did not end in time.
    #[error("interpreter {path} did not answer within {timeout:?}")]
    TimedOut {
        /// As the request names it.
        path: PathBuf,
        /// The time limit.
        timeout: Duration,
    },
    /// The file system of the interpreter or its environment does not respond.
    #[error("interpreter {path} cannot be checked: {reason}")]
    Unresponsive {
        /// As the request names it.
        path: PathBuf,
        /// Which file system.
        reason: String,
    },
    /// hookd does not run on it.
    #[error("interpreter {path} is Python {}.{}: expected {}.{} or newer", version.0, version.1, Interpreter::OLDEST.0, Interpreter::OLDEST.1)]
    TooOld {
        /// As the request names it.
        path: PathBuf,
        /// Major, minor and micro version.
        version: (u32, u32, u32),
    },
}

impl InterpreterError {
    /// Whether another attempt would fail in the same way. A program that could
    /// not be started, did not end or was killed may succeed when the machine is
    /// less loaded.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::TooOld { .. } => true,
            Self::NoAnswer { was_killed, .. } => !was_killed,
            Self::NotStarted { source, .. } => !matches!(
                source.raw_os_error(),
                Some(nix::libc::EAGAIN | nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::ENOMEM)
            ),
            Self::TimedOut { .. } | Self::Unresponsive { .. } => false,
        }
    }
}

/// The code that the interpreter runs. It also runs on Python 2, which is then
/// reported as too old. The mark separates the answer from output of
/// `sitecustomize`.
const QUESTION: &str = r#"
import io, os, sys, sysconfig
try:
    # What `json` has below. The rest of it takes as long to import as all else here.
    from _json import encode_basestring_ascii
except ImportError:
    from json.encoder import encode_basestring_ascii
def to_json(value):
    if isinstance(value, dict):
        members = [to_json(name) + ":" + to_json(value[name]) for name in sorted(value)]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join([to_json(item) for item in value]) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else encode_basestring_ascii(value)
def full_version(info):
    kind = "" if info.releaselevel == "final" else info.releaselevel[0] + str(info.serial)
    return "%d.%d.%d%s" % (info.major, info.minor, info.micro, kind)
implementation = getattr(sys, "implementation", None)
implementation_name = getattr(implementation, "name", "unknown")
names = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM"}
system = os.uname()
# PEP 508, without importing `platform`.
markers = {
    "implementation_name": implementation_name,
    "implementation_version": full_version(getattr(implementation, "version", sys.version_info)),
    "os_name": os.name, "sys_platform": sys.platform,
    "platform_machine": system[4], "platform_release": system[2],
    "platform_system": system[0], "platform_version": system[3],
    "platform_python_implementation": names.get(implementation_name, implementation_name),
    "python_full_version": full_version(sys.version_info),
    "python_version": "%d.%d" % tuple(sys.version_info[:2]),
}
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (OSError, ValueError):
    libc = ""
paths = sysconfig.get_paths()
site = sys.modules.get("site")
site_folders = list(site.getsitepackages()) if hasattr(site, "getsitepackages") else []
if getattr(site, "ENABLE_USER_SITE", False):
    site_folders.append(site.getusersitepackages())
library = [paths["stdlib"], paths["platstdlib"]]
packages = [paths["purelib"], paths["platlib"]] + site_folders
startup_files = []
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None)
    inside = file and any(file.startswith(folder + os.sep) for folder in library)
    if file and os.path.isabs(file) and (not inside or any(file.startswith(folder + os.sep) for folder in packages)):
        startup_files.append(file)
# Whether code that may read variables runs at every start. Debian's sitecustomize does not.
harmless = ("import _virtualenv", "import __editable__", "import os; var = 'SETUPTOOLS_USE_DISTUTILS';")
debian = ["try:", "import apport_python_hook", "except ImportError:", "pass", "else:", "apport_python_hook.install()"]
def lines_of(file):
    with io.open(file, encoding="utf-8", errors="replace") as opened:
        lines = [line.strip() for line in opened.read().splitlines()]
    return [line for line in lines if line and not line.startswith('#')]
runs_code = "usercustomize" in sys.modules
try:
    if "sitecustomize" in sys.modules:
        runs_code = runs_code or lines_of(sys.modules["sitecustomize"].__file__) != debian
    for folder in set(packages):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(".start"):
                runs_code = True
            elif name.endswith(".pth"):
                lines = [line for line in lines_of(os.path.join(folder, name)) if line.startswith(("import ", "import\t"))]
                runs_code = runs_code or not all(line.startswith(harmless) for line in lines)
except Exception:
    runs_code = True
answer = {
    "runs_code_at_start": runs_code,
    "executable": sys.executable, "version": list(sys.version_info[:3]),
    "implementation": implementation_name, "markers": markers, "libc": libc,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "prefix": sys.prefix, "base_prefix": getattr(sys, "base_prefix", sys.prefix),
    "scripts": paths["scripts"],
    "site_folders": sorted(set(packages)),
    "startup_files": sorted(startup_files),
    "path": [entry for entry in sys.path[1:] if os.path.isabs(entry)],
}
try:
    image = os.stat("/proc/self/exe")
    with open("/proc/self/maps", "rb") as maps:
        mapped = [line.split(None, 5)[5].rstrip(b"\n").decode("utf-8") for line in maps if b" /" in line]
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    loaded = sorted(set(mapped + [file for file in files if file]))
    for file in loaded:
        file.encode("utf-8")
    answer["image"], answer["loaded"] = [image.st_dev, image.st_ino], loaded
except (EnvironmentError, ValueError):
    # Not Linux, or a path that is no text: it is asked each time.
    pass
# As bytes: PYTHONIOENCODING may ask for anything.
out = getattr(sys.stdout, "buffer", sys.stdout)
out.write(("\n" + "hookpool-interpreter " + to_json(answer) + "\n").encode("ascii"))
out.flush()
"#;
const MARK: &str = "hookpool-interpreter ";

/// An interpreter's answer, and the files that it depends on.
#[derive(Debug)]
pub struct KnownInterpreter {
    pub(crate) interpreter: Interpreter,
    pub(crate) freshness: Freshness,
}

impl KnownInterpreter {
    /// Looks at the files that the answer depends on. Blocks.
    fn look(interpreter: Interpreter, asked_at: SystemTime) -> Self {
        let freshness = Freshness::of_environment(&interpreter, asked_at);
        Self { interpreter, freshness }
    }

    /// Whether a file that the answer depends on has changed, so that the
    /// interpreter must be queried again. Blocks on files.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.freshness.change().is_some()
    }
}

impl std::ops::Deref for KnownInterpreter {
    type Target = Interpreter;

    fn deref(&self) -> &Interpreter {
        &self.interpreter
    }
}

type Asked = Result<Arc<KnownInterpreter>, Arc<InterpreterError>>;

/// The answer for a path.
#[derive(Debug, Default)]
struct Entry {
    cell: Arc<OnceCell<Asked>>,
    /// Grows with each use.
    turn: u64,
}

#[derive(Debug, Default)]
struct Entries {
    by_path: HashMap<PathBuf, Entry>,
    next_turn: u64,
}

/// The interpreters that have answered. Callers that need the same interpreter
/// at the same time share one query.
#[derive(Clone, Debug)]
pub(crate) struct Interpreters {
    /// The mutex is held for a look-up only.
    entries: Arc<Mutex<Entries>>,
    pool: BlockingPool,
    check_freshness: bool,
    kept: Option<Arc<KeptInterpreters>>,
}

impl Interpreters {
    /// The number of answers that are cached; the least recently used are dropped.
    const KEPT: usize = 32;

    pub fn new(pool: BlockingPool, check_freshness: bool, kept: Option<KeptInterpreters>) -> Self {
        Self { entries: Arc::default(), pool, check_freshness, kept: kept.map(Arc::new) }
    }

    /// The interpreter of a path, or of a name on PATH. It is queried again if its
    /// environment has changed. A failure is returned to all who wait, and not
    /// cached.
    pub async fn get(&self, spawner: &Spawner, python: &Path, timeout: Timeout) -> Asked {
        /// In an environment that changes all the time, the last answer is used.
        const ATTEMPTS: usize = 3;
        let mut answer = self.look_up(spawner, python, timeout).await;
        for _ in 1..ATTEMPTS {
            match &answer {
                Ok(known) if self.check_freshness && self.has_changed(known, python).await? => {
                    self.forget(python, known);
                    answer = self.look_up(spawner, python, timeout).await;
                }
                _ => break,
            }
        }
        answer
    }

    async fn has_changed(&self, known: &Arc<KnownInterpreter>, python: &Path) -> Result<bool, Arc<InterpreterError>> {
        let look = known.clone();
        let changed = self.pool.run(&[&known.interpreter.prefix], move |_| look.has_changed()).await;
        changed.map_err(|error| Arc::new(unresponsive(python, &error)))
    }

    async fn look_up(&self, spawner: &Spawner, python: &Path, timeout: Timeout) -> Asked {
        let cell = self.cell(python);
        let ask = async || self.find_or_ask(spawner, python, timeout).await.map_err(Arc::new);
        let answer = cell.get_or_init(ask).await;
        if answer.is_err() {
            let mut entries = self.entries();
            if entries.by_path.get(python).is_some_and(|current| Arc::ptr_eq(&current.cell, &cell)) {
                entries.by_path.remove(python);
            }
        }
        answer.clone()
    }

    async fn find_or_ask(
        &self,
        spawner: &Spawner,
        python: &Path,
        timeout: Timeout,
    ) -> Result<Arc<KnownInterpreter>, InterpreterError> {
        let (wanted, kept) = (python.to_owned(), self.kept.clone());
        let find = move || {
            let program = find(&wanted)?;
            let found = program.as_ref().zip(kept).and_then(|(program, kept)| kept.find(program));
            let known = found.map(|(interpreter, asked_at)| KnownInterpreter::look(interpreter, asked_at));
            Ok((program, known))
        };
        let found = self.pool.run(&[python], move |_| find()).await.map_err(|error| unresponsive(python, &error))?;
        let (program, known) =
            found.map_err(|source| InterpreterError::NotStarted { path: python.to_owned(), source })?;
        match (program, known) {
            (None, _) => Err(InterpreterError::NotFound { path: python.to_owned() }),
            (Some(_), Some(known)) if !known.freshness.is_stale() => Ok(Arc::new(known)),
            (Some(program), _) => self.ask(spawner, python, program, timeout).await,
        }
    }

    async fn ask(
        &self,
        spawner: &Spawner,
        python: &Path,
        program: PathBuf,
        timeout: Timeout,
    ) -> Result<Arc<KnownInterpreter>, InterpreterError> {
        let asked_at = file_clock();
        let mut command = Command::new(&program);
        // `-c` puts the working directory on `sys.path`, and `/` has no modules. What is
        // imported at every start leaves no bytecode, which would have to be checked.
        command.args(["-B", "-c", QUESTION]).current_dir("/").env_remove("PYTHONHOME");
        if let Some(kept) = &self.kept {
            kept.withhold(&mut command);
        }
        let output =
            run_unguarded_by(spawner, None, command, timeout, pending()).await.map_err(|error| match error {
                ProgramError::NotStarted { source, .. } => {
                    InterpreterError::NotStarted { path: python.to_owned(), source }
                }
                ProgramError::TimedOut { .. } | ProgramError::Interrupted => {
                    InterpreterError::TimedOut { path: python.to_owned(), timeout: timeout.get() }
                }
            })?;
        let answer = parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| no_answer(python, &output))?;
        let (major, minor, _) = answer.interpreter.version;
        if (major, minor) < Interpreter::OLDEST {
            let version = answer.interpreter.version;
            return Err(InterpreterError::TooOld { path: python.to_owned(), version });
        }
        let (prefix, kept) = (answer.interpreter.prefix.clone(), self.kept.clone());
        let look = move || {
            if let Some(kept) = kept {
                kept.keep(&program, &answer, asked_at);
            }
            Arc::new(KnownInterpreter::look(answer.interpreter, asked_at))
        };
        self.pool.run(&[&prefix], move |_| look()).await.map_err(|error| unresponsive(python, &error))
    }

    fn cell(&self, python: &Path) -> Arc<OnceCell<Asked>> {
        let mut entries = self.entries();
        entries.next_turn += 1;
        let turn = entries.next_turn;
        let entry = entries.by_path.entry(python.to_owned()).or_default();
        entry.turn = turn;
        let cell = entry.cell.clone();
        if entries.by_path.len() > Self::KEPT {
            let oldest = entries.by_path.iter().min_by_key(|(_, entry)| entry.turn).map(|(path, _)| path.clone());
            // Users have a clone of the answer.
            oldest.and_then(|path| entries.by_path.remove(&path));
        }
        cell
    }

    /// Caches the answer that `python` gave to an earlier process, unless there is
    /// one. It is not used if a file was changed since `asked_at`. Blocks.
    pub fn introduce(&self, python: &Path, interpreter: Interpreter, asked_at: SystemTime) {
        let cell = self.cell(python);
        if cell.initialized() {
            return;
        }
        let known = KnownInterpreter::look(interpreter, by_file_clock_at_least(asked_at));
        if known.freshness.is_stale() {
            return;
        }
        // If it is being queried now, that answer is used.
        let _ = cell.set(Ok(Arc::new(known)));
    }

    /// Drops an answer, unless there is a newer one.
    fn forget(&self, python: &Path, known: &Arc<KnownInterpreter>) {
        let is_it = |entry: &Entry| matches!(entry.cell.get(), Some(Ok(current)) if Arc::ptr_eq(current, known));
        let mut entries = self.entries();
        if entries.by_path.get(python).is_some_and(is_it) {
            entries.by_path.remove(python);
        }
    }

    /// Drops all answers.
    pub fn forget_all(&self) {
        self.entries().by_path.clear();
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn unresponsive(python: &Path, error: &Unresponsive) -> InterpreterError {
    InterpreterError::Unresponsive { path: python.to_owned(), reason: error.to_string() }
}

fn parse(stdout: &str) -> Option<Answer> {
    let line = stdout.lines().rev().find_map(|line| line.strip_prefix(MARK))?;
    let answer: Answer = serde_json::from_str(line).ok()?;
    answer.interpreter.executable.is_absolute().then_some(answer)
}

fn no_answer(python: &Path, output: &ProgramOutput) -> InterpreterError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.trim().lines().last().unwrap_or_default();
    let words = if last.is_empty() { String::new() } else { format!("; its last output: {last}") };
    let was_killed = !matches!(output.exit, ExitReason::ExitCode(_));
    InterpreterError::NoAnswer { path: python.to_owned(), exit: output.exit.to_string(), was_killed, words }
}

/// Finds a program, by its path or on `PATH`. Symbolic links are not resolved.
fn find(python: &Path) -> io::Result<Option<PathBuf>> {
    if python.components().count() > 1 || python.is_absolute() {
        let path = std::path::absolute(python)?;
        // An error where a folder of the path may not be searched.
        return Ok(path.try_exists()?.then_some(path));
    }
    Ok(which::which(python).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ChildSettings;

    fn interpreters() -> Interpreters {
        Interpreters::new(BlockingPool::new(Duration::from_secs(20)), true, None)
    }

    async fn get(python: &Path) -> Asked {
        let spawner = Spawner::start(ChildSettings::default()).unwrap();
        interpreters().get(&spawner, python, Timeout::from_secs(20)).await
    }

    fn script(text: &str) -> tempfile::TempPath {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        file.into_temp_path()
    }

    #[tokio::test]
    async fn python3_says_who_it_is() {
        let interpreter = &get(Path::new("python3")).await.unwrap().interpreter;
        assert!(interpreter.executable.is_absolute());
        assert!(interpreter.version >= (3, 7, 0));
        let (major, minor, _) = interpreter.version;
        assert_eq!(interpreter.markers["python_version"], format!("{major}.{minor}"));
        assert_eq!(interpreter.markers.len(), 11);
        assert_eq!(interpreter.libc.starts_with("glibc "), cfg!(target_env = "gnu"), "{}", interpreter.libc);
    }

    #[tokio::test]
    async fn an_introduced_interpreter_is_asked_only_where_something_changed_since() {
        let spawner = Spawner::start(ChildSettings::default()).unwrap();
        let interpreters = interpreters();
        let folder = tempfile::tempdir().unwrap();
        let path_file = folder.path().join("one.pth");
        let file = std::fs::File::create(&path_file).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        let python = Path::new("python3");
        let mut introduced = get(python).await.unwrap().interpreter.clone();
        introduced.implementation = "introduced".into();
        introduced.site_folders = vec![folder.path().to_owned()];
        let implementation = async || {
            let known = interpreters.get(&spawner, python, Timeout::from_secs(20)).await.unwrap();
            known.interpreter.implementation.clone()
        };
        interpreters.introduce(python, introduced.clone(), SystemTime::now());
        assert_eq!(implementation().await, "introduced");
        std::fs::write(&path_file, "/elsewhere").unwrap();
        assert_eq!(implementation().await, "cpython");
        interpreters.introduce(python, introduced.clone(), SystemTime::now());
        assert_eq!(implementation().await, "cpython", "what it said itself counts");
        interpreters.forget_all();
        interpreters.introduce(python, introduced, SystemTime::now() - Duration::from_secs(30));
        assert_eq!(implementation().await, "cpython", "a file was changed between the answer and now");
    }

    #[tokio::test]
    async fn what_is_no_python_is_named() {
        let error = get(Path::new("/no/such/python")).await.unwrap_err();
        assert!(matches!(*error, InterpreterError::NotFound { .. }) && error.is_lasting(), "{error}");
        let error = get(&script("#!/bin/sh\necho garbage; echo sorry >&2; exit 3\n")).await.unwrap_err();
        assert!(error.to_string().contains("exited with code 3 without an answer; its last output: sorry"), "{error}");
        assert!(error.is_lasting());
        let error = get(&script("#!/bin/sh\nkill -KILL $$\n")).await.unwrap_err();
        assert!(error.to_string().contains("it died of SIGKILL without an answer"), "{error}");
        assert!(!error.is_lasting(), "whoever killed it may not do so again");
        let old = "#!/bin/sh\necho noise\necho 'hookpool-interpreter {\"executable\": \"/usr/bin/python2\", \"version\": \
                   [2, 7, 18], \"implementation\": \"unknown\", \"prefix\": \"/usr\", \"base_prefix\": \"/usr\", \
                   \"scripts\": \"/usr/bin\"}'\n";
        let error = get(&script(old)).await.unwrap_err();
        assert!(error.to_string().ends_with("is Python 2.7: expected 3.7 or newer"), "{error}");
    }
}
