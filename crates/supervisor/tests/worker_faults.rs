//! Workers that misbehave: a fault fails its own request only.

mod support;

use hookpool_supervisor::{ErrorKind, ExitReason, Limits, Observed};
use serde_json::json;
use support::{Pool, milliseconds};

fn limits() -> Limits {
    Limits { grace_period: Some(milliseconds(50)), ..Limits::default() }
}

#[tokio::test]
async fn a_worker_that_behaves() {
    let pool = Pool::fake(limits()).await;
    let tree = pool.tree("tree", "serve(['x'])");
    let response = pool.run(&tree).await;
    assert_eq!(response.outcome.unwrap(), json!(["x"]));
    assert_eq!((response.stdout.text(), response.stderr.text()), ("STDOUT".into(), "STDERR".into()));
    let worker = response.worker.unwrap();
    assert_eq!(worker.generation, 1);
    assert_eq!(pool.run(&tree).await.worker.unwrap(), worker);
    pool.end().await;
}

#[tokio::test]
async fn what_was_observed_comes_with_the_answer_and_belongs_to_one_hook() {
    let pool = Pool::fake(limits()).await;
    let observed = Observed { programs: vec!["git".into()], written: Some(vec!["a/b".into()]), ..Observed::default() };
    let line = format!("OBSERVED {}\\n", serde_json::to_string(&observed).unwrap());
    let tree = pool.tree("tree", &format!("ready(); read_request(); accept(); write('{line}'); ok(1); serve(2)"));
    assert_eq!(pool.run(&tree).await.observed, Some(observed));
    assert_eq!(pool.run(&tree).await.observed, None);
    pool.end().await;
}

#[tokio::test]
async fn f07_a_result_survives_the_death_of_its_worker() {
    let pool = Pool::fake(limits()).await;
    let tree = pool.tree("tree", "ready(); read_request(); accept(); ok(start); die('SIGKILL')");
    for start in 1..=3 {
        assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(start));
    }
    pool.end().await;
}

#[tokio::test]
async fn f13_crashes_at_every_start_quarantine_one_tree_only() {
    let pool = Pool::fake(Limits { max_restarts: 2, ..limits() }).await;
    let broken = pool.tree("broken", "os.write(2, b'no backend today'); os._exit(3)");
    let sound = pool.tree("sound", "serve('fine')");
    let error = pool.run(&broken).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Quarantined);
    assert!(error.message.contains("exited with code 3 before it was ready"), "{}", error.message);
    assert!(error.message.contains("no backend today"), "{}", error.message);
    assert_eq!(pool.events.count("WorkerStartFailed"), 3);
    // It is refused at once, without another start.
    assert_eq!(pool.run(&broken).await.outcome.unwrap_err().kind, ErrorKind::Quarantined);
    assert_eq!(pool.events.count("WorkerStartFailed"), 3);
    assert_eq!(pool.run(&sound).await.outcome.unwrap(), json!("fine"));
    pool.end().await;
}

#[tokio::test]
async fn a_request_that_was_not_accepted_is_tried_again() {
    let pool = Pool::fake(limits()).await;
    let tree = pool.tree("tree", "if start == 1:\n ready(); read_request(); die('SIGKILL')\nserve(start)");
    let response = pool.run(&tree).await;
    assert_eq!(response.outcome.unwrap(), json!(2));
    assert_eq!(response.worker.unwrap().generation, 2);
    assert_eq!(pool.events.count("RequestRetried"), 1);
    pool.end().await;
}

#[tokio::test]
async fn f14_an_accepted_request_fails_with_its_worker_and_is_never_run_twice() {
    let pool = Pool::fake(limits()).await;
    let tree = pool.tree("tree", "if start == 1:\n ready(); read_request(); accept(); die('SIGKILL')\nserve(start)");
    let response = pool.run(&tree).await;
    let error = response.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::WorkerCrashed);
    assert_eq!(error.exit, Some(ExitReason::Signal("SIGKILL".into())));
    // The output of the hook is there.
    assert_eq!(response.stdout.text(), "STDOUT");
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(2));
    pool.end().await;
}

#[tokio::test]
async fn a_line_that_is_no_message_is_a_violation() {
    let pool = Pool::fake(limits()).await;
    let script =
        "if start == 1:\n ready(); read_request(); accept(); write('hello there\\n'); wait_for_end()\nserve(1)";
    let tree = pool.tree("tree", script);
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProtocolViolation);
    assert!(error.message.contains("hello there"), "{}", error.message);
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(1));
    pool.end().await;
}

#[tokio::test]
async fn kinds_of_message_that_are_not_known_are_skipped() {
    let pool = Pool::fake(limits()).await;
    let script = "ready(); read_request(); write('NEWS of today\\nDEBUG x\\n'); accept(); write('NEWS\\n'); ok(1); \
                  ready(); read_request()";
    let tree = pool.tree("tree", script);
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(1));
    pool.end().await;
}

#[tokio::test]
async fn f09_noise_before_the_handshake_does_no_harm() {
    let pool = Pool::fake(limits()).await;
    let tree = pool.tree("tree", "write('Welcome\\n\\nOK {\\nunfinished'); write('\\n'); serve(1)");
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(1));
    pool.end().await;
}

#[tokio::test]
async fn f29_half_a_line_and_silence_or_the_end() {
    let limits = Limits { health_interval: Some(milliseconds(50)), health_timeout: milliseconds(400), ..limits() };
    let pool = Pool::fake(limits).await;
    let silent = pool.tree("silent", "ready(); read_request(); accept(); write('OK \"ha'); be_deaf()");
    let error = pool.run(&silent).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::WorkerCrashed);
    assert!(error.message.contains("no answer to a health check"), "{}", error.message);
    let ended = pool.tree("ended", "ready(); read_request(); accept(); write('OK \"ha'); os._exit(0)");
    let error = pool.run(&ended).await.outcome.unwrap_err();
    assert_eq!((error.kind, error.exit), (ErrorKind::WorkerCrashed, Some(ExitReason::ExitCode(0))));
    pool.end().await;
}

#[tokio::test]
async fn a_worker_that_never_becomes_ready_is_given_up() {
    let limits = Limits { startup_timeout: milliseconds(1500), max_restarts: 0, ..limits() };
    let pool = Pool::fake(limits).await;
    let tree = pool.tree("tree", "be_deaf()");
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Quarantined);
    assert!(error.message.contains("not ready after 1.5s"), "{}", error.message);
    pool.end().await;
}

#[tokio::test]
async fn starts_that_fail_slowly_are_not_tried_for_ever() {
    // Each start takes longer than `restart_window`.
    let limits =
        Limits { startup_timeout: milliseconds(1500), restart_window: milliseconds(50), max_restarts: 1, ..limits() };
    let pool = Pool::fake(limits).await;
    let tree = pool.tree("tree", "be_deaf()");
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::WorkerStartFailed);
    assert!(error.message.contains("not ready after 1.5s"), "{}", error.message);
    pool.end().await;
}

#[tokio::test]
async fn an_idle_worker_that_gives_no_sign_of_life_is_replaced() {
    let limits = Limits { health_interval: Some(milliseconds(50)), health_timeout: milliseconds(400), ..limits() };
    let pool = Pool::fake(limits).await;
    let script = "if start > 1: serve(start)\nready(); read_request(); accept(); ok(1); ready(); be_deaf()";
    let tree = pool.tree("tree", script);
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(1));
    pool.events.wait_for("WorkerExited", 1).await;
    assert_eq!(pool.events.count("HealthCheckFailed"), 1);
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(2));
    pool.end().await;
}

#[tokio::test]
async fn a_worker_that_does_not_end_its_hook_is_ended_with_it() {
    let limits = Limits { hook_timeout: Some(milliseconds(100)), health_timeout: milliseconds(100), ..limits() };
    let pool = Pool::fake(limits).await;
    let tree = pool.tree("tree", "if start > 1: serve(start)\nready(); read_request(); accept(); be_deaf()");
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::HookTimeout);
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(2));
    pool.end().await;
}

#[tokio::test]
async fn a_worker_that_gives_up_says_why() {
    let pool = Pool::fake(limits()).await;
    let fatal = "write('FATAL OSError {\"message\": \"no space left in /capture\"}\\n'); os._exit(1)";
    let tree = pool.tree("tree", &format!("ready(); read_request(); accept(); {fatal}"));
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::WorkerCrashed);
    assert!(error.message.contains("no space left in /capture"), "{}", error.message);
    let never = pool.tree("never", &format!("ready(); read_request(); {fatal}"));
    let error = pool.run(&never).await.outcome.unwrap_err();
    assert!(error.message.contains("no space left in /capture"), "{}", error.message);
    pool.end().await;
}

#[tokio::test]
async fn a_worker_that_does_not_shut_down_is_killed() {
    let pool = Pool::fake(Limits { health_timeout: milliseconds(100), ..limits() }).await;
    let tree = pool.tree("tree", "ready(); read_request(); accept(); ok(1); ready(); be_deaf()");
    assert_eq!(pool.run(&tree).await.outcome.unwrap(), json!(1));
    pool.end().await;
}
