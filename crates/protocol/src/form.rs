//! The payloads that differ between a worker with `--json` and one without.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Details, Failure, HookErrorKind};
use crate::malformed::Reason;
use crate::text::{lossy, push_plain};

/// How results and failures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// `OK`, `ERROR`, `FATAL` and `TRACEBACK` carry JSON (`--json`): nothing is lost.
    #[default]
    Json,
    /// The original's: text for people, newlines in it as the two characters `\n`, which reading
    /// leaves as they are. What an `OK` carries is Python's `str()` of the result.
    Plain,
}

impl Form {
    pub(crate) fn read_result(self, kind: &'static str, payload: &[u8]) -> Result<Value, Reason> {
        match self {
            Form::Json => read_json(kind, "JSON", payload),
            Form::Plain => Ok(Value::String(lossy(payload))),
        }
    }

    pub(crate) fn read_text(self, kind: &'static str, payload: &[u8]) -> Result<String, Reason> {
        match self {
            Form::Json => read_json(kind, "a JSON string", payload),
            Form::Plain => Ok(lossy(payload)),
        }
    }

    /// Reads `<kind> <message>`, the kind by `read_kind`.
    pub(crate) fn read_failure<K>(
        self,
        kind: &'static str,
        payload: &[u8],
        read_kind: impl FnOnce(&str) -> Option<K>,
    ) -> Result<Failure<K>, Reason> {
        let end = payload.iter().position(|&byte| byte == b' ').unwrap_or(payload.len());
        let (name, rest) = payload.split_at(end);
        let failure_kind =
            read_kind(&lossy(name)).ok_or(Reason::Payload { kind, expected: "one of the kinds of failure" })?;
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        match self {
            Form::Json => read_details(kind, rest).map(|details| details.into_failure(failure_kind)),
            Form::Plain => Ok(Failure::new(failure_kind, lossy(rest))),
        }
    }

    /// Plain text cannot show any value but text as Python would: others are written as JSON.
    pub(crate) fn write_result(self, out: &mut Vec<u8>, value: &Value) {
        match (self, value) {
            (Form::Plain, Value::String(text)) => push_plain(out, text.as_bytes()),
            _ => write_json(out, value),
        }
    }

    pub(crate) fn write_text(self, out: &mut Vec<u8>, text: &str) {
        match self {
            Form::Json => write_json(out, text),
            Form::Plain => push_plain(out, text.as_bytes()),
        }
    }

    pub(crate) fn write_error(self, out: &mut Vec<u8>, failure: &Failure) {
        let kind = match (self, failure.kind) {
            (Form::Plain, HookErrorKind::HookCrashed) => HookErrorKind::HookRuntimeError,
            (_, kind) => kind,
        };
        self.write_failure(out, kind.name(), failure);
    }

    /// A kind is one word: blanks in it, which no class has, become `_`.
    pub(crate) fn write_fatal(self, out: &mut Vec<u8>, failure: &Failure<String>) {
        let kind = failure.kind.replace(char::is_whitespace, "_");
        self.write_failure(out, if kind.is_empty() { "_" } else { &kind }, failure);
    }

    fn write_failure<K>(self, out: &mut Vec<u8>, kind: &str, failure: &Failure<K>) {
        out.extend_from_slice(kind.as_bytes());
        out.push(b' ');
        match self {
            Form::Json => write_json(out, &Details::of(failure)),
            Form::Plain => push_plain(out, failure.text().as_bytes()),
        }
    }
}

/// Reads JSON. Bytes that are not UTF-8 are replaced, as in every text of the protocol.
pub(crate) fn read_json<T: DeserializeOwned>(
    kind: &'static str,
    expected: &'static str,
    payload: &[u8],
) -> Result<T, Reason> {
    serde_json::from_str(&String::from_utf8_lossy(payload)).map_err(|error| Reason::Json {
        kind,
        expected,
        error: error.to_string(),
    })
}

/// Reads an object; serde would also take an array, as the fields in their order.
fn read_details(kind: &'static str, payload: &[u8]) -> Result<Details, Reason> {
    let expected = "a JSON object after the kind of failure";
    if !payload.starts_with(b"{") {
        return Err(Reason::Payload { kind, expected });
    }
    read_json(kind, expected, payload)
}

/// Writes compact JSON, in which there is no newline.
pub(crate) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("text keys, and a Vec takes every byte");
}
