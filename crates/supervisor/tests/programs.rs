//! Programs besides hooks: none of their processes is left behind.

#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hookpool_supervisor::{CallerProcess, EndSignal, ExitReason, Limits, ProgramError, ResourceLimit, Timeout};
use support::Pool;

/// Starts a process in a session of its own and another in the background,
/// writes both pids, and waits.
const FAMILY: &str =
    "setsid sleep 1000 & echo $! >> \"$PIDS\"; sleep 1000 & echo $! >> \"$PIDS\"; echo ready >> \"$PIDS\"; wait";

fn shell(script: &str, pids: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PIDS", pids);
    command
}

/// The family's pids, once it is complete.
async fn family(pids: &Path) -> Vec<String> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(pids).unwrap_or_default();
            if text.ends_with("ready\n") {
                return text.lines().filter(|line| *line != "ready").map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the family starts")
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

fn assert_gone(pids: &[String]) {
    assert_eq!(pids.len(), 2);
    for pid in pids {
        assert!(!is_alive(pid), "{pid} is alive");
    }
}

#[tokio::test]
async fn a_program_ends_with_its_output_and_its_code() {
    let pool = Pool::real(Limits::default()).await;
    let output = pool
        .supervisor
        .run_program(shell("echo out; echo err >&2; read line; exit 3", Path::new("/")), None, None, ())
        .await;
    let output = output.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.exit, ExitReason::ExitCode(3));
    let output = pool.supervisor.run_program(shell("kill -SEGV $$", Path::new("/")), None, None, ()).await.unwrap();
    assert_eq!(output.exit, ExitReason::Signal("SIGSEGV".into()));
    let output = pool.supervisor.run_program(Command::new("/no/such/program"), None, None, ()).await.unwrap();
    assert_eq!(output.exit, ExitReason::ExitCode(127));
    assert_eq!(output.stderr, b"/no/such/program cannot be started: No such file or directory\n");
    pool.supervisor.drain().await;
    let late = pool.supervisor.run_program(Command::new("true"), None, None, ()).await;
    assert!(matches!(late, Err(ProgramError::Interrupted)));
}

#[tokio::test]
async fn a_program_without_a_guard() {
    let pool = Pool::real(Limits::default()).await;
    let run = async |script: &str, limit| {
        let command = shell(script, &pool.path("pids"));
        pool.supervisor.run_unguarded_program(&command, None, limit).await
    };
    let output = run("echo out; echo err >&2; exit 3", None).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.exit, ExitReason::ExitCode(3));
    let missing = pool.supervisor.run_unguarded_program(&Command::new("/no/such/program"), None, None).await;
    assert!(matches!(missing, Err(ProgramError::NotStarted { .. })));
    let late = run("sleep 1000", Some(Timeout::try_from(Duration::from_millis(50)).unwrap())).await;
    assert!(matches!(late, Err(ProgramError::TimedOut { .. })));
    // What leaves its session is killed by a subreaper only, which this process is not.
    let session = FAMILY.replace("setsid ", "");
    let (ended, ()) = tokio::join!(run(&session, None), async {
        assert_eq!(family(&pool.path("pids")).await.len(), 2);
        pool.supervisor.interrupt(EndSignal::Terminate).await;
    });
    assert!(matches!(ended, Err(ProgramError::Interrupted)));
    pool.supervisor.finished().await;
    // They are not our children, so nobody has waited for their end.
    let gone = async {
        while family(&pool.path("pids")).await.iter().any(|pid| is_alive(pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("they end");
    assert!(matches!(run("true", None).await, Err(ProgramError::Interrupted)));
}

#[tokio::test]
async fn much_output_is_read_and_its_end_kept() {
    let pool = Pool::real(Limits::default()).await;
    let script = "head -c 5000000 /dev/zero; echo end";
    let output = pool.supervisor.run_program(shell(script, Path::new("/")), None, None, ()).await.unwrap();
    assert_eq!(output.stdout.len(), 1 << 20);
    assert!(output.stdout.ends_with(b"end\n") && output.is_success());
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let pool = Pool::real(Limits::default()).await;
    let pids = pool.path("pids");
    let script = FAMILY.replace("wait", "exit 0");
    // This process holds the output open.
    let output = pool.supervisor.run_program(shell(&script, &pids), None, None, ()).await.unwrap();
    assert!(output.is_success());
    assert_gone(&family(&pids).await);
}

#[tokio::test]
async fn a_program_that_nobody_wants_is_killed_with_its_descendants() {
    let pool = Pool::real(Limits::default()).await;
    let pids = pool.path("pids");
    let unwanted = {
        let program = pool.supervisor.run_program(shell(FAMILY, &pids), None, None, ());
        tokio::pin!(program);
        tokio::select! {
            _ = &mut program => panic!("it does not end by itself"),
            family = family(&pids) => family,
        }
    };
    pool.supervisor.drain().await;
    assert_gone(&unwanted);
}

#[tokio::test]
async fn an_interrupted_program_gets_the_signal_and_the_grace_period() {
    let pool = Pool::real(Limits::default()).await;
    let (pids, told) = (pool.path("pids"), pool.path("told"));
    let script = format!("trap 'echo told > {}; exit 0' TERM; {FAMILY}", told.display());
    let supervisor = pool.supervisor.clone();
    let command = shell(&script, &pids);
    let program = tokio::spawn(async move { supervisor.run_program(command, None, None, ()).await });
    let members = family(&pids).await;
    pool.supervisor.interrupt(EndSignal::Terminate).await;
    assert!(matches!(program.await.unwrap(), Err(ProgramError::Interrupted)));
    pool.supervisor.finished().await;
    assert_eq!(std::fs::read_to_string(told).unwrap(), "told\n");
    assert_gone(&members);
}

#[tokio::test]
async fn who_ignores_the_signal_is_killed_after_it() {
    let grace_period = Some(Timeout::try_from(Duration::from_millis(50)).unwrap());
    let pool = Pool::real(Limits { grace_period, ..Limits::default() }).await;
    let pids = pool.path("pids");
    let supervisor = pool.supervisor.clone();
    let command = shell(&format!("trap '' INT; {FAMILY}"), &pids);
    let program = tokio::spawn(async move { supervisor.run_program(command, None, None, ()).await });
    let members = family(&pids).await;
    pool.supervisor.interrupt(EndSignal::Interrupt).await;
    assert!(matches!(program.await.unwrap(), Err(ProgramError::Interrupted)));
    pool.supervisor.finished().await;
    assert_gone(&members);
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_family() {
    let pool = Pool::real(Limits::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("echo begun; {FAMILY}");
    let limit = Timeout::from_secs(1);
    let outcome = pool.supervisor.run_program(shell(&script, &pids), None, Some(limit), ()).await;
    let Err(ProgramError::TimedOut { limit: told, output, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((told, output.stdout.as_slice()), (limit, &b"begun\n"[..]));
    assert_gone(&family(&pids).await);
    let output = pool.supervisor.run_program(shell("exit 0", &pids), None, Some(Timeout::from_secs(60)), ()).await;
    assert!(output.unwrap().is_success());
}

#[tokio::test]
async fn a_program_of_a_caller_has_exactly_what_the_caller_has() {
    let pool = Pool::real(Limits::default()).await;
    let path = std::env::var_os("PATH").unwrap();
    let limits = vec![ResourceLimit { resource: "RLIMIT_NOFILE".into(), soft: Some(123), hard: Some(456) }];
    let variables = [("PATH".into(), path), ("CHANGED".into(), "1".into()), ("REMOVED".into(), "1".into())].into();
    let caller = Arc::new(CallerProcess { variables, umask: 0o027, limits });
    let mut command = Command::new("sh");
    command.args(["-c", "umask; ulimit -Sn; ulimit -Hn; exec env -u PWD -u PATH -u _ -u SHLVL -u OLDPWD"]);
    command.env("CHANGED", "2").env_remove("REMOVED").env("ADDED", "3");
    let output = pool.supervisor.run_program(command, Some(caller), None, ()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[3..].sort_unstable();
    assert_eq!(lines, ["0027", "123", "456", "ADDED=3", "CHANGED=2"]);
    pool.end().await;
}
