//! The requests and responses of hookpool as JSON.
//!
//! `hookpool run` reads [`RequestLine`]s and writes [`HookResponse`]s, one JSON object
//! per line; `hookpool serve` takes the same objects over HTTP. Programs that talk to
//! either can use these types. Every type has a schema for OpenAPI.
#![forbid(unsafe_code)]

mod build;
mod caller;
mod control;
mod event;
mod fields;
mod request;
mod response;
mod service;
mod status;

pub use build::{
    Before, BuildEvent, BuildRequest, BuildResult, BuildSource, Captured, EnvironmentUse, Extension, Fallback, HookRun,
    HookState, Origin, OutputFile,
};
pub use caller::{Caller, ResourceLimit, Text};
pub use control::{CancelledRequest, Limits, LimitsChange, Restart, Restarted};
pub use event::{Happening, PoolEvent, Selection};
pub use fields::InvalidRequest;
pub use request::{HookRequest, Id, RequestLine};
pub use response::{Answer, Error, ExitReason, HookResponse, Timing, Worker, milliseconds};
pub use service::{API_VERSION, Admission, DRAINING, Drain, Phase, Problem, Version};
pub use status::{
    AnswerCounts, DelayedPool, EnvironmentCounts, Listed, QuarantinedPool, RequestStatus, Status, TemplateStatus,
    WorkerStatus,
};

/// A value as a line of JSON Lines, with its newline.
///
/// # Panics
/// If the value cannot be written as JSON, which the types of this crate can.
#[must_use]
pub fn to_line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings, numbers and JSON values can be written as JSON");
    line.push(b'\n');
    line
}
