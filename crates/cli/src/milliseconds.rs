//! Lengths of time as people and programs read them.

use std::time::Duration;

use hookpool_supervisor::Timing;
use serde::Serialize;

/// Milliseconds to the microsecond: three decimals at most.
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// Where the time of a hook went, in output for programs.
#[derive(Debug, Default, Serialize)]
pub struct Milliseconds {
    pub queued_ms: Option<f64>,
    pub prepare_ms: Option<f64>,
    pub start_ms: Option<f64>,
    pub hook_ms: Option<f64>,
}

impl From<Timing> for Milliseconds {
    fn from(timing: Timing) -> Self {
        Self {
            queued_ms: timing.queued.map(milliseconds),
            prepare_ms: timing.prepare.map(milliseconds),
            start_ms: timing.start.map(milliseconds),
            hook_ms: timing.hook.map(milliseconds),
        }
    }
}
