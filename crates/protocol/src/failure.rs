//! How a hook or a worker failed.

use std::fmt;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{self, StrDeserializer};

/// The kind of an `ERROR`: the nine of the original hookd, [`HookCrashed`] and [`InvalidSource`].
///
/// [`HookCrashed`]: HookErrorKind::HookCrashed
/// [`InvalidSource`]: HookErrorKind::InvalidSource
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum HookErrorKind {
    /// The module of the backend cannot be found.
    MissingBackendModule,
    /// The module has no such object.
    MissingBackendAttribute,
    /// The name of the backend is not an import path.
    MalformedBackendName,
    /// The module raised an exception while it was imported.
    BackendImportError,
    /// The worker knows no hook of that name.
    InvalidHookName,
    /// The worker does not know that action.
    InvalidAction,
    /// The backend has no such hook.
    UnsupportedHook,
    /// The value of an argument is not valid.
    MalformedHookArgument,
    /// The hook raised an exception, `SystemExit` included.
    HookRuntimeError,
    /// The hook's process ended by a signal, or without sending a result.
    HookCrashed,
    /// The source tree of an action `tree` cannot be entered.
    InvalidSource,
}

impl HookErrorKind {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let name: StrDeserializer<'_, value::Error> = name.into_deserializer();
        Self::deserialize(name).ok()
    }
}

impl fmt::Display for HookErrorKind {
    /// The name in messages, which is that of the variant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The content of an `ERROR` or a `FATAL`. A traceback comes in a message of its own.
///
/// `K` is a [`HookErrorKind`] in an `ERROR`. In a `FATAL` it is a `String`, the name of an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<K = HookErrorKind> {
    /// The kind of failure.
    pub kind: K,
    /// Text for people: none, one line or several.
    pub message: String,
    /// The class of the exception, such as `ValueError`.
    pub exception: Option<String>,
    /// The hook raised its backend's own `UnsupportedOperation` (PEP 517, `build_sdist`).
    pub unsupported_operation: bool,
    /// The signal that ended the hook's process, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// The exit code of the hook's process, which sent no result.
    pub exit_code: Option<i32>,
}

impl<K> Failure<K> {
    /// A failure of which nothing else is known.
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
}

impl<K: fmt::Display> fmt::Display for Failure<K> {
    /// The kind and, unless it is empty, the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "{}", self.kind),
            message => write!(f, "{}: {message}", self.kind),
        }
    }
}

/// The JSON object after the kind. Absent fields and nulls are defaults, and other fields are
/// ignored, so that older and newer workers are understood.
#[derive(Deserialize)]
pub(crate) struct Details {
    message: Option<String>,
    exception: Option<String>,
    unsupported_operation: Option<bool>,
    signal: Option<String>,
    exit_code: Option<i32>,
}

impl Details {
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
