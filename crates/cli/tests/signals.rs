//! Signals to `hookpool run`.
#![allow(clippy::disallowed_methods, reason = "the children of a test are its own")]

mod common;

use common::{Scene, WAITING, is_gone, kind, request, wait_until_gone, wait_until_stopped};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

#[test]
fn the_first_signal_ends_in_good_order() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let scene = Scene::new();
        let mut run = scene.run(&[]);
        run.write([request("1", WAITING), request("2", WAITING)].concat());
        let hook = scene.wait_for_start();
        run.signal(signal);
        for _ in 0..2 {
            assert_eq!(kind(&run.response()), "Interrupted");
        }
        // The program ends although the input is still open.
        assert_eq!(run.child.wait().unwrap().code(), Some(code));
        assert!(is_gone(hook));
        scene.assert_clean();
    }
}

#[test]
fn f18_the_second_signal_kills_at_once() {
    let scene = Scene::new();
    let mut run = scene.run(&["--grace-period", "1h", "-v"]);
    let deaf = request("1", WAITING).replace('}', ", \"config_settings\": {\"deaf\": true}}");
    run.write(deaf);
    let hook = scene.wait_for_start();
    run.signal(Signal::SIGINT);
    run.wait_for_log("ending the running hooks");
    run.signal(Signal::SIGINT);
    assert_eq!(kind(&run.response()), "Interrupted");
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    assert!(is_gone(hook));
    scene.assert_clean();
}

#[test]
fn f35_a_reader_who_stalls_cannot_keep_a_signal_waiting() {
    let scene = Scene::new();
    let mut run = scene.run(&[]);
    let mut stdin = run.stdin.take().unwrap();
    // More responses than the pipe and the buffers before it can hold.
    let input = request("1", WAITING) + &"nonsense\n".repeat(20_000);
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, input.as_bytes())));
    let hook = scene.wait_for_start();
    run.signal(Signal::SIGTERM);
    assert_eq!(run.child.wait().unwrap().code(), Some(143));
    assert!(is_gone(hook));
    writer.join().unwrap();
    scene.assert_clean();
}

#[test]
fn f44_hanging_up_replaces_the_workers_and_loses_nothing() {
    let scene = Scene::new();
    let mut run = scene.run(&["-v"]);
    run.write([request("1", WAITING), request("2", "get_requires_for_build_wheel")].concat());
    scene.wait_for_start();
    run.signal(Signal::SIGHUP);
    run.wait_for_log("replacing all workers");
    scene.let_go();
    let (first, second) = (run.response(), run.response());
    assert_eq!((&first["ok"], &second["ok"]), (&true.into(), &true.into()));
    assert_ne!(first["worker"]["pid"], second["worker"]["pid"]);
    assert_eq!(run.end().1.code(), Some(0));
}

#[test]
fn what_is_ignored_at_the_start_stays_so() {
    let scene = Scene::new();
    // What nohup(1) does.
    let mut command = std::process::Command::new("sh");
    let like = scene.command(&[]);
    command.args(["-c", "trap '' HUP; exec \"$0\" run --no-build-isolation"]).arg(like.get_program());
    command.current_dir(like.get_current_dir().unwrap()).env("TMPDIR", scene.path("temporary"));
    command.env("HOME", scene.path("home")).env_remove("XDG_CACHE_HOME");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, request("1", WAITING).as_bytes()).unwrap();
    scene.wait_for_start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_eq!(u64::from_str_radix(mask.trim(), 16).unwrap() & 1, 1, "{mask}");
    scene.let_go();
    drop(stdin);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn f19_stopping_stops_the_hooks_until_it_is_continued() {
    let scene = Scene::new();
    let mut run = scene.run(&[]);
    run.write(request("1", WAITING));
    let hook = scene.wait_for_start();
    run.signal(Signal::SIGTSTP);
    let stopped = waitpid(run.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(stopped, WaitStatus::Stopped(run.pid(), Signal::SIGSTOP));
    // The worker stops the hook and resumes it.
    wait_until_stopped(hook);
    run.signal(Signal::SIGCONT);
    scene.let_go();
    assert_eq!(run.response()["result"][0], "gone");
    // A second SIGCONT changes nothing.
    run.signal(Signal::SIGCONT);
    assert_eq!(run.end().1.code(), Some(0));
    scene.assert_clean();
}

#[test]
fn a_signal_while_the_interpreter_is_asked_ends_at_once() {
    let scene = Scene::new();
    let python = scene.path("python");
    // hookpool asks the interpreter from a different working directory.
    let tree = scene.path("tree").display().to_string();
    let script = format!("#!/bin/sh\ncd '{tree}' && printf %s $$ >started && exec cat go\n");
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut run = scene.run(&["--python", "./python"]);
    let interpreter = scene.wait_for_start();
    run.signal(Signal::SIGTERM);
    assert_eq!(run.child.wait().unwrap().code(), Some(143));
    wait_until_gone(interpreter);
    scene.assert_clean();
}
