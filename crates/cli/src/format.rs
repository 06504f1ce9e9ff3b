//! How values are written: text that a terminal can bear, and times in
//! milliseconds.

use std::fmt::{self, Write};
use std::time::Duration;

use hookpool_frontend::{AnswerUse, Keeping};
use hookpool_supervisor::Timing;
use serde::Serialize;
use serde_json::{Value, json};

/// The text with control characters and other invisible characters escaped.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    // Writing to a string cannot fail.
    let _ = Escaping(&mut printable).write_str(text);
    printable
}

/// Writes text to the target with invisible characters escaped.
pub struct Escaping<'target, Target>(pub &'target mut Target);

impl<Target: Write> Write for Escaping<'_, Target> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\'' | '\\' => self.0.write_char(character)?,
                other => write!(self.0, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// Milliseconds, with the microseconds as decimals.
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// The times of a hook as they appear in JSON.
#[derive(Debug, Default, Serialize)]
pub struct TimingFields {
    queued_ms: Option<f64>,
    prepare_ms: Option<f64>,
    start_ms: Option<f64>,
    hook_ms: Option<f64>,
}

impl From<Timing> for TimingFields {
    fn from(timing: Timing) -> Self {
        Self {
            queued_ms: timing.queued.map(milliseconds),
            prepare_ms: timing.prepare.map(milliseconds),
            start_ms: timing.start.map(milliseconds),
            hook_ms: timing.hook.map(milliseconds),
        }
    }
}

/// What became of an answer, as a JSON object; null if such answers are not kept.
pub fn answer_fields(answer: &AnswerUse) -> Value {
    match answer {
        AnswerUse::Used { saved } => json!({"is": "used", "saved_ms": milliseconds(*saved)}),
        AnswerUse::New(Keeping::Kept) => json!({"is": "kept"}),
        AnswerUse::New(Keeping::NotKept(reason)) => json!({"is": "not_kept", "reason": reason.to_string()}),
        AnswerUse::New(Keeping::Mismatch(difference)) => json!({"is": "wrong", "difference": difference}),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(
            printable("a\nERROR \x1b[31m\r\u{9b}\u{202e}\u{2028}"),
            r"a\nERROR \u{1b}[31m\r\u{9b}\u{202e}\u{2028}"
        );
        for plain in ["/a b/é", r#"it's "so" \ here"#, "日本"] {
            assert_eq!(printable(plain), plain);
        }
    }

    #[test]
    fn times_have_three_decimals_at_most() {
        let timing = Timing {
            queued: Some(Duration::from_nanos(100_999)),
            prepare: Some(Duration::ZERO),
            start: None,
            hook: Some(Duration::from_micros(9_812_345)),
        };
        let json = serde_json::to_string(&TimingFields::from(timing)).unwrap();
        assert_eq!(json, r#"{"queued_ms":0.1,"prepare_ms":0.0,"start_ms":null,"hook_ms":9812.345}"#);
    }
}
