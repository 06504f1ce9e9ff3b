//! Why requests fail.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hookd_protocol::{Hook, HookErrorKind};
use nix::sys::signal::Signal;
use serde::Serialize;

/// The kind of a failure. The names are stable, and those of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module of the build backend does not exist.
    MissingBackendModule,
    /// The backend's module has no such attribute.
    MissingBackendAttribute,
    /// The backend's import path is not `module` or `module:object`.
    MalformedBackendName,
    /// The backend raised an exception while it was imported.
    BackendImportError,
    /// There is no hook of this name.
    InvalidHookName,
    /// The worker was sent an action that it does not know.
    InvalidAction,
    /// The backend does not have this hook. PEP 517 makes six of eight optional.
    UnsupportedHook,
    /// An argument of the hook has the wrong form, or cannot be sent.
    MalformedHookArgument,
    /// The hook raised an exception, or returned a value of the wrong type.
    HookRuntimeError,
    /// The hook's process ended without a result.
    HookCrashed,
    /// The worker died, and the hook may have been running.
    WorkerCrashed,
    /// No worker could be started.
    WorkerStartFailed,
    /// The worker wrote something that is not a message.
    ProtocolViolation,
    /// The hook ran longer than its deadline.
    HookTimeout,
    /// The supervisor was told to end (SIGINT, SIGTERM).
    Interrupted,
    /// The request was cancelled: by its caller, or by an operator as the message
    /// says.
    Cancelled,
    /// Too many requests are unanswered.
    QueueFull,
    /// The workers of the tree failed too often; no more are started for a while.
    Quarantined,
    /// The request itself is not well-formed.
    InvalidRequest,
    /// The request comes from a hook of its own tree, and would wait for itself.
    HookRecursion,
    /// The source tree does not exist, is not a folder, or was replaced.
    InvalidSource,
    /// The system refused a resource: descriptors, memory, disk space, a lock, a
    /// permission, or a response in time. The request itself is not wrong, and
    /// may succeed later.
    SystemRefused,
    /// The name of a file that was built is taken: by a file of another source of
    /// the run, or by something that is not a file.
    OutputConflict,
    /// `pyproject.toml` cannot be read, or its `[build-system]` is not valid.
    InvalidPyproject,
    /// The build environment could not be made.
    EnvironmentFailed,
    /// A required extension of the metadata is not supported.
    RequiredExtension,
    /// The name or version of what was built differs from that of the source.
    InconsistentMetadata,
    /// The project does not support the interpreter's version.
    UnsupportedPython,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl From<HookErrorKind> for ErrorKind {
    fn from(kind: HookErrorKind) -> Self {
        match kind {
            HookErrorKind::InvalidSource => Self::InvalidSource,
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
    /// The signal of this name ended it, `SIGSEGV` for example.
    Signal(String),
    /// Unknown, because its template, which was its parent, has ended too.
    Unknown,
}

impl From<ExitStatus> for ExitReason {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::ExitCode(code),
            (None, Some(number)) => Self::of_signal(number),
            (None, None) => Self::Unknown,
        }
    }
}

impl ExitReason {
    /// `SIGSEGV` for 11. Real-time signals have no name.
    pub(crate) fn of_signal(number: i32) -> Self {
        Self::Signal(
            Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned()),
        )
    }
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

/// Whether an error is about the system and not about the file: whether the same
/// may succeed at another time, or with other permissions.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO};
    match error.raw_os_error() {
        Some(number) => ![EISDIR, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO].contains(&number),
        // An error of std itself, such as a NUL in a name.
        None => false,
    }
}

/// A setting that a hint is about. Whoever shows the hint adds its name there,
/// such as that of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// [`Limits::queue_size`](crate::Limits::queue_size).
    QueueSize,
    /// [`Limits::hook_timeout`](crate::Limits::hook_timeout).
    HookTimeout,
    /// [`Limits::hook_memory_limit`](crate::Limits::hook_memory_limit).
    HookMemoryLimit,
    /// [`Limits::restart_window`](crate::Limits::restart_window).
    RestartWindow,
    /// [`Builder::cache_folder`](crate::Builder::cache_folder).
    CacheFolder,
    /// [`Builder::interpreter`](crate::Builder::interpreter).
    Interpreter,
    /// Folders with wheels, in place of an index.
    FindLinks,
    /// Whether the network is used.
    Offline,
    /// [`Limits::lock_timeout`](crate::Limits::lock_timeout).
    LockTimeout,
    /// Constraints for build environments.
    BuildConstraint,
    /// Whether hooks run in build environments of their own.
    BuildIsolation,
    /// How long an installer may run.
    InstallerTimeout,
    /// Which extensions of the metadata are supported, and what is done with
    /// wheels that require others.
    RequiredExtension {
        /// The extension that is not supported.
        extension: String,
        /// The distribution that requires it.
        distribution: String,
        /// Whether a source can be built in place of the wheel.
        source: SourceInstead,
    },
}

/// Whether a source can be built in place of a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceInstead {
    /// No: the metadata is not from a wheel.
    Impossible,
    /// No: the user does not want that.
    NotWanted,
    /// Yes, but the user has named no source.
    NotNamed,
}

/// Who has cancelled a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canceller {
    /// Its caller, by the ticket.
    Caller,
    /// Somebody else, by the supervisor.
    Operator,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct HookError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// What happened, for a person.
    pub message: String,
    /// The name of the Python exception, if one was raised.
    pub exception: Option<String>,
    /// Whether the exception is the backend's `UnsupportedOperation`, by which
    /// `build_sdist` says that it cannot build one (PEP 517).
    pub unsupported_operation: bool,
    /// Python's traceback.
    pub traceback: Option<String>,
    /// How the process ended, if that is the failure.
    pub exit: Option<ExitReason>,
    /// What might help; not part of the message.
    pub hint: Option<String>,
    /// The setting that the hint is about.
    #[serde(skip)]
    pub setting: Option<Setting>,
}

impl HookError {
    /// A failure with this kind and message.
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
            setting: None,
        }
    }

    /// The answer to a request that was cancelled.
    pub(crate) fn cancelled(canceller: Canceller) -> Self {
        Self::new(
            ErrorKind::Cancelled,
            match canceller {
                Canceller::Caller => "the request was cancelled",
                Canceller::Operator => "the request was cancelled by an operator",
            },
        )
    }

    /// A failure at a file: [`ErrorKind::SystemRefused`] if the error
    /// [is a refusal](is_refusal), otherwise of this kind.
    #[must_use]
    pub fn at_file(kind: ErrorKind, error: &io::Error, message: impl Into<String>) -> Self {
        Self::new(if is_refusal(error) { ErrorKind::SystemRefused } else { kind }, message)
    }

    /// The failure of this hook, with a hint where there is one.
    pub(crate) fn of_hook(mut self, hook: Hook) -> Self {
        let hint = match self.kind {
            ErrorKind::MissingBackendModule => {
                "is the backend installed in the environment of the interpreter, or listed in `backend-path`?"
            }
            ErrorKind::UnsupportedHook if hook.is_mandatory() => {
                "PEP 517 requires this hook of every build backend: is `build-backend` the right name?"
            }
            ErrorKind::UnsupportedHook => "this hook is optional in PEP 517: the caller has to fall back",
            _ => return self,
        };
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with the setting that its hint is about.
    #[must_use]
    pub fn with_setting(mut self, setting: Setting) -> Self {
        self.setting = Some(setting);
        self
    }

    /// The same failure with the way in which the process ended.
    #[must_use]
    pub fn with_exit(mut self, exit: ExitReason) -> Self {
        self.exit = Some(exit);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_about_a_missing_hook_depends_on_the_hook() {
        let hint = |hook| HookError::new(ErrorKind::UnsupportedHook, "m").of_hook(hook).hint.unwrap();
        assert!(hint(Hook::BuildEditable).contains("is optional in PEP 517"));
        for mandatory in [Hook::BuildWheel, Hook::BuildSdist] {
            assert!(hint(mandatory).contains("requires this hook of every build backend"));
        }
    }

    #[test]
    fn exit_reasons_of_wait_statuses() {
        let reason = |status| ExitReason::from(ExitStatus::from_raw(status));
        assert_eq!(reason(0x300), ExitReason::ExitCode(3));
        assert_eq!(reason(11), ExitReason::Signal("SIGSEGV".into()));
        assert_eq!(reason(64), ExitReason::Signal("signal 64".into()));
    }

    #[test]
    fn what_the_system_refuses_is_told_from_what_is_not_there() {
        use nix::libc::{EACCES, EDQUOT, EIO, EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC, EPERM, EROFS, ESTALE, ETIMEDOUT};
        let refused = [EACCES, EDQUOT, EIO, EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC, EPERM, EROFS, ESTALE, ETIMEDOUT];
        assert!(refused.iter().all(|number| is_refusal(&io::Error::from_raw_os_error(*number))));
        let theirs = [nix::libc::ENOENT, nix::libc::ENOTDIR, nix::libc::ELOOP, nix::libc::ENAMETOOLONG];
        assert!(!theirs.iter().any(|number| is_refusal(&io::Error::from_raw_os_error(*number))));
        assert!(!is_refusal(&io::Error::other("expected a regular file")));
    }
}
