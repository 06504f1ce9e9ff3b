//! The table of events and phases, without processes.

use std::path::PathBuf;
use std::sync::Arc;

use hookd_protocol::{Failure, HookErrorKind, Message, Observed};
use serde_json::json;

use super::*;
use crate::error::{Canceller, ErrorKind, HookError};
use crate::ids::RequestId;
use crate::limits::Timeout;
use crate::tree::{Prepared, Tree, TreeId};
use crate::worker::message::Lease;

const REQUEST: RequestId = RequestId(7);

/// A machine with a clock of its own.
struct Bench {
    machine: Machine,
    now: Instant,
}

fn prepared() -> Prepared {
    Prepared { lines: b"run\n".to_vec(), ..Prepared::default() }
}

impl Bench {
    fn starting(isolation: Isolation) -> Self {
        let now = Instant::now();
        let limits = Limits {
            grace_period: Some(Timeout::from_secs(3)),
            health_interval: Some(Timeout::from_secs(30)),
            ..Limits::default()
        };
        Self { machine: Machine::new(WorkerId(1), isolation, limits, now), now }
    }

    fn idle(isolation: Isolation) -> Self {
        let mut bench = Self::starting(isolation);
        assert_eq!(bench.say(Message::Ready), ["ready"]);
        bench
    }

    fn leased(isolation: Isolation) -> Self {
        let mut bench = Self::idle(isolation);
        let timeout = Some(Timeout::from_secs(60));
        let lease = Lease { request: REQUEST, tree: None, prepared: prepared(), timeout };
        assert_eq!(names(&bench.machine.lease(lease, bench.now)), ["write run"]);
        bench
    }

    fn running(isolation: Isolation) -> Self {
        let mut bench = Self::leased(isolation);
        assert_eq!(bench.say(Message::Stdout("/o".into())), ["accepted"]);
        assert!(bench.say(Message::Stderr("/e".into())).is_empty());
        bench
    }

    fn finishing() -> Self {
        let mut bench = Self::running(Isolation::Hook);
        assert_eq!(bench.say(Message::Ok(json!("x"))), ["answer ok"]);
        bench
    }

    fn say(&mut self, message: Message) -> Vec<String> {
        names(&self.machine.message(message, self.now))
    }

    fn wait(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        let mut all = Vec::new();
        while self.machine.next_at().is_some_and(|at| at <= self.now) {
            all.extend(names(&self.machine.tick(self.now)));
        }
        all
    }

    fn die(&mut self, exit: ExitReason) -> Vec<String> {
        let mut effects = names(&self.machine.exited(exit, self.now));
        effects.extend(names(&self.machine.output_ended(self.now)));
        effects
    }
}

fn killed() -> ExitReason {
    ExitReason::Signal("SIGKILL".into())
}

/// The names of effects.
fn names(effects: &[Effect]) -> Vec<String> {
    effects.iter().filter_map(name).collect()
}

fn name(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Write(bytes) => format!("write {}", String::from_utf8_lossy(bytes).trim_end()),
        Effect::CloseInput => "close input".into(),
        Effect::SignalWorker(signal) => format!("worker {signal}"),
        Effect::SignalGroup(signal) => format!("group {signal}"),
        Effect::Ready => "ready".into(),
        Effect::Imported(_) => "imported".into(),
        Effect::Shadowed(_) => "shadowed".into(),
        Effect::Finished(answer) => match &answer.outcome {
            Ok(_) => "answer ok".into(),
            Err(HookError { kind, .. }) => format!("answer {kind}"),
        },
        Effect::Report(WorkerEvent::Accepted { .. }) => "accepted".into(),
        Effect::Report(WorkerEvent::Idle { keeps_processes: false }) => "idle".into(),
        Effect::Report(WorkerEvent::Idle { keeps_processes: true }) => "idle, keeps processes".into(),
        Effect::Report(WorkerEvent::Lingers) => "lingers".into(),
        Effect::Gone(Ending::Planned) => "gone planned".into(),
        Effect::Gone(Ending::Crashed(_)) => "gone crashed".into(),
        Effect::Gone(Ending::Violated(_)) => "gone violated".into(),
        Effect::Gone(Ending::StartFailed { .. }) => "gone start failed".into(),
        Effect::Report(_) => return None,
    })
}

#[test]
fn interrupt_in_every_state() {
    let interrupt = |mut bench: Bench| names(&bench.machine.interrupt(Signal::SIGINT, bench.now));
    for isolation in [Isolation::Hook, Isolation::None] {
        assert_eq!(interrupt(Bench::starting(isolation)), ["group SIGKILL", "worker SIGKILL"]);
        assert_eq!(interrupt(Bench::idle(isolation)), ["write shutdown"]);
        assert_eq!(interrupt(Bench::leased(isolation)), ["group SIGINT"]);
        assert_eq!(interrupt(Bench::running(isolation)), ["group SIGINT"]);
    }
    assert_eq!(interrupt(Bench::finishing()), ["close input", "group SIGCONT"]);
}

#[test]
fn suspend_and_resume_in_every_state() {
    let both = |mut bench: Bench| {
        let mut effects = bench.machine.suspend(bench.now);
        effects.extend(bench.machine.resume(bench.now));
        names(&effects)
    };
    for isolation in [Isolation::Hook, Isolation::None] {
        assert!(both(Bench::starting(isolation)).is_empty());
        assert!(both(Bench::idle(isolation)).is_empty());
    }
    assert_eq!(both(Bench::leased(Isolation::Hook)), ["write cancel SIGSTOP", "write cancel SIGCONT"]);
    assert_eq!(both(Bench::running(Isolation::Hook)), ["write cancel SIGSTOP", "write cancel SIGCONT"]);
    assert_eq!(both(Bench::running(Isolation::None)), ["group SIGSTOP", "group SIGCONT"]);
    assert!(both(Bench::finishing()).is_empty());
}

#[test]
fn cancel_in_every_state() {
    let cancel = |mut bench: Bench| names(&bench.machine.cancel(REQUEST, Canceller::Caller, bench.now));
    assert!(cancel(Bench::starting(Isolation::Hook)).is_empty());
    assert!(cancel(Bench::idle(Isolation::Hook)).is_empty());
    assert_eq!(cancel(Bench::leased(Isolation::Hook)), ["write cancel SIGTERM"]);
    assert_eq!(cancel(Bench::running(Isolation::Hook)), ["write cancel SIGTERM"]);
    assert_eq!(cancel(Bench::running(Isolation::None)), ["group SIGTERM"]);
    assert!(cancel(Bench::finishing()).is_empty());
    let mut bench = Bench::running(Isolation::Hook);
    assert!(bench.machine.cancel(RequestId(8), Canceller::Caller, bench.now).is_empty());
}

#[test]
fn death_in_every_state() {
    let die = |mut bench: Bench| bench.die(killed());
    assert_eq!(die(Bench::starting(Isolation::Hook)), ["gone start failed"]);
    assert_eq!(die(Bench::idle(Isolation::Hook)), ["gone crashed"]);
    // It was not accepted, so another worker may run it.
    assert_eq!(die(Bench::leased(Isolation::Hook)), ["gone crashed"]);
    assert_eq!(die(Bench::running(Isolation::Hook)), ["answer WorkerCrashed", "gone crashed"]);
    // F07: the result is kept.
    assert_eq!(die(Bench::finishing()), ["gone crashed"]);
}

#[test]
fn an_exit_is_judged_after_the_output() {
    let mut bench = Bench::running(Isolation::Hook);
    assert!(bench.machine.exited(killed(), bench.now).is_empty());
    assert_eq!(bench.say(Message::Ok(json!("late"))), ["answer ok"]);
    assert_eq!(names(&bench.machine.output_ended(bench.now)), ["gone crashed"]);
    // Another process holds the pipe: its end is waited for a limited time.
    let mut bench = Bench::running(Isolation::Hook);
    assert!(bench.machine.exited(killed(), bench.now).is_empty());
    assert_eq!(bench.wait(1), ["answer WorkerCrashed", "gone crashed"]);
}

#[test]
fn a_deadline_asks_then_kills_then_ends_the_worker() {
    let mut bench = Bench::running(Isolation::Hook);
    assert!(bench.wait(59).iter().all(|effect| effect.starts_with("write ping")));
    assert_eq!(bench.wait(1), ["write cancel SIGTERM"]);
    assert_eq!(bench.wait(3), ["write cancel SIGKILL"]);
    assert_eq!(bench.wait(10), ["close input", "group SIGCONT", "answer HookTimeout"]);
    assert_eq!(bench.wait(2), ["group SIGKILL", "worker SIGKILL"]);
    assert_eq!(bench.die(killed()), ["gone crashed"]);
}

#[test]
fn a_hook_that_heeds_the_deadline_leaves_its_worker_alive() {
    let mut bench = Bench::running(Isolation::Hook);
    bench.wait(60);
    let mut failure = Failure::new(HookErrorKind::HookCrashed, "");
    failure.signal = Some("SIGTERM".into());
    assert!(bench.say(Message::Error(failure)).is_empty());
    assert_eq!(bench.say(Message::Ready), ["answer HookTimeout", "idle"]);
}

#[test]
fn a_deadline_does_not_run_while_suspended() {
    let mut bench = Bench::running(Isolation::Hook);
    bench.wait(20);
    bench.machine.suspend(bench.now);
    assert!(bench.wait(1_000).is_empty());
    bench.machine.resume(bench.now);
    let early = bench.wait(39);
    assert!(!early.iter().any(|effect| effect.contains("cancel")), "{early:?}");
    assert!(bench.wait(1).contains(&"write cancel SIGTERM".to_owned()));
}

#[test]
fn a_hook_that_starts_while_suspended_is_stopped_at_once() {
    let mut bench = Bench::idle(Isolation::Hook);
    bench.machine.suspend(bench.now);
    let lease = Lease { request: REQUEST, tree: None, prepared: prepared(), timeout: None };
    assert_eq!(names(&bench.machine.lease(lease, bench.now)), ["write run", "write cancel SIGSTOP"]);
}

#[test]
fn an_interrupted_hook_gets_the_grace_period_and_its_result_is_kept() {
    let mut bench = Bench::running(Isolation::Hook);
    bench.machine.interrupt(Signal::SIGTERM, bench.now);
    assert_eq!(bench.wait(3), ["write cancel SIGKILL"]);
    let mut bench = Bench::running(Isolation::Hook);
    bench.machine.interrupt(Signal::SIGTERM, bench.now);
    assert_eq!(bench.say(Message::Ok(json!("done"))), ["answer ok"]);
    assert_eq!(bench.die(ExitReason::Signal("SIGTERM".into())), ["gone planned"]);
}

#[test]
fn health_is_asked_for_and_its_lack_ends_the_worker() {
    let mut bench = Bench::idle(Isolation::Hook);
    assert_eq!(bench.wait(30), ["write ping 1"]);
    assert!(bench.say(Message::Pong("1".into())).is_empty());
    assert_eq!(bench.wait(30), ["write ping 2"]);
    assert!(bench.say(Message::Pong("1".into())).is_empty());
    assert_eq!(bench.wait(10), ["close input", "group SIGCONT"]);
    assert_eq!(bench.wait(2), ["group SIGKILL", "worker SIGKILL"]);
    assert_eq!(bench.die(killed()), ["gone crashed"]);
}

#[test]
fn a_supervisor_that_did_not_run_blames_nobody() {
    let mut bench = Bench::idle(Isolation::Hook);
    bench.wait(30);
    assert!(bench.wait(600).is_empty());
    assert_eq!(bench.wait(10), ["close input", "group SIGCONT"]);
}

#[test]
fn a_busy_worker_is_asked_with_isolation_hook_only() {
    assert_eq!(Bench::running(Isolation::Hook).wait(30), ["write ping 1"]);
    assert!(Bench::running(Isolation::None).wait(30).is_empty());
}

#[test]
fn what_cannot_come_is_a_violation() {
    let messages = [
        Message::Ready,
        Message::Ok(json!(1)),
        Message::Stdout(PathBuf::from("/o")),
        Message::Error(Failure::new(HookErrorKind::HookRuntimeError, "")),
        Message::Silent,
        Message::Observed(Observed::default()),
    ];
    for message in messages {
        let mut bench = Bench::idle(Isolation::Hook);
        assert_eq!(bench.say(message), ["close input", "group SIGCONT"]);
        assert_eq!(bench.die(killed()), ["gone violated"]);
    }
    let mut bench = Bench::running(Isolation::Hook);
    assert_eq!(bench.say(Message::Ready), ["close input", "group SIGCONT", "answer ProtocolViolation"]);
}

#[test]
fn noise_is_borne_until_the_worker_is_ready() {
    assert!(Bench::starting(Isolation::Hook).machine.tolerates_noise());
    assert!(!Bench::idle(Isolation::Hook).machine.tolerates_noise());
}

#[test]
fn a_start_that_takes_too_long_fails() {
    let mut bench = Bench::starting(Isolation::Hook);
    assert_eq!(bench.wait(60), ["group SIGKILL", "worker SIGKILL"]);
    assert_eq!(bench.die(killed()), ["gone start failed"]);
}

#[test]
fn an_error_waits_for_its_traceback() {
    let mut bench = Bench::running(Isolation::Hook);
    assert!(bench.say(Message::Error(Failure::new(HookErrorKind::HookRuntimeError, "no"))).is_empty());
    let effects = bench.machine.message(Message::Traceback("lines".into()), bench.now);
    let [Effect::Finished(answer)] = &effects[..] else { panic!("{effects:?}") };
    let error = answer.outcome.as_ref().unwrap_err();
    assert_eq!((error.kind, error.traceback.as_deref()), (ErrorKind::HookRuntimeError, Some("lines")));
    assert_eq!(bench.say(Message::Ready), ["idle"]);
}

#[test]
fn an_answer_says_whether_the_hook_was_silent() {
    for (said, silent) in [(vec![], false), (vec![Message::Silent], true)] {
        let mut bench = Bench::running(Isolation::Hook);
        for message in said {
            assert!(bench.say(message).is_empty());
        }
        let effects = bench.machine.message(Message::Ok(json!(null)), bench.now);
        let [Effect::Finished(answer)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(answer.files.are_empty, silent);
    }
}

#[test]
fn a_worker_that_shuts_down_ends_or_stays_as_a_keeper() {
    let mut bench = Bench::idle(Isolation::Hook);
    bench.machine.stop(bench.now);
    assert!(bench.say(Message::Shutdown).is_empty());
    assert_eq!(bench.die(ExitReason::ExitCode(0)), ["gone planned"]);

    let mut bench = Bench::idle(Isolation::Hook);
    bench.machine.stop(bench.now);
    assert!(bench.say(Message::Keeping(2)).is_empty());
    assert_eq!(bench.say(Message::Shutdown), ["lingers"]);
    assert!(bench.wait(1_000).is_empty());
    assert_eq!(names(&bench.machine.terminate(Ending::Planned, bench.now)), ["close input", "group SIGCONT"]);

    let mut bench = Bench::idle(Isolation::Hook);
    bench.machine.stop(bench.now);
    assert_eq!(bench.wait(10), ["close input", "group SIGCONT"]);
}

#[test]
fn memory_over_the_limit_kills_the_hook_and_says_so() {
    let mut bench = Bench::running(Isolation::Hook);
    assert_eq!(names(&bench.machine.memory_exceeded(1 << 30, bench.now)), ["write cancel SIGKILL"]);
    assert!(bench.machine.memory_exceeded(1 << 30, bench.now).is_empty());
    let mut failure = Failure::new(HookErrorKind::HookCrashed, "");
    failure.signal = Some("SIGKILL".into());
    bench.say(Message::Error(failure));
    let effects = bench.machine.message(Message::Ready, bench.now);
    let [Effect::Finished(answer), Effect::Report(WorkerEvent::Idle { .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(answer.outcome.as_ref().unwrap_err().message.contains("1073741824 bytes"));
}

#[test]
fn a_worker_is_told_of_another_tree_together_with_the_request() {
    let mut bench = Bench::idle(Isolation::Hook);
    let tree = Arc::new(Tree { id: TreeId { device: 1, inode: 2 }, path: "/a tree".into() });
    let lease = Lease { request: REQUEST, tree: Some(tree), prepared: prepared(), timeout: None };
    let effects = names(&bench.machine.lease(lease, bench.now));
    assert_eq!(effects, [format!("write tree /a tree\n{}", String::from_utf8(prepared().lines).unwrap().trim_end())]);
}

#[test]
fn what_hooks_detached_is_reported_as_long_as_it_is_there() {
    let mut bench = Bench::finishing();
    assert!(bench.say(Message::Keeping(1)).is_empty());
    assert_eq!(bench.say(Message::Ready), ["idle, keeps processes"]);
    let lease = Lease { request: REQUEST, tree: None, prepared: prepared(), timeout: None };
    bench.machine.lease(lease, bench.now);
    bench.say(Message::Stdout("/o".into()));
    bench.say(Message::Ok(json!("x")));
    assert_eq!(bench.say(Message::Ready), ["idle"]);
    // It would stay as a keeper only if it said so again.
    bench.machine.stop(bench.now);
    assert!(bench.say(Message::Shutdown).is_empty());
}
