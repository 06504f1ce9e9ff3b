//! A response as a line of the output. The order of the fields, and that each
//! is always there, are promised.

use std::borrow::Cow;

use hookpool_supervisor::{ErrorKind, HookError, Response, WorkerInfo};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::id::Id;
use crate::flags::with_flags;
use crate::milliseconds::Milliseconds;

/// A response. `None` is null: not known.
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
    timing: Milliseconds,
    stdout: String,
    stderr: String,
    stdout_truncated: bool,
    stderr_truncated: bool,
}

impl<'a> ResponseLine<'a> {
    /// The pool's answer to the request of this id.
    pub fn answered(id: &'a Id, response: Response) -> Self {
        let (stdout, stderr) = (response.stdout.text(), response.stderr.text());
        let (result, error) = match response.outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(with_flags(error))),
        };
        Self {
            id: Some(id.written()),
            ok: error.is_none(),
            result,
            error,
            line: None,
            tree: Some(response.tree.to_string_lossy().into_owned().into()),
            hook: Some(response.hook.name()),
            worker: response.worker,
            timing: response.timing.into(),
            stdout,
            stderr,
            stdout_truncated: response.stdout.truncated,
            stderr_truncated: response.stderr.truncated,
        }
    }

    /// The answer to a request that never came to the pool.
    pub fn refused(id: &'a Id, tree: &'a str, hook: &'a str, error: HookError) -> Self {
        Self { id: Some(id.written()), tree: Some(tree.into()), hook: Some(hook), ..Self::failed(error) }
    }

    /// The answer to a line that is no request.
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
            timing: Milliseconds::default(),
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

/// What is wrong with a line.
pub fn invalid_request(message: impl ToString) -> HookError {
    HookError::new(ErrorKind::InvalidRequest, message.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::request_line::RequestLine;
    use super::*;
    use hookpool_supervisor::{ExitReason, Timing};
    use std::time::Duration;

    fn text(line: &ResponseLine<'_>) -> String {
        String::from_utf8(line.to_bytes()).unwrap()
    }

    #[test]
    fn an_invalid_line_has_every_field() {
        let expected = concat!(
            r#"{"id":null,"ok":false,"result":null,"error":{"kind":"InvalidRequest","message":"id: missing","#,
            r#""exception":null,"unsupported_operation":false,"traceback":null,"exit":null,"hint":null},"line":3,"#,
            r#""tree":null,"hook":null,"worker":null,"timing":{"queued_ms":null,"prepare_ms":null,"start_ms":null,"hook_ms":null},"#,
            r#""stdout":"","stderr":"","stdout_truncated":false,"stderr_truncated":false}"#,
            "\n"
        );
        assert_eq!(text(&ResponseLine::invalid(3, invalid_request("id: missing"))), expected);
    }

    #[test]
    fn a_request_that_was_refused_keeps_its_names() {
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
    fn times_have_three_decimals_at_most() {
        let timing = Timing {
            queued: Some(Duration::from_nanos(100_999)),
            prepare: Some(Duration::ZERO),
            start: None,
            hook: Some(Duration::from_micros(9_812_345)),
        };
        let json = serde_json::to_string(&Milliseconds::from(timing)).unwrap();
        assert_eq!(json, r#"{"queued_ms":0.1,"prepare_ms":0.0,"start_ms":null,"hook_ms":9812.345}"#);
    }

    #[test]
    fn a_signal_is_named() {
        let error = HookError::new(ErrorKind::HookCrashed, "m").with_exit(ExitReason::Signal("SIGSEGV".into()));
        assert!(text(&ResponseLine::invalid(1, error)).contains(r#""exit":{"signal":"SIGSEGV"}"#));
    }
}
