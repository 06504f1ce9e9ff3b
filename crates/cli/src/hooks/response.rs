//! From a response of the supervisor to one as it is written.

use hookpool_frontend::AnswerUse;
use hookpool_supervisor::{ErrorKind, HookError, Response};
use hookpool_wire::{HookResponse, Id};

use crate::format::{answer_fields, error_fields, timing_fields, worker_fields};

/// The response of the pool to the request with this id.
pub fn answered(id: Id, response: Response, answer: &AnswerUse) -> HookResponse {
    let (stdout, stderr) = (response.stdout.text(), response.stderr.text());
    let (result, error) = match response.outcome {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error_fields(error))),
    };
    HookResponse {
        id: Some(id),
        ok: error.is_none(),
        result,
        error,
        line: None,
        tree: Some(response.tree.to_string_lossy().into_owned()),
        hook: Some(response.hook.name().to_owned()),
        worker: response.worker.map(worker_fields),
        answer: answer_fields(answer),
        timing: timing_fields(response.timing),
        stdout,
        stderr,
        stdout_truncated: response.stdout.truncated,
        stderr_truncated: response.stderr.truncated,
    }
}

/// The response to a request that the pool did not admit.
pub fn refused(id: Id, tree: String, hook: &str, error: HookError) -> HookResponse {
    let failed = HookResponse::failed(error_fields(error));
    HookResponse { id: Some(id), tree: Some(tree), hook: Some(hook.to_owned()), ..failed }
}

/// The response to a line that is not a request.
pub fn invalid(line: u64, message: impl ToString) -> HookResponse {
    let error = HookError::new(ErrorKind::InvalidRequest, message.to_string());
    HookResponse { line: Some(line), ..HookResponse::failed(error_fields(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_supervisor::ExitReason;
    use hookpool_wire::{RequestLine, to_line};

    fn text(response: &HookResponse) -> String {
        String::from_utf8(to_line(response)).unwrap()
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
        assert_eq!(text(&invalid(3, "id: missing")), expected);
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
        let line = text(&refused(id, "t\n".into(), "build_wheel", error));
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn a_signal_is_named() {
        let error = HookError::new(ErrorKind::HookCrashed, "m").with_exit(ExitReason::Signal("SIGSEGV".into()));
        let response = HookResponse::failed(error_fields(error));
        assert!(text(&response).contains(r#""exit":{"signal":"SIGSEGV"}"#));
    }
}
