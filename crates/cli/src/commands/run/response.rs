//! Writes a response as a line of the output. Callers may rely on the order of the
//! fields, and on each being present.

use std::borrow::Cow;

use hookpool_frontend::AnswerUse;
use hookpool_supervisor::{ErrorKind, HookError, Response, WorkerInfo};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::request::Id;
use crate::flags::with_flags;
use crate::format::{TimingFields, answer_fields};

/// A response. `None` is written as null and means unknown.
#[derive(Debug, Serialize)]
pub struct ResponseLine<'a> {
    id: Option<&'a RawValue>,
    ok: bool,
    result: Option<Value>,
    error: Option<HookError>,
    line: Option<u64>,
    tree: Option<Cow<'a, str>>,
    hook: Option<&'a str>,
    worker: Option<WorkerInfo>,
    answer: Value,
    timing: TimingFields,
    stdout: String,
    stderr: String,
    stdout_truncated: bool,
    stderr_truncated: bool,
}

impl<'a> ResponseLine<'a> {
    /// The response of the pool to the request with this id.
    pub fn answered(id: &'a Id, response: Response, answer: &AnswerUse) -> Self {
        let (stdout, stderr) = (response.stdout.text(), response.stderr.text());
        let (result, error) = match response.outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(with_flags(error))),
        };
        Self {
            id: Some(id.as_json()),
            ok: error.is_none(),
            result,
            error,
            line: None,
            tree: Some(response.tree.to_string_lossy().into_owned().into()),
            hook: Some(response.hook.name()),
            worker: response.worker,
            answer: answer_fields(answer),
            timing: response.timing.into(),
            stdout,
            stderr,
            stdout_truncated: response.stdout.truncated,
            stderr_truncated: response.stderr.truncated,
        }
    }

    /// The response to a request that the pool did not admit.
    pub fn refused(id: &'a Id, tree: &'a str, hook: &'a str, error: HookError) -> Self {
        Self { id: Some(id.as_json()), tree: Some(tree.into()), hook: Some(hook), ..Self::failed(error) }
    }

    /// The response to a line that is not a request.
    pub fn invalid(line: u64, error: HookError) -> Self {
        Self { line: Some(line), ..Self::failed(error) }
    }

    fn failed(error: HookError) -> Self {
        Self {
            id: None,
            ok: false,
            result: None,
            error: Some(with_flags(error)),
            line: None,
            tree: None,
            hook: None,
            worker: None,
            answer: Value::Null,
            timing: TimingFields::default(),
            stdout: String::new(),
            stderr: String::new(),
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }

    /// The line, with its newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("strings, numbers and JSON values can be written as JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// The error for a line that is not a request.
pub fn invalid_request(message: impl ToString) -> HookError {
    HookError::new(ErrorKind::InvalidRequest, message.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::request::RequestLine;
    use super::*;
    use hookpool_supervisor::ExitReason;

    fn text(line: &ResponseLine<'_>) -> String {
        String::from_utf8(line.to_bytes()).unwrap()
    }

    #[test]
    fn an_invalid_line_has_every_field() {
        let expected = concat!(
            r#"{"id":null,"ok":false,"result":null,"error":{"kind":"InvalidRequest","message":"id: missing","#,
            r#""exception":null,"unsupported_operation":false,"traceback":null,"exit":null,"hint":null},"line":3,"#,
            r#""tree":null,"hook":null,"worker":null,"answer":null,"timing":{"queued_ms":null,"prepare_ms":null,"start_ms":null,"hook_ms":null},"#,
            r#""stdout":"","stderr":"","stdout_truncated":false,"stderr_truncated":false}"#,
            "\n"
        );
        assert_eq!(text(&ResponseLine::invalid(3, invalid_request("id: missing"))), expected);
    }

    #[test]
    fn a_refused_request_keeps_its_names() {
        let Ok(Some(RequestLine::Cancel(id))) = RequestLine::parse(br#"{"cancel": 1e2}"#) else { panic!("no id") };
        let error = HookError::new(ErrorKind::Interrupted, "m").with_hint("h").with_exit(ExitReason::ExitCode(7));
        let expected = concat!(
            r#"{"id":1e2,"ok":false,"result":null,"error":{"kind":"Interrupted","message":"m","exception":null,"#,
            r#""unsupported_operation":false,"traceback":null,"exit":{"exit_code":7},"hint":"h"},"line":null,"#,
            r#""tree":"t\n","hook":"build_wheel","worker":null,"#,
        );
        let line = text(&ResponseLine::refused(&id, "t\n", "build_wheel", error));
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn a_signal_is_named() {
        let error = HookError::new(ErrorKind::HookCrashed, "m").with_exit(ExitReason::Signal("SIGSEGV".into()));
        assert!(text(&ResponseLine::invalid(1, error)).contains(r#""exit":{"signal":"SIGSEGV"}"#));
    }
}
