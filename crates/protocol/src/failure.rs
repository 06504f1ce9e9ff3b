//! How a hook failed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The kind of an `ERROR`: the nine of the original hookd, and [`HookCrashed`].
///
/// [`HookCrashed`]: HookErrorKind::HookCrashed
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HookErrorKind {
    /// The module of the backend cannot be found.
    MissingBackendModule,
    /// The module has no such object.
    MissingBackendAttribute,
    /// The name of the backend is no import path.
    MalformedBackendName,
    /// The module raised an exception while it was imported.
    BackendImportError,
    /// The worker does not know a hook of that name.
    InvalidHookName,
    /// The worker does not know that action.
    InvalidAction,
    /// The backend has no such hook.
    UnsupportedHook,
    /// An argument of the hook cannot be what was sent.
    MalformedHookArgument,
    /// The hook raised an exception, `SystemExit` included.
    HookRuntimeError,
    /// The process of the hook died, by a signal or by leaving without a result. Sent with
    /// `--json` only; in plain form it is a `HookRuntimeError`.
    HookCrashed,
}

impl HookErrorKind {
    /// Every kind.
    pub const ALL: [HookErrorKind; 10] = [
        HookErrorKind::MissingBackendModule,
        HookErrorKind::MissingBackendAttribute,
        HookErrorKind::MalformedBackendName,
        HookErrorKind::BackendImportError,
        HookErrorKind::InvalidHookName,
        HookErrorKind::InvalidAction,
        HookErrorKind::UnsupportedHook,
        HookErrorKind::MalformedHookArgument,
        HookErrorKind::HookRuntimeError,
        HookErrorKind::HookCrashed,
    ];

    /// The name in the message.
    pub const fn name(self) -> &'static str {
        match self {
            HookErrorKind::MissingBackendModule => "MissingBackendModule",
            HookErrorKind::MissingBackendAttribute => "MissingBackendAttribute",
            HookErrorKind::MalformedBackendName => "MalformedBackendName",
            HookErrorKind::BackendImportError => "BackendImportError",
            HookErrorKind::InvalidHookName => "InvalidHookName",
            HookErrorKind::InvalidAction => "InvalidAction",
            HookErrorKind::UnsupportedHook => "UnsupportedHook",
            HookErrorKind::MalformedHookArgument => "MalformedHookArgument",
            HookErrorKind::HookRuntimeError => "HookRuntimeError",
            HookErrorKind::HookCrashed => "HookCrashed",
        }
    }
}

impl fmt::Display for HookErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HookErrorKind {
    type Err = UnknownErrorKind;

    fn from_str(value: &str) -> Result<Self, UnknownErrorKind> {
        HookErrorKind::ALL
            .into_iter()
            .find(|kind| kind.name() == value)
            .ok_or_else(|| UnknownErrorKind { value: value.to_owned() })
    }
}

/// A name that no kind of error has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown error kind {value:?}, expected one of {}", HookErrorKind::ALL.map(HookErrorKind::name).join(", "))]
pub struct UnknownErrorKind {
    /// What was given.
    pub value: String,
}

/// What an `ERROR` or a `FATAL` says. The traceback, if any, is a message of its own.
///
/// `K` is a [`HookErrorKind`] in an `ERROR`; in a `FATAL` it is the name of any exception, a
/// `String` without blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<K = HookErrorKind> {
    /// What kind of failure.
    pub kind: K,
    /// For people; may be empty and may have several lines.
    pub message: String,
    /// The class of the exception, such as `ValueError`.
    pub exception: Option<String>,
    /// The hook raised its backend's own `UnsupportedOperation` (PEP 517, `build_sdist`).
    pub unsupported_operation: bool,
    /// The signal that the hook's process died of, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// The exit code with which the hook's process left, without a result.
    pub exit_code: Option<i32>,
}

impl<K> Failure<K> {
    /// A failure that nothing more is known of.
    pub fn new(kind: K, message: impl Into<String>) -> Self {
        Failure {
            kind,
            message: message.into(),
            exception: None,
            unsupported_operation: false,
            signal: None,
            exit_code: None,
        }
    }

    /// The message, or, where it is empty, how the process ended.
    pub(crate) fn text(&self) -> String {
        match (&self.signal, self.exit_code) {
            (Some(signal), _) if self.message.is_empty() => {
                format!("the hook's process died of {signal}")
            }
            (None, Some(code)) if self.message.is_empty() => {
                format!("the hook's process left with exit code {code} and no result")
            }
            _ => self.message.clone(),
        }
    }
}

impl<K: fmt::Display> fmt::Display for Failure<K> {
    /// The kind and, where there is one, the message: `HookCrashed: the hook's process died of ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            text if text.is_empty() => write!(f, "{}", self.kind),
            text => write!(f, "{}: {text}", self.kind),
        }
    }
}

/// The JSON object after the kind. Absent fields and nulls are defaults, other fields are ignored:
/// a worker newer or older than its caller is understood.
#[derive(Serialize, Deserialize)]
pub(crate) struct Details {
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<String>,
    unsupported_operation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

impl Details {
    pub(crate) fn of<K>(failure: &Failure<K>) -> Self {
        Details {
            message: Some(failure.message.clone()),
            exception: failure.exception.clone(),
            unsupported_operation: Some(failure.unsupported_operation),
            signal: failure.signal.clone(),
            exit_code: failure.exit_code,
        }
    }

    pub(crate) fn into_failure<K>(self, kind: K) -> Failure<K> {
        Failure {
            kind,
            message: self.message.unwrap_or_default(),
            exception: self.exception,
            unsupported_operation: self.unsupported_operation.unwrap_or_default(),
            signal: self.signal,
            exit_code: self.exit_code,
        }
    }
}
