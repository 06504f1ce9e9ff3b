//! Requests from submission to answer, with real workers and small backends.

mod support;

use hookpool_supervisor::{
    BuildEnvironment, EndSignal, ErrorKind, Hook, HookError, HookRequest, Isolation, KeptAnswers, Limits, LimitsChange,
    LimitsError, Observed, QueueSize, RequestPhase, Selection, StartMethod, SubmitError, TemplateSnapshot, WorkerPhase,
    process_memory,
};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use support::{Pool, fifo, held_fifo, milliseconds, read_fifo, seconds};

/// Reports on the named pipe `running` that it runs, and waits.
const WAITING: &str = "
import os, signal
def get_requires_for_build_wheel(config_settings=None):
    with open('running', 'w') as pipe:
        pipe.write(str(os.getpid()))
    while True:
        signal.pause()
";

const PLAIN: &str = "
def get_requires_for_build_wheel(config_settings=None):
    print('to stdout')
    return ['a>1', 'b']
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    raise ValueError('not today')
";

fn one_job() -> Limits {
    Limits { grace_period: Some(seconds(1)), ..Limits::for_jobs(NonZeroUsize::MIN) }
}

fn waiting_tree(pool: &Pool, name: &str) -> std::path::PathBuf {
    let tree = pool.real_tree(name, WAITING);
    fifo(&tree.join("running"));
    tree
}

#[tokio::test]
async fn results_errors_and_output() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    let response = pool.run(&tree).await;
    assert_eq!(response.outcome.unwrap(), json!(["a>1", "b"]));
    assert_eq!(response.stdout.text(), "to stdout\n");
    assert!(response.timing.hook.is_some() && response.timing.queued.is_some() && response.timing.start.is_some());

    let mut request = pool.request(&tree);
    request.hook = Hook::BuildWheel;
    let error = pool.supervisor.submit(request).await.unwrap().await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::HookRuntimeError);
    assert_eq!(error.exception.as_deref(), Some("ValueError"));
    assert!(error.message.contains("not today") && error.traceback.unwrap().contains("backend.py"));

    let mut request = pool.request(&tree);
    request.hook = Hook::PrepareMetadataForBuildWheel;
    let error = pool.supervisor.submit(request).await.unwrap().await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::MalformedHookArgument);
    assert!(error.message.contains("metadata_directory"), "{}", error.message);
    pool.end().await;
}

/// Has the answer in a file of the tree, if it is there.
#[derive(Debug)]
struct InTree;

impl KeptAnswers for InTree {
    fn find(&self, environment: Option<&Arc<dyn BuildEnvironment>>, tree: &Path) -> Option<Result<Value, HookError>> {
        assert!(environment.is_none());
        std::fs::read_to_string(tree.join("answer")).ok().map(|text| Ok(Value::from(text)))
    }
}

#[tokio::test]
async fn a_kept_answer_is_given_without_a_worker() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    std::fs::write(tree.join("answer"), "kept").unwrap();
    let ask = || {
        let mut request = pool.request(&tree);
        request.kept_answers = Some(Arc::new(InTree));
        async { pool.supervisor.submit(request).await.unwrap().await }
    };
    let kept = ask().await;
    assert_eq!((kept.outcome.unwrap(), kept.kept, kept.worker), (json!("kept"), true, None));
    assert_eq!((kept.stdout.text().as_str(), pool.events.count("WorkerStarting")), ("", 0));
    std::fs::remove_file(tree.join("answer")).unwrap();
    let run = ask().await;
    assert_eq!((run.outcome.unwrap(), run.kept), (json!(["a>1", "b"]), false));
    assert!(run.worker.is_some() && run.observed.is_none());
    pool.end().await;
}

/// Uses something of each kind, at its import and in the hook.
const CURIOUS: &str = "
import os, subprocess
os.environ.get('TERM')
def get_requires_for_build_wheel(config_settings=None):
    os.environ.get('SSH_TTY'), os.environ.get('HOME'), os.path.exists('/nowhere')
    subprocess.run(['true'])
    open('written', 'w').close()
    open('../outside').close()
    return []
";

#[tokio::test]
async fn what_a_hook_uses_is_observed() {
    for (start_method, isolation) in [
        (StartMethod::Forkserver, Isolation::Hook),
        (StartMethod::Spawn, Isolation::Hook),
        (StartMethod::Spawn, Isolation::None),
    ] {
        let pool = Pool::start(one_job(), |builder| {
            builder.start_method(start_method).isolation(isolation).observe(&["TERM", "SSH_*"])
        })
        .await;
        let (curious, plain) = (pool.real_tree("curious", CURIOUS), pool.real_tree("plain", PLAIN));
        std::fs::write(pool.path("outside"), "").unwrap();
        let (found, nothing) = (pool.run(&curious).await, pool.run(&plain).await);
        assert!(found.outcome.is_ok() && nothing.outcome.is_ok());
        if isolation == Isolation::None {
            assert_eq!((found.observed, nothing.observed), (None, None));
        } else {
            let found = found.observed.unwrap();
            let observed = Observed {
                variables: vec!["SSH_TTY".into(), "TERM".into()],
                programs: vec!["true".into()],
                outside: vec![pool.path("outside").to_str().unwrap().into()],
                // With the bytecode of the backend.
                written: found.written.clone(),
                ..Observed::default()
            };
            assert_eq!(found, observed);
            assert!(found.written.unwrap().contains(&"written".to_owned()));
            let nothing = Observed { written: None, ..nothing.observed.unwrap() };
            assert_eq!(nothing, Observed::default());
        }
        pool.end().await;
    }
}

#[tokio::test]
async fn what_the_request_names_goes_before_pyproject_toml() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    std::fs::write(tree.join("pyproject.toml"), "this is not TOML").unwrap();
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidPyproject);
    let mut request = pool.request(&tree);
    request.backend = Some("backend".into());
    request.backend_path = Some(vec![".".into()]);
    assert!(pool.supervisor.submit(request).await.unwrap().await.outcome.is_ok());
    pool.end().await;
}

#[tokio::test]
async fn f20_a_tree_that_is_gone_or_another_never_gives_the_old_answer() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    assert!(pool.run(&tree).await.outcome.is_ok());
    std::fs::remove_dir_all(&tree).unwrap();
    let error = pool.run(&tree).await.outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidSource);
    // The inode may be the same. The worker in the old folder must not run hooks
    // of the new one.
    let again = pool.real_tree("tree", &PLAIN.replace("a>1", "new"));
    assert_eq!(pool.run(&again).await.outcome.unwrap(), json!(["new", "b"]));
    pool.end().await;
}

#[tokio::test]
async fn f15_a_dropped_ticket_frees_its_slot_wherever_the_request_is() {
    let pool = Pool::real(one_job()).await;
    let (busy, plain) = (waiting_tree(&pool, "busy"), pool.real_tree("plain", PLAIN));
    let running = pool.supervisor.submit(pool.request(&busy)).await.unwrap();
    let queued = pool.supervisor.submit(pool.request(&plain)).await.unwrap();
    read_fifo(busy.join("running")).await;
    drop(queued);
    drop(running);
    // The only job slot is free again, and the hook has ended.
    assert!(pool.run(&plain).await.outcome.is_ok());
    let mut other = pool.request(&pool.real_tree("other", PLAIN));
    // No idle worker has this variable, so none is moved to the tree.
    other.env.insert("VARIABLE".into(), "value".into());
    let starting = pool.supervisor.submit(other).await.unwrap();
    pool.events.wait_for("WorkerStarting", 2).await;
    drop(starting);
    assert!(pool.run(&plain).await.outcome.is_ok());
    pool.end().await;
}

#[tokio::test]
async fn a_cancelled_ticket_still_resolves() {
    let pool = Pool::real(one_job()).await;
    let tree = waiting_tree(&pool, "tree");
    let mut running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    let mut queued = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    read_fifo(tree.join("running")).await;
    queued.cancel();
    assert_eq!(queued.await.outcome.unwrap_err().kind, ErrorKind::Cancelled);
    running.cancel();
    running.cancel();
    let response = running.await;
    assert_eq!(response.outcome.unwrap_err().kind, ErrorKind::Cancelled);
    assert!(response.worker.is_some());
    pool.end().await;
}

#[tokio::test]
async fn a_request_cancelled_at_any_moment_of_its_start_ends_soon() {
    // The grace period is an hour, so only the signal can have ended the hook.
    let pool = Pool::real(Limits { grace_period: Some(seconds(3600)), ..one_job() }).await;
    let tree = pool.real_tree("tree", "import time\ndef get_requires_for_build_wheel(c=None):\n time.sleep(3600)\n");
    for event in ["WorkerStarting", "WorkerReady", "RequestAccepted"] {
        let before = pool.events.count(event);
        let mut ticket = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
        if pool.events.count("WorkerReady") == 0 || event == "RequestAccepted" {
            pool.events.wait_for(event, before + 1).await;
        }
        ticket.cancel();
        assert_eq!(ticket.await.outcome.unwrap_err().kind, ErrorKind::Cancelled);
    }
    pool.end().await;
}

#[tokio::test]
async fn f28_a_deadline_takes_the_whole_process_group() {
    // Variables of a request get a template at their second use, and so a new worker.
    let pool = Pool::start(one_job(), |builder| builder.start_method(StartMethod::Spawn)).await;
    let backend = "
import os, signal, subprocess, sys
def get_requires_for_build_wheel(config_settings=None):
    if config_settings:
        return []
    subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
";
    let tree = pool.real_tree("tree", backend);
    let mut request = pool.request(&tree);
    request.timeout = Some(support::milliseconds(300));
    let response = pool.supervisor.submit(request).await.unwrap().await;
    assert_eq!(response.outcome.unwrap_err().kind, ErrorKind::HookTimeout);
    // The worker is still alive.
    let mut request = pool.request(&tree);
    request.config_settings = Some(std::iter::once(("quick".to_owned(), "".into())).collect());
    let again = pool.supervisor.submit(request).await.unwrap().await;
    assert_eq!(again.outcome.unwrap(), serde_json::json!([]));
    assert_eq!(again.worker, response.worker);
    pool.end().await;
}

#[tokio::test]
async fn an_interruption_answers_everything_and_leaves_nothing() {
    for signal in [EndSignal::Interrupt, EndSignal::Terminate] {
        let pool = Pool::real(one_job()).await;
        let tree = waiting_tree(&pool, "tree");
        let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
        let queued = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
        read_fifo(tree.join("running")).await;
        pool.supervisor.interrupt(signal).await;
        assert_eq!(queued.await.outcome.unwrap_err().kind, ErrorKind::Interrupted);
        assert_eq!(running.await.outcome.unwrap_err().kind, ErrorKind::Interrupted);
        assert!(matches!(pool.supervisor.submit(pool.request(&tree)).await, Err(SubmitError::Closed)));
        pool.supervisor.finished().await;
        pool.nothing_is_left();
    }
}

#[tokio::test]
async fn termination_does_not_wait_for_the_grace_period() {
    let pool = Pool::real(Limits { grace_period: Some(seconds(3600)), ..one_job() }).await;
    let backend = WAITING.replace("while True", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True");
    let tree = pool.real_tree("tree", &backend);
    fifo(&tree.join("running"));
    let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    read_fifo(tree.join("running")).await;
    pool.supervisor.interrupt(EndSignal::Terminate).await;
    pool.supervisor.terminate().await;
    assert_eq!(running.await.outcome.unwrap_err().kind, ErrorKind::Interrupted);
    pool.supervisor.finished().await;
    pool.nothing_is_left();
}

#[tokio::test]
async fn a_full_queue_refuses_or_waits() {
    let limits = Limits { queue_size: QueueSize::new(1).unwrap(), ..one_job() };
    let pool = Pool::real(limits).await;
    let (busy, plain) = (waiting_tree(&pool, "busy"), pool.real_tree("plain", PLAIN));
    let running = pool.supervisor.try_submit(pool.request(&busy)).unwrap();
    assert!(matches!(pool.supervisor.try_submit(pool.request(&plain)), Err(SubmitError::QueueFull { limit: 1 })));
    read_fifo(busy.join("running")).await;
    let waiting = tokio::spawn({
        let (supervisor, request) = (pool.supervisor.clone(), pool.request(&plain));
        async move { supervisor.submit(request).await.unwrap().await }
    });
    drop(running);
    assert!(waiting.await.unwrap().outcome.is_ok());
    pool.end().await;
}

#[tokio::test]
async fn a_supervisor_without_handles_answers_what_it_has_and_ends() {
    let mut pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    let ticket = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    let other = Pool::real(one_job()).await;
    // This drops the last handle of the first supervisor.
    pool.supervisor = other.supervisor.clone();
    assert!(ticket.await.outcome.is_ok());
    // There is nobody left to wait for the template of the worker but us.
    pool.events.end().await;
    pool.nothing_is_left();
    other.end().await;
}

#[tokio::test]
async fn f50_a_killed_worker_takes_its_hook_along() {
    // Without a template, which would be among the processes.
    let pool = Pool::start(one_job(), |builder| builder.start_method(StartMethod::Spawn)).await;
    // The hook holds the pipe, so the end of the pipe is the end of the hook,
    // which is not a child of this process.
    let backend = WAITING.replace("with open('running', 'w') as pipe:", "pipe = open('running', 'w', 1)\n    if pipe:");
    let tree = pool.real_tree("tree", &backend.replace("str(os.getpid())", "'%d\\n' % os.getpid()"));
    fifo(&tree.join("running"));
    let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    let (hook, death) = held_fifo(tree.join("running")).await;
    let workers: Vec<u32> = pool.live_processes().into_iter().filter(|pid| *pid != hook).collect();
    assert_eq!(workers.len(), 1);
    let worker = nix::unistd::Pid::from_raw(i32::try_from(workers[0]).unwrap());
    nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(running.await.outcome.unwrap_err().kind, ErrorKind::WorkerCrashed);
    death.await;
    pool.end().await;
}

#[tokio::test]
async fn idle_workers_are_ended_after_the_idle_timeout() {
    let limits = Limits { idle_timeout: Some(seconds(1)), ..one_job() };
    let pool = Pool::start(limits, |builder| builder.start_method(StartMethod::Spawn)).await;
    let tree = pool.real_tree("tree", PLAIN);
    assert_eq!(pool.run(&tree).await.worker.unwrap().generation, 1);
    pool.events.wait_for("WorkerExited", 1).await;
    assert!(pool.live_processes().is_empty());
    assert_eq!(pool.run(&tree).await.worker.unwrap().generation, 2);
    pool.end().await;
}

#[tokio::test]
async fn f20_a_folder_that_was_renamed_never_gets_the_answer_of_its_successor() {
    let pool = Pool::real(one_job()).await;
    let first = pool.real_tree("one", PLAIN);
    assert!(pool.run(&first).await.outcome.is_ok());
    let renamed = pool.path("two");
    std::fs::rename(&first, &renamed).unwrap();
    let successor = pool.real_tree("one", &PLAIN.replace("a>1", "successor"));
    assert_eq!(pool.run(&renamed).await.outcome.unwrap(), json!(["a>1", "b"]));
    assert_eq!(pool.run(&successor).await.outcome.unwrap(), json!(["successor", "b"]));
    pool.end().await;
}

#[tokio::test]
async fn a_pipe_in_the_place_of_pyproject_toml_costs_its_own_request() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.tree("tree", "");
    fifo(&tree.join("pyproject.toml"));
    assert_eq!(pool.run(&tree).await.outcome.unwrap_err().kind, ErrorKind::InvalidPyproject);
    pool.end().await;
}

#[tokio::test]
async fn output_waits_for_its_caller_without_stopping_the_others() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", "def get_requires_for_build_wheel(c=None):\n print('x' * 100_000)\n return []\n");
    let mut tickets = Vec::new();
    for _ in 0..30 {
        tickets.push(pool.supervisor.submit(pool.request(&tree)).await.unwrap());
    }
    // The last one first, after all others have ended.
    pool.supervisor.drain().await;
    while let Some(ticket) = tickets.pop() {
        let response = ticket.await;
        assert!(response.stdout.truncated && response.stdout.tail.len() == 64 * 1024);
    }
    pool.nothing_is_left();
}

#[tokio::test]
async fn an_interruption_ends_what_was_suspended() {
    let pool = Pool::real(Limits { grace_period: Some(milliseconds(100)), ..one_job() }).await;
    let backend = WAITING.replace("while True", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True");
    let tree = pool.real_tree("tree", &backend);
    fifo(&tree.join("running"));
    let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    read_fifo(tree.join("running")).await;
    pool.supervisor.suspend().await;
    pool.supervisor.interrupt(EndSignal::Terminate).await;
    assert_eq!(running.await.outcome.unwrap_err().kind, ErrorKind::Interrupted);
    pool.supervisor.finished().await;
    pool.nothing_is_left();
}

#[tokio::test]
async fn what_was_said_last_counts_even_if_nobody_stays() {
    let pool = Pool::real(Limits { grace_period: Some(seconds(3600)), ..one_job() }).await;
    let backend = WAITING.replace("while True", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True");
    let tree = pool.real_tree("tree", &backend);
    fifo(&tree.join("running"));
    let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    read_fifo(tree.join("running")).await;
    pool.supervisor.interrupt(EndSignal::Terminate).await;
    pool.supervisor.terminate().await;
    let Pool { supervisor, events, folder: _folder, .. } = pool;
    drop(supervisor);
    assert_eq!(running.await.outcome.unwrap_err().kind, ErrorKind::Interrupted);
    events.wait_for("WorkerExited", 1).await;
}

#[tokio::test]
async fn the_memory_limit_holds_with_both_isolations() {
    for isolation in [Isolation::Hook, Isolation::None] {
        let limits = Limits { hook_memory_limit: std::num::NonZeroU64::new(64 << 20), ..one_job() };
        let pool = Pool::start(limits, |builder| builder.isolation(isolation)).await;
        let backend = "
import signal
def get_requires_for_build_wheel(config_settings=None):
    held = b'x' * (200 << 20)
    while True:
        signal.pause()
";
        let error = pool.run(&pool.real_tree("tree", backend)).await.outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::HookCrashed);
        assert!(error.message.contains("67108864"), "{}", error.message);
        pool.end().await;
    }
}

#[tokio::test]
async fn a_snapshot_has_the_processes_by_their_pid() {
    let pool = Pool::real(one_job()).await;
    let tree = waiting_tree(&pool, "tree");
    let mut request = pool.request(&tree);
    // Variables that are the supervisor's own, so that the first worker is forked.
    request.env.clear();
    let running = pool.supervisor.submit(request).await.unwrap();
    let hook: u32 = read_fifo(tree.join("running")).await.parse().unwrap();
    let snapshot = pool.supervisor.snapshot().await.unwrap();
    assert_eq!(snapshot.requests.first[0].id, running.id());
    assert_eq!(snapshot.requests.first[0].phase, RequestPhase::Running);
    let worker = &snapshot.workers.first[0];
    assert_eq!((worker.phase, worker.request), (WorkerPhase::Running, Some(running.id())));
    let pid = worker.pid.unwrap();
    assert_ne!(pid, hook);
    if worker.start_method == StartMethod::Forkserver {
        let template = &snapshot.templates[0];
        assert_eq!((worker.template, template.forked, template.in_use), (Some(template.id), 1, true));
        assert!(template.modules > Some(10), "{:?}", template.modules);
        let memory = [pid, template.pid.unwrap()].map(process_memory);
        assert!(memory.iter().all(|memory| memory.is_some_and(|bytes| bytes > 100_000)), "{memory:?}");
    }
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["requests"]["first"][0]["hook"], "get_requires_for_build_wheel");
    assert_eq!((&json["limits"]["jobs"], &json["limits"]["grace_period_ms"]), (&json!(1), &json!(1000.0)));
    assert_eq!(json["request_phases"]["running"], 1);
    drop(running);
    pool.supervisor.drain().await;
    assert!(pool.supervisor.snapshot().await.is_none());
    pool.end().await;
}

#[tokio::test]
async fn limits_change_and_no_request_is_lost() {
    let pool = Pool::real(one_job()).await;
    let (first, second) = (waiting_tree(&pool, "first"), waiting_tree(&pool, "second"));
    let supervisor = &pool.supervisor;
    let submit = |tree: &Path| supervisor.submit(pool.request(tree));
    let running = submit(&first).await.unwrap();
    let queued = submit(&second).await.unwrap();
    read_fifo(first.join("running")).await;
    let two = NonZeroUsize::new(2).unwrap();
    let (queue_size, hook_timeout) = (QueueSize::new(2).unwrap(), Some(milliseconds(200)));
    let change = LimitsChange {
        jobs: Some(two),
        queue_size: Some(queue_size),
        hook_timeout: Some(hook_timeout),
        ..LimitsChange::default()
    };
    let limits = supervisor.change_limits(change).await.unwrap();
    assert_eq!((limits.jobs, limits.queue_size, limits.hook_timeout), (two, queue_size, hook_timeout));
    pool.events.wait_for("LimitsChanged", 1).await;
    assert_eq!(supervisor.snapshot().await.unwrap().limits, limits);
    let refused = supervisor.try_submit(pool.request(&second)).unwrap_err();
    assert_eq!(refused, SubmitError::QueueFull { limit: 2 });
    // It started when there was a second job slot, and has the new limit. The other
    // one runs on without.
    read_fifo(second.join("running")).await;
    assert_eq!(queued.await.outcome.unwrap_err().kind, ErrorKind::HookTimeout);
    let mut running = running;
    assert!(futures_util::poll!(std::future::poll_fn(|context| running.poll_unread(context))).is_pending());
    let change = LimitsChange { jobs: NonZeroUsize::new(1000), ..LimitsChange::default() };
    let error = supervisor.change_limits(change.clone()).await.unwrap_err();
    assert!(matches!(error, LimitsError::TooManyJobs { jobs: 1000, .. }), "{error}");
    drop(running);
    supervisor.drain().await;
    assert_eq!(supervisor.change_limits(change).await, Err(LimitsError::Ended));
    pool.end().await;
}

#[tokio::test]
async fn an_operator_cancels_a_request_of_somebody_else() {
    let pool = Pool::real(one_job()).await;
    let tree = waiting_tree(&pool, "tree");
    let running = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    let queued = pool.supervisor.submit(pool.request(&tree)).await.unwrap();
    read_fifo(tree.join("running")).await;
    for ticket in [queued, running] {
        let id = ticket.id();
        assert!(pool.supervisor.cancel(id).await);
        let error = ticket.await.outcome.unwrap_err();
        assert_eq!((error.kind, &*error.message), (ErrorKind::Cancelled, "the request was cancelled by an operator"));
        assert!(!pool.supervisor.cancel(id).await, "it is answered");
    }
    pool.end().await;
}

#[tokio::test]
async fn a_restart_replaces_the_templates_and_workers_of_one_environment() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    let run = || async {
        let request = HookRequest::new(&tree, Hook::GetRequiresForBuildWheel);
        assert!(pool.supervisor.submit(request).await.unwrap().await.outcome.is_ok());
        pool.supervisor.snapshot().await.unwrap()
    };
    let before = run().await;
    let (worker, template) = (&before.workers.first[0], &before.templates[0]);
    // Requests name it by another path than the template has.
    assert_ne!(worker.python, template.interpreter);
    let restart = |selection| async { pool.supervisor.restart(selection).await.unwrap() };
    let nothing = restart(Selection::Environment("/no/such/python".into())).await;
    assert_eq!((nothing.workers, nothing.templates, nothing.pools), (0, 0, 0));
    let restarted = restart(Selection::Environment(template.interpreter.clone())).await;
    assert_eq!((restarted.workers, restarted.templates), (1, 1));
    let after = run().await;
    let in_use = |template: &&TemplateSnapshot| template.in_use;
    let template_after = after.templates.iter().find(in_use).unwrap();
    assert!(
        template_after.id > template.id
            && after.workers.first.iter().all(|other| other.id != worker.id || other.phase == WorkerPhase::Stopping)
    );
    let restarted = restart(Selection::Template(template_after.id)).await;
    assert_eq!((restarted.workers, restarted.templates), (1, 1));
    pool.end().await;
}

#[tokio::test]
async fn an_environment_that_nobody_needs_costs_nothing_until_somebody_does() {
    let pool = Pool::real(one_job()).await;
    let tree = pool.real_tree("tree", PLAIN);
    for round in 1..=2 {
        let request = HookRequest::new(&tree, Hook::GetRequiresForBuildWheel);
        let response = pool.supervisor.submit(request).await.unwrap().await;
        assert!(response.outcome.is_ok());
        let snapshot = pool.supervisor.snapshot().await.unwrap();
        // While the worker cleans up, or when it is idle.
        pool.supervisor.retire(&snapshot.workers.first[0].python).await;
        pool.events.wait_for("WorkerExited", round).await;
        pool.events.wait_for("TemplateExited", round).await;
    }
    pool.end().await;
}
