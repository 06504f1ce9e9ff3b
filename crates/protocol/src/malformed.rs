//! Lines that are not what the protocol allows.

use thiserror::Error;

use crate::text::excerpt;

/// A violation of the protocol: what the worker says next cannot be trusted either.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("malformed message {line:?}: {reason}")]
pub struct MalformedMessage {
    /// The start of the line, at most 200 characters, undecodable bytes replaced.
    pub line: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl MalformedMessage {
    pub(crate) fn new(line: &[u8], reason: Reason) -> Self {
        MalformedMessage { line: excerpt(line), reason }
    }
}

/// Why a line is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// No message at all, such as output of somebody else.
    #[error("expected a kind in capitals, such as READY, then a space or the end of the line")]
    NotAMessage,
    /// A message of a known kind, with a payload that it cannot have.
    #[error("expected {expected} after {kind}")]
    Payload {
        /// The kind of the message.
        kind: &'static str,
        /// What comes after it.
        expected: &'static str,
    },
    /// The same, where the payload is JSON.
    #[error("expected {expected} after {kind}, {error}")]
    Json {
        /// The kind of the message.
        kind: &'static str,
        /// What comes after it.
        expected: &'static str,
        /// What the JSON parser says, with its line and column in the payload.
        error: String,
    },
}
