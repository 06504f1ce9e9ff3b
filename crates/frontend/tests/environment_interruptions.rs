//! Build environments that are interrupted while they are made, or that two processes make at once.

#![cfg(target_os = "linux")]

mod support;

use std::process::Child;

use hookpool_frontend::{EnvironmentError, InstallerChoice};
use hookpool_supervisor::EndSignal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::support::{Place, SlowBuild, installed, installers, made, processes_of, program, wait_for};

#[expect(clippy::disallowed_methods, reason = "there is no supervisor here")]
fn start(place: &Place, installer: InstallerChoice, requires: &[&str]) -> Child {
    program(place, installer, requires).spawn().unwrap()
}

#[tokio::test]
async fn a_killed_run_leaves_no_process_and_nothing_that_is_used() {
    for installer in installers() {
        let place = Place::new();
        let slow = SlowBuild::new(&place);
        let mut killed = start(&place, installer, &["slow"]);
        slow.started(1).await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        wait_for("all processes end", || processes_of(place.folder.path()).is_empty().then_some(())).await;
        let leftovers = made(&place.cache());
        assert_eq!(leftovers.len(), 1);
        slow.go_on();
        let run = place.run(installer).await;
        assert_eq!(installed(&run.get(&["slow"]).await.unwrap()), ["slow==1.0"]);
        assert_eq!(run.events.names(), ["LeftoversRemoved", "Making", "Made"]);
        let kept = made(&place.cache());
        assert!(kept.len() == 1 && kept != leftovers);
        run.end().await;
    }
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing() {
    for installer in installers() {
        let place = Place::new();
        let slow = SlowBuild::new(&place);
        let run = place.run(installer).await;
        let get = run.get(&["slow"]);
        let interrupt = async {
            slow.started(1).await;
            run.supervisor.interrupt(EndSignal::Interrupt).await;
        };
        let (outcome, ()) = tokio::join!(get, interrupt);
        assert!(matches!(outcome, Err(EnvironmentError::Interrupted)), "{outcome:?}");
        run.end().await;
        assert_eq!(processes_of(place.folder.path()), Vec::<String>::new());
        assert_eq!(made(&place.cache()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn who_waits_gets_it_when_the_first_gives_up() {
    let place = Place::new();
    let slow = SlowBuild::new(&place);
    let run = place.run(InstallerChoice::Pip).await;
    let second = {
        let (mut first, mut second) = (Box::pin(run.get(&["slow"])), Box::pin(run.get(&["slow"])));
        tokio::select! {
            biased;
            _ = &mut first => panic!("it waits"),
            _ = &mut second => panic!("it waits too"),
            _ = slow.started(1) => {}
        }
        drop(first);
        slow.go_on();
        second.await.unwrap()
    };
    assert_eq!(installed(&second), ["slow==1.0"]);
    assert_eq!(run.events.names(), ["Making", "Made"]);
    drop(second);
    run.end().await;
}

#[tokio::test]
async fn when_nobody_waits_any_more_the_installer_is_killed() {
    let place = Place::new();
    let slow = SlowBuild::new(&place);
    let run = place.run(InstallerChoice::Pip).await;
    tokio::select! {
        _ = run.get(&["slow"]) => panic!("it waits"),
        _ = slow.started(1) => {}
    }
    run.end().await;
    assert_eq!(processes_of(place.folder.path()), Vec::<String>::new());
    assert_eq!(made(&place.cache()), Vec::<String>::new());
}

#[tokio::test]
async fn two_processes_make_one() {
    for installer in installers() {
        let place = Place::new();
        let slow = SlowBuild::new(&place);
        let first = start(&place, installer, &["slow"]);
        slow.started(1).await;
        let mut second = start(&place, installer, &["slow"]);
        wait_until_it_waits(&mut second);
        slow.go_on();
        let (first, second) = (first.wait_with_output().unwrap(), second.wait_with_output().unwrap());
        let (first, second) = (String::from_utf8(first.stdout).unwrap(), String::from_utf8(second.stdout).unwrap());
        let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert!(first.contains("/bin/python"), "{first}");
        assert_eq!(line(&first), line(&second));
        assert_eq!(slow.started(1).await.len(), 1);
        assert_eq!(made(&place.cache()).len(), 1);
    }
}

#[tokio::test]
async fn who_waits_for_another_process_can_be_interrupted() {
    let place = Place::new();
    let slow = SlowBuild::new(&place);
    // Not `program`: its variables give another key.
    let first = place.run(InstallerChoice::Pip).await;
    let second = place.run(InstallerChoice::Pip).await;
    let making = first.get(&["slow"]);
    let interrupting = async {
        slow.started(1).await;
        let waiting = second.get(&["slow"]);
        let interrupt = async {
            wait_for("the second waits", || second.events.names().contains(&"Awaited".to_owned()).then_some(())).await;
            second.supervisor.interrupt(EndSignal::Interrupt).await;
        };
        let (outcome, ()) = tokio::join!(waiting, interrupt);
        slow.go_on();
        outcome
    };
    let (made, interrupted) = tokio::join!(making, interrupting);
    assert!(matches!(interrupted, Err(EnvironmentError::Interrupted)), "{interrupted:?}");
    assert!(made.unwrap().was_made());
    second.end().await;
    first.end().await;
}

/// Waits for an event on standard error.
fn wait_until_it_waits(process: &mut Child) {
    use std::io::BufRead;
    let mut lines = std::io::BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Awaited") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended");
    }
    // The writer must not be ended by a reader that has gone.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
}

#[tokio::test]
async fn a_terminated_installer_is_no_answer() {
    let place = Place::new();
    let slow = SlowBuild::new(&place);
    let run = place.run(InstallerChoice::Pip).await;
    let get = run.get(&["slow"]);
    let break_it = async {
        let pids = slow.started(1).await;
        kill(Pid::from_raw(pids[0].parse().unwrap()), Signal::SIGKILL).unwrap();
    };
    let (outcome, ()) = tokio::join!(get, break_it);
    assert!(matches!(outcome, Err(EnvironmentError::Installer { .. })), "{outcome:?}");
    assert_eq!(made(&place.cache()), Vec::<String>::new());
    run.end().await;
}
