//! A source tree with its own backend, and hookpool processes that use it.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "the children of a test are its own")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

/// Hooks that succeed, fail, crash, or wait for the test.
const BACKEND: &str = r#"
import os, signal, sys

def get_requires_for_build_wheel(config_settings=None):
    print("standard output")
    sys.stderr.write("standard error\n")
    return ["flit", str((config_settings or {}).get("x"))]

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    raise ValueError("no wheel today")

def build_sdist(sdist_directory, config_settings=None):
    os._exit(7)

def get_requires_for_build_sdist(config_settings=None):
    if config_settings:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("started", "w") as started:
        started.write(str(os.getpid()))
    with open("go") as go:
        return [go.read()]
"#;

/// The request whose hook waits for [`Scene::let_go`].
pub const WAITING: &str = "get_requires_for_build_sdist";

/// A tree, and the folders that hookpool uses.
pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["tree", "temporary", "home"] {
            fs::create_dir(scene.path(folder)).unwrap();
        }
        let project = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
        fs::write(scene.path("tree/pyproject.toml"), project).unwrap();
        fs::write(scene.path("tree/backend.py"), BACKEND).unwrap();
        for fifo in ["tree/started", "tree/go"] {
            mkfifo(&scene.path(fifo), Mode::S_IRWXU).unwrap();
        }
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command with these arguments, without the variables of the caller that could
    /// affect it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookpool"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKPOOL_") {
                command.env_remove(name);
            }
        }
        for name in ["PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("temporary"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs hookpool with these arguments and this input.
    pub fn output(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // Writing fails if hookpool ends before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Starts `hookpool run` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Running {
        let arguments = [&["run", "--no-build-isolation"], arguments].concat();
        let mut command = self.command(&arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Waits until the waiting hook runs, and returns its pid.
    pub fn wait_for_start(&self) -> Pid {
        let text = fs::read_to_string(self.path("tree/started")).unwrap();
        Pid::from_raw(text.parse().unwrap())
    }

    /// Lets the waiting hook return.
    pub fn let_go(&self) {
        fs::write(self.path("tree/go"), "gone").unwrap();
    }

    /// Asserts that no temporary file is left.
    pub fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.path("temporary")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [] as [&Path; 0]);
    }
}

/// A request for a hook of the tree.
pub fn request(id: &str, hook: &str) -> String {
    format!("{{\"id\": {id}, \"tree\": \"tree\", \"hook\": \"{hook}\"}}\n")
}

/// Whether the process has ended; a zombie has.
pub fn is_gone(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| state(&stat) == "Z")
}

/// Waits until the process is stopped. It is not a child, so this polls.
pub fn wait_until_stopped(pid: Pid) {
    wait_until(|| state(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()) == "T");
}

/// Waits until the process has ended. It is not a child, so this polls.
pub fn wait_until_gone(pid: Pid) {
    wait_until(|| is_gone(pid));
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition is not met");
        std::thread::yield_now();
    }
}

/// The state letter of proc(5).
fn state(stat: &str) -> &str {
    stat.rsplit(") ").next().unwrap().split(' ').next().unwrap()
}

/// The lines of an output, as JSON.
pub fn responses(output: &[u8]) -> Vec<Value> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The kind of the error in a response.
pub fn kind(response: &Value) -> &str {
    response["error"]["kind"].as_str().unwrap_or_default()
}

/// A running `hookpool run`.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<BufReader<ChildStdout>>,
    pub stderr: BufReader<ChildStderr>,
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn write(&mut self, text: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The next response.
    pub fn response(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Waits for a log message that contains `words`.
    pub fn wait_for_log(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "ended without {words:?}");
        }
    }

    /// Closes the input, waits for the end, and returns the remaining responses and the
    /// exit status.
    pub fn end(mut self) -> (Vec<Value>, ExitStatus) {
        drop(self.stdin.take());
        let mut rest = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut rest).unwrap();
        }
        (responses(&rest), self.child.wait().unwrap())
    }
}
