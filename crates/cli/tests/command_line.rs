//! The command line: help, usage errors, completions, folders, interpreters.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Scene, request, responses};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_tells_what_a_person_needs() {
    let scene = Scene::new();
    let top = scene.output(&["--help"], "");
    assert_eq!(top.status.code(), Some(0));
    for words in ["hookpool run --no-build-isolation", "Exit codes", "completions", "--log-format"] {
        assert!(text(&top.stdout).contains(words), "{words}");
    }
    let run = scene.output(&["run", "--help"], "");
    for words in
        ["Run those that you trust", "HOOKPOOL_JOBS", "HOOKPOOL_NO_BUILD_ISOLATION", "SIGHUP", "[default: 60s]"]
    {
        assert!(text(&run.stdout).contains(words), "{words}");
    }
    assert!(text(&scene.output(&["--version"], "").stdout).starts_with("hookpool "));
}

#[test]
fn wrong_usage_names_the_flag_and_the_value() {
    let scene = Scene::new();
    for (arguments, expected) in [
        (&["run", "--jobs", "0"][..], &["'0'", "--jobs", "1 or more"][..]),
        (&["run", "--idle-timeout", "5"], &["'5'", "--idle-timeout", "10s"]),
        (&["run", "--health-interval=0"], &["'0'", "--health-interval", "above zero"]),
        (&["run", "--health-timeout=99ms"], &["'99ms'", "--health-timeout", "expected at least 100ms"]),
        (&["run", "--startup-timeout=1ms"], &["'1ms'", "--startup-timeout", "expected at least 100ms"]),
        (&["run", "--hook-memory-limit=512"], &["'512'", "--hook-memory-limit", "512M"]),
        (&["run", "--queue-size=0"], &["'0'", "--queue-size", "from 1 to"]),
        (&["run", "--start-method=fork"], &["'fork'", "--start-method", "forkserver", "spawn"]),
        (&["run", "--max-templates=0"], &["'0'", "--max-templates", "1 or more"]),
        (&["check"], &["<SOURCE>"]),
        (&["run", "--log-format=xml"], &["'xml'", "--log-format", "json"]),
        (&["run", "--build-constraint=/no/such/file"], &["--build-constraint /no/such/file"]),
        (&["wheel", "-C", "key", "x"], &["'key'", "--config-setting", "KEY=VALUE"]),
        (&["metadata"], &["<SOURCE>"]),
        (&[], &["Usage"]),
    ] {
        let output = scene.output(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        for words in expected {
            assert!(text(&output.stderr).contains(words), "{arguments:?}: {words}\n{}", text(&output.stderr));
        }
    }
}

#[test]
fn variables_stand_in_for_flags() {
    let scene = Scene::new();
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = scene.command(&[&["run"], arguments].concat()).envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), text(&output.stderr).to_owned())
    };
    assert_eq!(run(&[("HOOKPOOL_NO_BUILD_ISOLATION", "1"), ("HOOKPOOL_JOBS", "2")], &[]), (Some(0), String::new()));
    let (code, message) = run(&[("HOOKPOOL_NO_BUILD_ISOLATION", "1"), ("HOOKPOOL_JOBS", "many")], &[]);
    assert!(code == Some(2) && message.contains("'many'") && message.contains("--jobs"), "{message}");
    // A flag overrides its variable, and an empty variable is unset.
    let empty = [("HOOKPOOL_JOBS", "many"), ("HOOKPOOL_GRACE_PERIOD", ""), ("HOOKPOOL_KILL_DETACHED", "")];
    assert_eq!(run(&empty, &["--no-build-isolation", "-j1"]), (Some(0), String::new()));
    assert_eq!(run(&[("HOOKPOOL_NO_BUILD_ISOLATION", "maybe")], &[]).0, Some(2));
    let (code, log) = run(&[("HOOKPOOL_VERBOSE", "1"), ("HOOKPOOL_LOG_FORMAT", "json")], &["--no-build-isolation"]);
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (code, last["level"].as_str(), last["message"].as_str()),
        (Some(0), Some("INFO"), Some("answering what is left"))
    );
}

#[test]
fn an_interpreter_that_does_not_work_is_named() {
    let scene = Scene::new();
    for python in ["/no/such/python", "/bin/false", "no-such-python"] {
        let output = scene.output(&["run", "--no-build-isolation", "--python", python], request("1", "build_wheel"));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), ""));
        assert!(text(&output.stderr).contains(python), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("\nhint: --python chooses the interpreter\n"));
    }
    scene.assert_clean();
}

#[test]
fn f54_a_cache_folder_that_cannot_be_trusted_is_not_used() {
    let scene = Scene::new();
    let open = scene.path("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let line = request("1", "get_requires_for_build_wheel");
    let output = scene.output(&["run", "--no-build-isolation", "--cache-dir", "open"], line.repeat(3));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(responses(&output.stdout).len(), 3);
    assert_eq!(text(&output.stderr).matches("can be written by others").count(), 1, "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(open).unwrap().count(), 0);
    scene.assert_clean();
}

#[test]
fn f32_a_temporary_folder_that_cannot_be_used_is_named() {
    let scene = Scene::new();
    let output = scene.command(&["run", "--no-build-isolation"]).env("TMPDIR", "/no/such/folder").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("/no/such/folder: No such file"), "{}", text(&output.stderr));
    let output = scene.output(&["run", "--no-build-isolation", "--capture-dir", "/dev/null/x"], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("/dev/null/x"), "{}", text(&output.stderr));
}

#[test]
fn completions_know_the_commands() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = scene.output(&["completions", shell], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("no-build-isolation"), "{shell}");
    }
    assert_eq!(scene.output(&["completions", "tea"], "").status.code(), Some(2));
}

#[test]
fn hookd_is_the_bare_worker() {
    let scene = Scene::new();
    let help = scene.output(&["hookd", "--", "--help"], "");
    assert!(text(&help.stdout).contains("usage: hookd"), "{}", text(&help.stderr));
    let output = scene.output(&["hookd", "--json", "tree"], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("READY"), "{}", text(&output.stdout));
    let output = scene.output(&["hookd", "--python", "/no/such/python"], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("/no/such/python"));
}

#[test]
fn the_cache_folder_is_shown_and_cleared() {
    let scene = Scene::new();
    let folder = scene.output(&["cache", "dir"], "");
    assert_eq!(text(&folder.stdout), format!("{}\n", scene.path("home/.cache/hookpool").display()));
    assert!(!scene.path("home/.cache").exists());
    let nothing = "removed: nothing\nfreed: 0 B\n";
    assert_eq!(text(&scene.output(&["cache", "prune"], "").stdout), nothing);
    scene.output(&["hookd", "--cache-dir", "kept", "--version"], "");
    assert_eq!(text(&scene.output(&["cache", "prune", "--cache-dir", "kept"], "").stdout), nothing);
    let cleaned = scene.output(&["cache", "clean", "--cache-dir", "kept"], "");
    assert!(text(&cleaned.stdout).starts_with("removed: 1 worker program\nfreed: "), "{}", text(&cleaned.stdout));
    let wrong = scene.output(&["cache", "prune", "--older-than", "30"], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("such as 12h or 30d"));
    std::fs::set_permissions(scene.path("kept"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = scene.output(&["cache", "clean", "--cache-dir", "kept"], "");
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("0777"));
}
