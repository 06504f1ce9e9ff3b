//! Why a request failed: a stable set of kinds, worded for the person who reads
//! the message.

use std::fmt;

use hookd_protocol::HookErrorKind;
use serde::Serialize;

/// The kind of a failure. Stable: programs may match on the names, which are
/// those of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module of the build backend does not exist.
    MissingBackendModule,
    /// The backend's module has no such attribute.
    MissingBackendAttribute,
    /// The backend's import path is not `module` or `module:object`.
    MalformedBackendName,
    /// The backend raised while it was imported.
    BackendImportError,
    /// There is no hook of this name.
    InvalidHookName,
    /// The worker was sent an action that it does not know.
    InvalidAction,
    /// The backend does not have this hook (PEP 517 makes six of eight optional).
    UnsupportedHook,
    /// An argument of the hook cannot be carried or has the wrong form.
    MalformedHookArgument,
    /// The hook raised, or returned something that is not its result.
    HookRuntimeError,
    /// The hook process died before it had a result.
    HookCrashed,
    /// The worker died while the hook may have been running.
    WorkerCrashed,
    /// No worker could be started.
    WorkerStartFailed,
    /// The worker wrote something that is not a message.
    ProtocolViolation,
    /// The hook ran longer than its deadline.
    HookTimeout,
    /// The supervisor was told to end (SIGINT, SIGTERM).
    Interrupted,
    /// The request was cancelled by its caller.
    Cancelled,
    /// Too many requests are unanswered.
    QueueFull,
    /// The pool's workers failed too often; it rests for a while.
    Quarantined,
    /// The request itself is not well-formed.
    InvalidRequest,
    /// The source tree does not exist, or is not a folder, or is another now.
    InvalidSource,
    /// `pyproject.toml` cannot be read, or its `[build-system]` is not valid.
    InvalidPyproject,
    /// The build environment could not be made.
    EnvironmentFailed,
    /// A required extension of the metadata is not supported.
    RequiredExtension,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl From<HookErrorKind> for ErrorKind {
    fn from(kind: HookErrorKind) -> Self {
        match kind {
            HookErrorKind::MissingBackendModule => Self::MissingBackendModule,
            HookErrorKind::MissingBackendAttribute => Self::MissingBackendAttribute,
            HookErrorKind::MalformedBackendName => Self::MalformedBackendName,
            HookErrorKind::BackendImportError => Self::BackendImportError,
            HookErrorKind::InvalidHookName => Self::InvalidHookName,
            HookErrorKind::InvalidAction => Self::InvalidAction,
            HookErrorKind::UnsupportedHook => Self::UnsupportedHook,
            HookErrorKind::MalformedHookArgument => Self::MalformedHookArgument,
            HookErrorKind::HookRuntimeError => Self::HookRuntimeError,
            HookErrorKind::HookCrashed => Self::HookCrashed,
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It exited with this code.
    ExitCode(i32),
    /// It died of the signal of this name, `SIGSEGV` for example.
    Signal(String),
    /// It ended, and there was nobody left who could tell how: it was forked
    /// from a template that is gone.
    Unknown,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode(code) => write!(formatter, "exited with code {code}"),
            Self::Signal(name) => write!(formatter, "died of {name}"),
            Self::Unknown => formatter.write_str("ended"),
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct HookError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What happened, for a person.
    pub message: String,
    /// The name of the Python exception, if one was raised.
    pub exception: Option<String>,
    /// Whether the exception is the backend's `UnsupportedOperation`, with
    /// which `build_sdist` says "build the wheel directly" (PEP 517).
    pub unsupported_operation: bool,
    /// Python's traceback.
    pub traceback: Option<String>,
    /// How the process ended, if one did.
    pub exit: Option<ExitReason>,
    /// What might help. Never part of the message.
    pub hint: Option<String>,
}

impl HookError {
    /// A failure of this kind with this message and nothing else.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            exception: None,
            unsupported_operation: false,
            traceback: None,
            exit: None,
            hint: None,
        }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with the way in which the process ended.
    #[must_use]
    pub fn with_exit(mut self, exit: ExitReason) -> Self {
        self.exit = Some(exit);
        self
    }
}
