//! How values of this library are written as JSON, where serde's own way differs
//! from that of the program's JSON lines.

use std::path::Path;
use std::time::Duration;

use serde::Serializer;

/// Milliseconds, with the microseconds as decimals.
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
pub(crate) fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}

/// The same, or null.
pub(crate) fn optional_milliseconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => milliseconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// A path as text. What is not UTF-8 is replaced; serde refuses such paths.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
