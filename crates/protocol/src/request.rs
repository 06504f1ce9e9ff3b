//! What a caller writes to a worker.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;

use crate::hook::{Argument, Hook};
use crate::lines::excerpt;

/// The first line of a request.
///
/// All but the first two are for workers started with `--control`. [`Ping`](Action::Ping) and
/// [`Cancel`](Action::Cancel) may be sent between requests and while a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// `run`: a hook. The other lines of a [`HookCall`] follow.
    Run,
    /// `shutdown`: end with exit code 0, after the message `SHUTDOWN`.
    Shutdown,
    /// `ping TOKEN`: answer `PONG TOKEN`.
    Ping(String),
    /// `tree PATH`: serve that source tree from now on. There is no answer. Only with isolation
    /// `hook`, where the worker has imported nothing of the tree before. A path with a newline cannot
    /// be sent.
    Tree(PathBuf),
    /// `cancel SIGNAL`: send that signal, such as `SIGTERM`, to the process group of the hook.
    Cancel(String),
}

impl Action {
    /// The action as a line, the `\n` included. Of a token, a signal or a path, a newline is written
    /// as the two characters `\n`, as it would end the line.
    pub fn encode(&self) -> Vec<u8> {
        let (action, value): (&str, &[u8]) = match self {
            Action::Run => ("run", b""),
            Action::Shutdown => ("shutdown", b""),
            Action::Ping(token) => ("ping ", token.as_bytes()),
            Action::Tree(path) => ("tree ", path.as_os_str().as_bytes()),
            Action::Cancel(signal) => ("cancel ", signal.as_bytes()),
        };
        let mut line = action.as_bytes().to_vec();
        for (number, part) in value.split(|byte| *byte == b'\n').enumerate() {
            if number > 0 {
                line.extend_from_slice(br"\n");
            }
            line.extend_from_slice(part);
        }
        line.push(b'\n');
        line
    }
}

/// A request to run a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct HookCall {
    /// The hook.
    pub hook: Hook,
    /// `build-backend` of pyproject.toml, `module` or `module:object.attribute`; none is
    /// `setuptools.build_meta:__legacy__`.
    pub build_backend: Option<String>,
    /// `backend-path` of pyproject.toml: folders relative to the tree (PEP 517, "In-tree build
    /// backends").
    pub backend_path: Vec<PathBuf>,
    /// Where the wheel is put; none is the tree.
    pub wheel_directory: Option<PathBuf>,
    /// Where the sdist is put; none is the tree.
    pub sdist_directory: Option<PathBuf>,
    /// Where a prepare hook makes metadata. For a build hook, the `.dist-info` folder that was made
    /// before.
    pub metadata_directory: Option<PathBuf>,
    /// The user's settings for the backend; none is Python's `None`.
    pub config_settings: Option<Map<String, Value>>,
}

impl HookCall {
    /// A call of the default backend, without arguments.
    pub fn new(hook: Hook) -> Self {
        HookCall {
            hook,
            build_backend: None,
            backend_path: Vec::new(),
            wheel_directory: None,
            sdist_directory: None,
            metadata_directory: None,
            config_settings: None,
        }
    }

    /// All lines of the request, from `run` to the last argument.
    ///
    /// # Errors
    ///
    /// A value cannot be a line, or an argument is missing or is not one of the hook's.
    pub fn encode(&self) -> Result<Vec<u8>, MalformedHookArgument> {
        self.check()?;
        let mut out = Action::Run.encode();
        push_line(&mut out, self.build_backend.as_deref().unwrap_or_default().as_bytes());
        for directory in &self.backend_path {
            push_line(&mut out, directory.as_os_str().as_bytes());
        }
        push_line(&mut out, b"");
        push_line(&mut out, self.hook.name().as_bytes());
        for &argument in self.hook.arguments() {
            self.push_argument(&mut out, argument);
        }
        Ok(out)
    }

    fn push_argument(&self, out: &mut Vec<u8>, argument: Argument) {
        match (self.path(argument), &self.config_settings) {
            (Some(path), _) => push_line(out, path.as_os_str().as_bytes()),
            (None, Some(settings)) if argument == Argument::ConfigSettings => {
                serde_json::to_writer(&mut *out, settings).expect("text keys, and a Vec takes every byte");
                out.push(b'\n');
            }
            (None, _) => push_line(out, b""),
        }
    }

    /// The value of an argument that is a path.
    fn path(&self, argument: Argument) -> Option<&Path> {
        match argument {
            Argument::WheelDirectory => self.wheel_directory.as_deref(),
            Argument::SdistDirectory => self.sdist_directory.as_deref(),
            Argument::MetadataDirectory => self.metadata_directory.as_deref(),
            Argument::ConfigSettings => None,
        }
    }

    /// Checks what the types leave open.
    fn check(&self) -> Result<(), MalformedHookArgument> {
        if let Some(backend) = &self.build_backend {
            let expected = "an import path without newline or NUL, or none for setuptools";
            check_line("build_backend", backend.as_bytes(), expected)?;
        }
        for directory in &self.backend_path {
            let expected = "folders of the source tree, each without newline or NUL";
            let bytes = directory.as_os_str().as_bytes();
            check_line("backend_path", bytes, expected)?;
        }
        Argument::ALL.into_iter().try_for_each(|argument| self.check_path(argument))
    }

    fn check_path(&self, argument: Argument) -> Result<(), MalformedHookArgument> {
        match self.path(argument).map(|path| path.as_os_str().as_bytes()) {
            Some(path) if !self.hook.takes(argument) => {
                let expected = "nothing, as the hook has no such argument";
                Err(MalformedHookArgument::new(argument.name(), path, expected))
            }
            Some(path) => check_line(argument.name(), path, "a path without newline or NUL"),
            None if self.hook.requires(argument) => {
                let expected = "a path, which this hook cannot do without";
                Err(MalformedHookArgument::new(argument.name(), b"", expected))
            }
            None => Ok(()),
        }
    }
}

/// Checks that a value can be a line. An empty line would mean that there is no value.
fn check_line(argument: &'static str, value: &[u8], expected: &'static str) -> Result<(), MalformedHookArgument> {
    if value.is_empty() || value.iter().any(|byte| matches!(byte, b'\n' | b'\0')) {
        return Err(MalformedHookArgument::new(argument, value, expected));
    }
    Ok(())
}

/// Appends a value that was checked to be a line.
fn push_line(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A value that cannot be sent for the hook.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{argument} {}: expected {expected}", shown(value))]
pub struct MalformedHookArgument {
    /// Name of the value, such as `wheel_directory` or `build_backend`.
    pub argument: &'static str,
    /// The start of the value, undecodable bytes replaced; empty when there was none.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
}

fn shown(value: &str) -> String {
    if value.is_empty() { "is missing or empty".to_owned() } else { format!("is {value:?}") }
}

impl MalformedHookArgument {
    fn new(argument: &'static str, value: &[u8], expected: &'static str) -> Self {
        MalformedHookArgument { argument, value: excerpt(value), expected }
    }
}
