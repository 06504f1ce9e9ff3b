//! Valid and invalid lines.

use super::*;
use serde_json::json;

fn parse(line: &str) -> Result<Option<RequestLine>, InvalidRequest> {
    RequestLine::parse(line.as_bytes())
}

fn request(line: &str) -> HookRequest {
    match parse(line) {
        Ok(Some(RequestLine::Hook(request))) => *request,
        other => panic!("{line}: {other:?}"),
    }
}

fn message(line: &str) -> String {
    match parse(line) {
        Err(error) => error.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

/// A request with additional fields.
fn with(fields: &str) -> String {
    format!(r#"{{"id": 1, "tree": "t", "hook": "build_wheel", {fields}}}"#)
}

#[test]
fn every_field_arrives() {
    let request = request(
        r#" {"id": 7, "tree": "a b/é", "hook": "build_wheel", "wheel_directory": "out", "metadata_directory": "m",
            "config_settings": {"z": ["1", "2"], "a": true}, "backend": "b:o", "backend_path": [".", "x"],
            "requires": ["flit"], "python": "py", "priority": -3, "timeout": "250ms", "env": {"A": "1", "B": ""}} "#,
    );
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        concat!(
            r#"{"id":7,"tree":"a b/é","hook":"build_wheel","wheel_directory":"out","metadata_directory":"m","#,
            r#""config_settings":{"z":["1","2"],"a":true},"backend":"b:o","backend_path":[".","x"],"#,
            r#""requires":["flit"],"python":"py","priority":-3,"timeout":"250ms","env":{"A":"1","B":""}}"#
        )
    );
}

#[test]
fn what_is_written_can_be_read() {
    let all = request(&with(r#""requires": [], "env": {"A": "b"}, "timeout": "1s""#));
    for request in [all, HookRequest::new(Id::from("é"), "t", "build_sdist"), HookRequest::new(7.into(), "t", "h")] {
        match RequestLine::parse(&crate::to_line(&request)) {
            Ok(Some(RequestLine::Hook(read))) => assert_eq!(*read, request),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn null_is_absent() {
    let request = request(
        r#"{"id": "x", "tree": "t", "hook": "build_sdist", "wheel_directory": null, "sdist_directory": null,
            "metadata_directory": null, "config_settings": null, "backend": null, "backend_path": null,
            "requires": null, "python": null, "priority": null, "timeout": null, "env": null, "cancel": null}"#,
    );
    assert_eq!(request, HookRequest::new("x".into(), "t", "build_sdist"));
}

#[test]
fn ids_are_kept_as_they_are_written() {
    for id in ["1e2", "7.0", "-0", "123456789012345678901234567890", r#""""#, r#""\u0041""#, r#""é""#] {
        let parsed = request(&format!(r#"{{"id": {id}, "tree": "t", "hook": "build_sdist"}}"#));
        assert_eq!(parsed.id.as_json().get(), id);
    }
}

#[test]
fn ids_are_equal_by_type_and_text() {
    let id = |id: &str| match parse(&format!(r#"{{"cancel": {id}}}"#)) {
        Ok(Some(RequestLine::Cancel(id))) => id,
        other => panic!("{id}: {other:?}"),
    };
    assert_eq!(id("7"), id("7"));
    assert_eq!(id(r#""A""#), id(r#""\u0041""#));
    assert_ne!(id("7"), id("7.0"));
    assert_ne!(id("7"), id(r#""7""#));
}

#[test]
fn blank_lines_ask_for_nothing() {
    for line in ["", " ", "\t\r"] {
        assert!(matches!(parse(line), Ok(None)), "{line:?}");
    }
    assert!(matches!(parse("{\"cancel\": 1}\r"), Ok(Some(_))));
}

#[test]
fn errors_name_the_field_the_value_and_what_was_expected() {
    let table = [
        ("x".into(), "expected a JSON object, got x"),
        (r#"[1, "t", "build_wheel"]"#.into(), "expected a JSON object, got [1"),
        ("{}".into(), "id: missing, expected a string or a number"),
        (r#"{"id": 1} {}"#.into(), "trailing characters at column 11"),
        (r#"{"id": 1"#.into(), "EOF while parsing an object at column 8"),
        (r#"{"id": null, "tree": "t", "hook": "h"}"#.into(), "id: missing"),
        (r#"{"id": [7], "tree": "t", "hook": "h"}"#.into(), "id: expected a string or a number, got [7]"),
        (r#"{"id": true, "tree": "t", "hook": "h"}"#.into(), "id: expected a string or a number, got true"),
        (r#"{"id": "\ud800", "tree": "t", "hook": "h"}"#.into(), "id: expected a string or a number, got"),
        (r#"{"id": 1, "hook": "build_wheel"}"#.into(), "tree: missing, expected a path"),
        (r#"{"id": 1, "tree": "t"}"#.into(), "hook: missing, expected the name of a hook"),
        (r#"{"id": 1, "tree": 5, "hook": "h"}"#.into(), "tree: expected a path, got 5"),
        (r#"{"id": 1, "id": 2, "tree": "t", "hook": "h"}"#.into(), "duplicate field `id`"),
        (with(r#""nope": 1"#), "unknown field `nope`, expected one of `id`, `tree`"),
        (with(r#""wheel_directory": ["x"]"#), "wheel_directory: expected a path, got [\"x\"]"),
        (with(r#""config_settings": []"#), "config_settings: expected an object, got []"),
        (with(r#""config_settings": {"a": 1, "a": 2}"#), "twice the name \"a\""),
        (with(r#""config_settings": {"a": 1e999}"#), "config_settings: expected an object, got {\"a\": 1e999} (number"),
        (with(r#""backend": 1"#), "backend: expected a string, `module` or `module:object`, got 1"),
        (with(r#""backend": """#), "backend: expected a string, `module` or `module:object`, got \"\""),
        (with(r#""backend_path": ".""#), "backend_path: expected a list of paths, none of them empty, got \".\""),
        (
            with(r#""backend_path": [".", ""]"#),
            "backend_path: expected a list of paths, none of them empty, got [\".\", \"\"]",
        ),
        (with(r#""requires": "flit""#), "requires: expected a list of strings, got \"flit\""),
        (with(r#""python": 3"#), "python: expected a path, got 3"),
        (with(r#""priority": 1.5"#), "priority: expected a whole number of 32 bits, got 1.5"),
        (with(r#""priority": 2147483648"#), "priority: expected a whole number of 32 bits, got 2147483648"),
        (with(r#""timeout": 10"#), "timeout: expected a duration such as \"10s\", got 10"),
        (with(r#""env": {"A": 1}"#), "env: expected an object of strings, got {\"A\": 1}"),
        (with(r#""env": {"A=": ""}"#), "env: \"A=\" is not the name of a variable"),
        (with(r#""env": {"": ""}"#), "env: \"\" is not the name of a variable"),
        (with(r#""env": {"A": "\u0000"}"#), "env: A: the value \"\\0\" contains a NUL"),
        (with(r#""env": {"A": "1", "A": "2"}"#), "twice the name \"A\""),
        (r#"{"cancel": {}}"#.into(), "cancel: expected a string or a number, got {}"),
        (r#"{"cancel": 1, "id": 1}"#.into(), "cancel: expected no other field"),
        (r#"{"cancel": 1, "env": {}}"#.into(), "cancel: expected no other field"),
    ];
    for (line, expected) in table {
        assert!(message(&line).contains(expected), "{line}\n{}\n{expected}", message(&line));
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = RequestLine::parse(b"{\"id\": \"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "the line is not UTF-8 from byte 9 on");
}

#[test]
fn long_values_are_shortened() {
    let message = message(&with(&format!(r#""backend": {}"#, json!(["é".repeat(1000)]))));
    assert!(message.ends_with("...") && message.len() < 300, "{message}");
}

mod properties {
    use super::super::RequestLine;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RequestLine::parse(&line);
        }

        #[test]
        fn no_object_panics(line in r#"\{("(id|tree|hook|env|cancel|timeout)": ("[a-z0-9_\\]{0,8}"|-?[0-9.e]{1,5}|\{\}|null),? ?){0,5}\}"#) {
            let _ = RequestLine::parse(line.as_bytes());
        }
    }
}
