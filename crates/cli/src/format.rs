//! How values are written: text that a terminal can bear, and times in
//! milliseconds.

use std::fmt::{self, Write};

use hookpool_frontend::{AnswerUse, Keeping};
use hookpool_supervisor::{ExitReason, HookError, Timing, WorkerInfo};
pub use hookpool_wire::milliseconds;

use crate::flags::with_flags;

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

/// The times of a hook as they appear in JSON.
pub fn timing_fields(timing: Timing) -> hookpool_wire::Timing {
    hookpool_wire::Timing {
        queued_ms: timing.queued.map(milliseconds),
        prepare_ms: timing.prepare.map(milliseconds),
        start_ms: timing.start.map(milliseconds),
        hook_ms: timing.hook.map(milliseconds),
    }
}

/// A worker as it appears in JSON.
pub fn worker_fields(worker: WorkerInfo) -> hookpool_wire::Worker {
    let WorkerInfo { pid, generation, start_method } = worker;
    hookpool_wire::Worker { pid, generation, start_method: start_method.name().to_owned() }
}

/// An error as it appears in JSON, with the flags that its hint is about.
pub fn error_fields(error: HookError) -> hookpool_wire::Error {
    let error = with_flags(error);
    hookpool_wire::Error {
        kind: error.kind.to_string(),
        message: error.message,
        exception: error.exception,
        unsupported_operation: error.unsupported_operation,
        traceback: error.traceback,
        exit: error.exit.map(|exit| match exit {
            ExitReason::ExitCode(code) => hookpool_wire::ExitReason::ExitCode(code),
            ExitReason::Signal(name) => hookpool_wire::ExitReason::Signal(name),
            ExitReason::Unknown => hookpool_wire::ExitReason::Unknown,
        }),
        hint: error.hint,
    }
}

/// What became of an answer, as it appears in JSON; `None` if such answers are not kept.
pub fn answer_fields(answer: &AnswerUse) -> Option<hookpool_wire::Answer> {
    match answer {
        AnswerUse::Used { saved } => Some(hookpool_wire::Answer::Used { saved_ms: milliseconds(*saved) }),
        AnswerUse::New(Keeping::Kept) => Some(hookpool_wire::Answer::Kept),
        AnswerUse::New(Keeping::NotKept(reason)) => Some(hookpool_wire::Answer::NotKept { reason: reason.to_string() }),
        AnswerUse::New(Keeping::Mismatch(difference)) => {
            Some(hookpool_wire::Answer::Wrong { difference: difference.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        let json = serde_json::to_string(&timing_fields(timing)).unwrap();
        assert_eq!(json, r#"{"queued_ms":0.1,"prepare_ms":0.0,"start_ms":null,"hook_ms":9812.345}"#);
    }
}
