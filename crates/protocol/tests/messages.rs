//! Every message, by example.

use hookd_protocol::{Failure, HookErrorKind, ImportedModule, Message, Observed, Reason};
use serde_json::json;

fn parse(line: &str) -> Message {
    Message::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

/// Lines exactly as a worker with `--json` writes them.
#[test]
fn table_of_messages() {
    let crash = Failure { signal: Some("SIGSEGV".into()), ..Failure::new(HookErrorKind::HookCrashed, "") };
    let unsupported = Failure {
        exception: Some("UnsupportedOperation".into()),
        unsupported_operation: true,
        ..Failure::new(HookErrorKind::HookRuntimeError, "no git\nhere")
    };
    let modules = vec![
        ImportedModule { name: "sys".into(), file: None, mtime_ns: None, size: None, preloadable: false },
        ImportedModule {
            name: "a.b".into(),
            file: Some("/a/b.py".into()),
            mtime_ns: Some(-1),
            size: Some(0),
            preloadable: true,
        },
    ];
    let observed = Observed {
        variables: vec!["TERM".into()],
        environment_taken: true,
        programs: vec!["git".into()],
        network: vec!["connect".into()],
        outside: vec!["/etc/hosts".into()],
        written: Some(vec!["build".into()]),
        truncated: true,
    };
    let unknown = Observed { written: None, ..Observed::default() };
    let table = [
        (
            r#"OBSERVED {"variables":["TERM"],"environment_taken":true,"programs":["git"],"network":["connect"],"outside":["/etc/hosts"],"written":["build"],"truncated":true}"#,
            Message::Observed(observed),
        ),
        (
            r#"OBSERVED {"variables":[],"environment_taken":false,"programs":[],"network":[],"outside":[],"written":null,"truncated":false}"#,
            Message::Observed(unknown),
        ),
        ("READY", Message::Ready),
        ("EXPECT action", Message::Other),
        ("EXPECT wheel_directory", Message::Other),
        ("DEBUG", Message::Debug(String::new())),
        ("DEBUG  imported  x", Message::Debug(" imported  x".into())),
        ("STDOUT /tmp/a b", Message::Stdout("/tmp/a b".into())),
        ("STDERR /tmp/2", Message::Stderr("/tmp/2".into())),
        ("OK null", Message::Ok(json!(null))),
        (r#"OK ["wheel","a\nb"]"#, Message::Ok(json!(["wheel", "a\nb"]))),
        (r#"ERROR HookCrashed {"message":"","unsupported_operation":false,"signal":"SIGSEGV"}"#, Message::Error(crash)),
        (
            r#"ERROR HookRuntimeError {"message":"no git\nhere","exception":"UnsupportedOperation","unsupported_operation":true}"#,
            Message::Error(unsupported),
        ),
        (
            r#"FATAL MemoryError {"message":"x","unsupported_operation":false}"#,
            Message::Fatal(Failure::new("MemoryError".into(), "x")),
        ),
        (r#"TRACEBACK "a\nb""#, Message::Traceback("a\nb".into())),
        ("IMPORTED []", Message::Imported(vec![])),
        (
            r#"IMPORTED [{"name":"sys","file":null,"mtime_ns":null,"size":null,"preloadable":false},{"name":"a.b","file":"/a/b.py","mtime_ns":-1,"size":0,"preloadable":true}]"#,
            Message::Imported(modules),
        ),
        ("PONG 17", Message::Pong("17".into())),
        ("SHUTDOWN", Message::Shutdown),
        ("SILENT", Message::Silent),
        ("KEEPING 2", Message::Keeping(2)),
        ("LATER_KIND x", Message::Other),
    ];
    for (line, message) in table {
        assert_eq!(parse(line), message, "{line}");
    }
}

#[test]
fn what_is_no_message() {
    for line in
        ["", " ", " READY", "ready", "Ready", "READY\r", "READY\t", "_READY", "O2 x", "running bdist_wheel", "ÉTAT"]
    {
        let error = Message::parse(line.as_bytes()).unwrap_err();
        assert_eq!(error.reason, Reason::NotAMessage, "{line:?}");
    }
}

#[test]
fn known_kinds_with_a_payload_that_they_cannot_have() {
    let lines = [
        "READY now",
        "SHUTDOWN now",
        "STDOUT",
        "STDERR ",
        "STDOUT a\0b",
        "KEEPING",
        "KEEPING 0",
        "KEEPING -1",
        "KEEPING +1",
        "KEEPING 1 ",
        "KEEPING 2147483648",
        "KEEPING 1.0",
        "OBSERVED",
        "OBSERVED {}",
        r#"OBSERVED {"variables":"TERM"}"#,
        "OK",
        "OK wheel",
        "OK {}{}",
        "OK NaN",
        "ERROR",
        "ERROR HookRuntimeError",
        "ERROR HookRuntimeError {",
        "ERROR HookRuntimeError []",
        r#"ERROR HookRuntimeError "x""#,
        "ERROR ValueError {}",
        r#"ERROR HookCrashed {"exit_code":"1"}"#,
        "FATAL",
        "FATAL  {}",
        "FATAL MemoryError",
        "FATAL a\tb {}",
        "TRACEBACK",
        "TRACEBACK text",
        r#"TRACEBACK ["a"]"#,
        "IMPORTED",
        "IMPORTED {}",
        "IMPORTED [{}]",
        r#"IMPORTED [{"name":"a","size":-1}]"#,
        "PONG",
        "PONG ",
    ];
    for line in lines {
        let error = Message::parse(line.as_bytes()).expect_err(line);
        assert_eq!(error.line, line);
        assert!(!matches!(error.reason, Reason::NotAMessage), "{line}: {error}");
        let kind = line.split(' ').next().unwrap();
        assert!(error.reason.to_string().contains(kind), "{line}: {error}");
    }
}

#[test]
fn failures_may_lack_fields_and_have_others() {
    let failure = Failure::new(HookErrorKind::InvalidAction, "");
    for payload in ["{}", r#"{"message":null,"unsupported_operation":null,"signal":null}"#, r#"{"later":[1]}"#] {
        assert_eq!(parse(&format!("ERROR InvalidAction {payload}")), Message::Error(failure.clone()));
    }
    let modules = vec![ImportedModule { name: "a".into(), file: None, mtime_ns: None, size: None, preloadable: false }];
    assert_eq!(parse(r#"IMPORTED [{"name":"a","later":1}]"#), Message::Imported(modules));
}

#[test]
fn bytes_pass_in_paths_and_are_replaced_in_text() {
    use std::os::unix::ffi::OsStrExt;
    let Ok(Message::Stdout(path)) = Message::parse(b"STDOUT /a\xff") else { panic!("a path") };
    assert_eq!(path.as_os_str().as_bytes(), b"/a\xff");
    assert_eq!(Message::parse(b"DEBUG \xff"), Ok(Message::Debug("\u{fffd}".into())));
    assert_eq!(Message::parse(b"OK \"\xff\""), Ok(Message::Ok(json!("\u{fffd}"))));
}

#[test]
fn errors_quote_the_start_of_the_line() {
    let error = Message::parse("é".repeat(5000).as_bytes()).unwrap_err();
    assert_eq!(error.line, "é".repeat(200) + "…");
    let error = Message::parse(b"KEEPING 0").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"malformed message "KEEPING 0": expected a positive number of processes after KEEPING"#
    );
    let error = Message::parse(b"OK {").unwrap_err().to_string();
    assert!(error.starts_with(r#"malformed message "OK {": expected JSON after OK, EOF while parsing"#), "{error}");
}
