//! `hookpool run` on a small source tree: requests and responses.

mod common;

use common::{Scene, WAITING, is_gone, kind, request, responses};
use serde_json::{Value, json};

const RUN: [&str; 2] = ["run", "--no-build-isolation"];

#[test]
fn a_hook_that_succeeds() {
    let scene = Scene::new();
    let line =
        r#"{"id": "\u0041", "tree": "tree", "hook": "get_requires_for_build_wheel", "config_settings": {"x": ["1"]}}"#;
    let output = scene.output(&RUN, line);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(br#"{"id":"\u0041","ok":true,"result":["flit","['1']"],"error":null,"line":null,"tree":"tree","hook":"get_requires_for_build_wheel","worker":{"pid":"#));
    let response = &responses(&output.stdout)[0];
    assert_eq!(response["worker"]["generation"], 1);
    let expected = if cfg!(target_os = "linux") { "forkserver" } else { "spawn" };
    assert_eq!(response["worker"]["start_method"], expected);
    // Zero where its acceptance and its result were read together.
    assert!(response["timing"]["hook_ms"].as_f64().unwrap() >= 0.0);
    assert_eq!((&response["stdout"], &response["stderr"]), (&json!("standard output\n"), &json!("standard error\n")));
    assert_eq!((&response["stdout_truncated"], &response["stderr_truncated"]), (&json!(false), &json!(false)));
    assert!(output.stderr.is_empty());
    scene.assert_clean();
}

#[test]
fn hooks_that_fail_have_their_errors() {
    let scene = Scene::new();
    let lines = [request("1", "build_wheel"), request("2", "build_sdist"), request("3", "build_editable")].concat();
    let output = scene.output(&RUN, lines + &request("4", "get_requires_for_build_wheel"));
    assert_eq!(output.status.code(), Some(1));
    let responses = responses(&output.stdout);
    let error = |id: i32| responses.iter().find(|response| response["id"] == id).unwrap()["error"].clone();
    assert_eq!(error(1)["kind"], "HookRuntimeError");
    assert_eq!(error(1)["exception"], json!("ValueError"));
    assert!(error(1)["message"].as_str().unwrap().starts_with("ValueError: no wheel today\n  at "));
    assert!(error(1)["traceback"].as_str().unwrap().contains("backend.py"));
    assert_eq!((&error(2)["kind"], &error(2)["exit"]), (&json!("HookCrashed"), &json!({"exit_code": 7})));
    assert_eq!(error(3)["kind"], "UnsupportedHook");
    assert_eq!(error(4), Value::Null);
}

#[test]
fn f37_malformed_lines_cost_nobody_else_anything() {
    let scene = Scene::new();
    let good = request("1", "get_requires_for_build_wheel");
    let mut input = [&good, "\n", "{\"id\": 1\n", &good].concat().into_bytes();
    input.extend(b"{\"id\": \"\xff\"}\n{\"id\": 2, \"tree\": \"tree\", \"hook\": \"build_wheel\", \"nope\": 1}\n");
    input.extend(good.trim_end().as_bytes());
    let output = scene.output(&RUN, input);
    assert_eq!(output.status.code(), Some(1));
    let responses = responses(&output.stdout);
    assert_eq!(responses.iter().filter(|response| response["ok"] == true).count(), 3);
    let mut invalid: Vec<_> = responses.iter().filter(|response| kind(response) == "InvalidRequest").collect();
    invalid.sort_by_key(|response| response["line"].as_u64());
    assert_eq!(invalid.iter().map(|response| response["line"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 5, 6]);
    assert!(invalid.iter().all(|response| response["id"].is_null() && response["tree"].is_null()));
    assert!(invalid[2]["error"]["message"].as_str().unwrap().contains("unknown field `nope`"));
}

#[test]
fn an_unknown_hook_and_a_tree_that_is_not_there() {
    let scene = Scene::new();
    let lines = request("7.0", "build-wheel") + "{\"id\": 1e2, \"tree\": \"nowhere\", \"hook\": \"build_wheel\"}\n";
    let output = scene.output(&RUN, lines);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r#"{"id":7.0,"ok":false,"result":null,"error":{"kind":"InvalidHookName""#), "{text}");
    assert!(text.contains(r#"{"id":1e2,"ok":false,"result":null,"error":{"kind":"InvalidSource""#), "{text}");
}

#[test]
fn no_input_is_no_failure() {
    let scene = Scene::new();
    let output = scene.output(&RUN, "");
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    scene.assert_clean();
}

#[test]
fn an_answer_does_not_wait_for_more_input() {
    let scene = Scene::new();
    let mut run = scene.run(&[]);
    run.write(request("1", "get_requires_for_build_wheel"));
    assert_eq!(run.response()["ok"], true);
    run.write("nonsense\n");
    assert_eq!(run.response()["line"], 2);
    let (rest, status) = run.end();
    assert_eq!((rest.len(), status.code()), (0, Some(1)));
}

#[test]
fn f15_requests_are_cancelled_by_their_id() {
    let scene = Scene::new();
    let mut run = scene.run(&[]);
    // One runs, one waits for it, and the third has a different id.
    run.write([request("7", WAITING), request("7", WAITING), request("\"7\"", WAITING)].concat());
    let hook = scene.wait_for_start();
    run.write("{\"cancel\": 8}\n{\"cancel\": 7}\n");
    for _ in 0..2 {
        let response = run.response();
        assert_eq!((&response["id"], kind(&response)), (&json!(7), "Cancelled"));
    }
    assert!(is_gone(hook));
    scene.wait_for_start();
    scene.let_go();
    let response = run.response();
    assert_eq!((&response["id"], &response["result"]), (&json!("7"), &json!(["gone"])));
    assert_eq!(run.end().1.code(), Some(1));
    scene.assert_clean();
}

#[test]
fn a_full_queue_stops_the_reading() {
    let scene = Scene::new();
    let mut run = scene.run(&["--queue-size", "1"]);
    run.write(request("1", WAITING) + "nonsense\n");
    scene.wait_for_start();
    scene.let_go();
    // The second line is read when the first is answered.
    assert_eq!(run.response()["id"], 1);
    assert_eq!(kind(&run.response()), "InvalidRequest");
    assert_eq!(run.end().1.code(), Some(1));
}

#[test]
fn a_request_has_its_own_time_limit() {
    let scene = Scene::new();
    let line = format!(r#"{{"id": 1, "tree": "tree", "hook": "{WAITING}", "timeout": "200ms"}}"#);
    let mut run = scene.run(&["--hook-timeout", "1h"]);
    run.write(line + "\n");
    let hook = scene.wait_for_start();
    assert_eq!(kind(&run.response()), "HookTimeout");
    assert!(is_gone(hook));
    assert_eq!(run.end().1.code(), Some(1));
}

#[test]
fn f36_a_reader_that_goes_away_ends_everything() {
    let scene = Scene::new();
    let mut run = scene.run(&[]);
    run.write(request("1", "get_requires_for_build_wheel") + &request("2", WAITING));
    assert_eq!(run.response()["id"], 1);
    let hook = scene.wait_for_start();
    drop(run.stdout.take());
    assert_eq!(run.child.wait().unwrap().code(), Some(141));
    assert!(is_gone(hook));
    scene.assert_clean();
}

#[test]
fn an_input_that_cannot_be_read_is_an_error() {
    let scene = Scene::new();
    let folder = std::fs::File::open(scene.path("tree")).unwrap();
    let output = scene.command(&RUN).stdin(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: cannot read standard input"));
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let scene = Scene::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let lines = std::fs::File::create_new(scene.path("lines")).map(|_| scene.path("lines")).unwrap();
    std::fs::write(&lines, request("1", "get_requires_for_build_wheel")).unwrap();
    let input = std::fs::File::open(lines).unwrap();
    let output = scene.command(&RUN).stdin(input).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output: No space left"));
    scene.assert_clean();
}

#[test]
fn a_bad_interpreter_of_a_request_fails_that_request_alone() {
    let scene = Scene::new();
    let good = request("2", "get_requires_for_build_wheel");
    let bad = good.replace('}', ", \"python\": \"/no/such/python\"}").replace('2', "1");
    let output = scene.output(&[&RUN[..], &["-q"]].concat(), bad + &good);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0));
    let mut responses = responses(&output.stdout);
    responses.sort_by_key(|response| response["id"].as_u64());
    assert_eq!(kind(&responses[0]), "WorkerStartFailed");
    assert!(responses[0]["error"]["message"].as_str().unwrap().contains("/no/such/python"));
    assert_eq!(responses[1]["ok"], true);
}

#[test]
fn variables_of_a_request_reach_its_hook() {
    let scene = Scene::new();
    let backend =
        "import os\ndef get_requires_for_build_wheel(config_settings=None):\n    return [os.environ['COLOUR']]\n";
    std::fs::write(scene.path("tree/colours.py"), backend).unwrap();
    let line = |colour| {
        let plain = request("1", "get_requires_for_build_wheel");
        plain.replace('}', &format!(", \"backend\": \"colours\", \"env\": {{\"COLOUR\": \"{colour}\"}}}}"))
    };
    let output = scene.output(&RUN, line("red") + &line("blue"));
    let mut results: Vec<_> = responses(&output.stdout).iter().map(|response| response["result"].to_string()).collect();
    results.sort();
    assert_eq!(results, ["[\"blue\"]", "[\"red\"]"]);
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_leaves_nothing() {
    let scene = Scene::new();
    for arguments in ["run --no-build-isolation", "hookd -- --help"] {
        let like = scene.command(&[]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -f 0; exec \"$0\" {arguments}")]).arg(like.get_program());
        command.current_dir(like.get_current_dir().unwrap()).env("TMPDIR", scene.path("temporary"));
        command.env("HOME", scene.path("home")).env_remove("XDG_CACHE_HOME");
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments}: {message}");
        assert!(message.contains("File too large"), "{arguments}: {message}");
    }
    scene.assert_clean();
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let scene = Scene::new();
    let output = scene.output(&RUN, "\u{feff}".to_owned() + &request("1", "get_requires_for_build_wheel"));
    assert_eq!((output.status.code(), &responses(&output.stdout)[0]["ok"]), (Some(0), &json!(true)));
}

#[test]
fn text_of_others_cannot_look_like_log_messages() {
    let scene = Scene::new();
    let name = "x\n2026-01-01 ERROR forged \u{1b}[31m";
    std::fs::rename(scene.path("tree"), scene.path(name)).unwrap();
    let line = json!({"id": 1, "tree": name, "hook": "get_requires_for_build_wheel", "python": format!("/no/{name}")});
    for flags in [["-vvv", "--log-format=text"], ["-vvv", "--log-format=json"]] {
        let output = scene.output(&[&RUN[..], &flags].concat(), line.to_string());
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("forged"), "{log}");
        assert!(!log.contains('\x1b') && !log.lines().any(|line| line.starts_with("2026-01-01 ERROR")), "{log}");
    }
    let output = scene.output(&[&RUN[..], &["--python", &format!("/no/{name}")]].concat(), "");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("forged") && !message.contains("\n2026") && !message.contains('\x1b'), "{message}");
}

#[test]
fn fields_that_are_empty_are_named() {
    let scene = Scene::new();
    let plain = request("1", "get_requires_for_build_wheel");
    let with = |field: &str| plain.replace('}', &format!(", {field}}}"));
    let output = scene.output(&RUN, with(r#""backend": """#) + &with(r#""backend_path": [""]"#));
    let messages: Vec<_> = responses(&output.stdout).iter().map(|response| response["error"].clone()).collect();
    assert_eq!((messages.len(), output.status.code()), (2, Some(1)));
    for (error, field) in messages.iter().zip(["backend: expected", "backend_path: expected"]) {
        assert_eq!(error["kind"], "InvalidRequest");
        assert!(error["message"].as_str().unwrap().starts_with(field), "{error}");
    }
}
