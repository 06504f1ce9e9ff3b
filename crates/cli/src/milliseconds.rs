//! Lengths of time as people and programs read them.

use std::time::Duration;

/// Milliseconds to the microsecond: three decimals at most.
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
