//! Why a request failed: a stable set of kinds, worded for the person who reads
//! the message.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hookd_protocol::{Hook, HookErrorKind};
use nix::sys::signal::Signal;
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
    /// The request comes from within a hook of the very tree that it is for, and
    /// would wait for itself.
    HookRecursion,
    /// The source tree does not exist, or is not a folder, or is another now.
    InvalidSource,
    /// The system refused what was needed: descriptors, memory, room on a disk,
    /// a lock, a permission, an answer in time. Nothing is wrong with the
    /// request, and it is worth another try.
    SystemRefused,
    /// A file that was built cannot have its name: another source of the run has
    /// made one of that name, or something else is there.
    OutputConflict,
    /// `pyproject.toml` cannot be read, or its `[build-system]` is not valid.
    InvalidPyproject,
    /// The build environment could not be made.
    EnvironmentFailed,
    /// A required extension of the metadata is not supported.
    RequiredExtension,
    /// What was built has another name or version than the source says.
    InconsistentMetadata,
    /// The interpreter's version is none that the project supports.
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

/// Whether an error says something about the system, and not about the file that
/// it met: whether the same may do better another time, or with other rights.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO};
    match error.raw_os_error() {
        Some(number) => ![EISDIR, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR, ENXIO].contains(&number),
        // A library's own error, such as one of a name with a NUL in it.
        None => false,
    }
}

/// A setting that could make a difference to a failure. Whoever shows the hint
/// knows what it is called there: a flag, a field, a method.
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
    /// Folders of wheels, in place of an index.
    FindLinks,
    /// Doing without the network.
    Offline,
    /// How long another process may keep a tree locked.
    LockTimeout,
    /// Constraints for what is installed into build environments.
    BuildConstraint,
    /// Whether hooks run in build environments of their own.
    BuildIsolation,
    /// How long an installer may run.
    InstallerTimeout,
    /// Which extensions of the metadata are supported, and what becomes of
    /// wheels that require another.
    RequiredExtension {
        /// The extension that is not supported.
        extension: String,
        /// The distribution that requires it.
        distribution: String,
        /// Whether a source could be built in place of the wheel.
        source: SourceInstead,
    },
}

/// Whether a source can take the place of a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceInstead {
    /// It is no wheel.
    Impossible,
    /// It is not wanted.
    NotWanted,
    /// It is wanted, and was not named.
    NotNamed,
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
    /// The setting that the hint is about.
    #[serde(skip)]
    pub setting: Option<Setting>,
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
            setting: None,
        }
    }

    /// A failure at a file: of this kind where the file is not what it should
    /// be, and [`ErrorKind::SystemRefused`] where [`is_refusal`] says so.
    #[must_use]
    pub fn at_file(kind: ErrorKind, error: &io::Error, message: impl Into<String>) -> Self {
        Self::new(if is_refusal(error) { ErrorKind::SystemRefused } else { kind }, message)
    }

    /// The failure of this hook, with what might help a person.
    pub(crate) fn of_hook(mut self, hook: Hook) -> Self {
        let hint = match self.kind {
            ErrorKind::MissingBackendModule => {
                "is the backend installed in the environment of the interpreter, or listed in `backend-path`?"
            }
            ErrorKind::UnsupportedHook if hook.is_mandatory() => {
                "PEP 517 asks every build backend for this hook: is `build-backend` the right name?"
            }
            ErrorKind::UnsupportedHook => "PEP 517 lets a backend leave this hook out; the caller has to fall back",
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
        assert!(hint(Hook::BuildEditable).contains("lets a backend leave this hook out"));
        for mandatory in [Hook::BuildWheel, Hook::BuildSdist] {
            assert!(hint(mandatory).contains("asks every build backend"));
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
