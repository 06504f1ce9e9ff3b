use super::*;

const TREE: &str = "/tree";

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn start_worker(recorder: &mut Recorder, worker: Key, at: u64) {
    recorder.worker_starting(worker, Path::new(TREE), 1, StartMethod::Spawn, second(at));
}

fn finish(recorder: &mut Recorder, request: Key, at: u64) {
    let timing = Timing::default();
    recorder.request_finished(request, Path::new(TREE), Hook::BuildWheel, None, timing, second(at));
}

#[test]
fn a_request_belongs_to_the_worker_that_accepted_it_last() {
    let mut recorder = Recorder::default();
    start_worker(&mut recorder, (0, 1), 0);
    start_worker(&mut recorder, (0, 2), 1);
    recorder.request_queued((0, 7), second(2));
    recorder.request_accepted((0, 7), (0, 1), second(3));
    recorder.request_accepted((0, 7), (0, 2), second(4));
    finish(&mut recorder, (0, 7), 5);
    let record = &recorder.hooks[0];
    assert_eq!((record.queued, record.accepted, record.finished), (second(2), Some(second(4)), second(5)));
    assert_eq!(record.worker, Some(1));
    assert!(recorder.open.is_empty());
}

#[test]
fn a_request_that_no_worker_accepted_is_recorded() {
    let mut recorder = Recorder::default();
    recorder.request_queued((0, 7), second(2));
    finish(&mut recorder, (0, 7), 5);
    assert_eq!((recorder.hooks[0].accepted, recorder.hooks[0].worker), (None, None));
    // A response without a request is ignored.
    finish(&mut recorder, (0, 7), 6);
    assert_eq!(recorder.hooks.len(), 1);
}

#[test]
fn the_next_worker_gets_the_line_of_one_that_ended() {
    let mut recorder = Recorder::default();
    start_worker(&mut recorder, (0, 1), 0);
    start_worker(&mut recorder, (0, 2), 0);
    recorder.worker_ended((0, 1), Some("crashed".into()), second(1));
    start_worker(&mut recorder, (0, 3), 2);
    let lines: Vec<usize> = recorder.workers.records.iter().map(|worker| worker.slot).collect();
    assert_eq!(lines, [0, 1, 0]);
    assert_eq!(
        (recorder.workers.records[0].end, recorder.workers.records[0].reason.as_deref()),
        (Some(second(1)), Some("crashed"))
    );
}

#[test]
fn a_planned_end_keeps_its_reason() {
    let mut recorder = Recorder::default();
    start_worker(&mut recorder, (0, 1), 0);
    recorder.workers.change((0, 1), |worker| worker.reason = Some("idle timeout".into()));
    recorder.worker_ended((0, 1), crash(&ExitReason::ExitCode(0), true), second(1));
    assert_eq!(recorder.workers.records[0].reason.as_deref(), Some("idle timeout"));
    assert_eq!(crash(&ExitReason::Signal("SIGKILL".into()), false).unwrap(), "crashed: it died of SIGKILL");
}

#[test]
fn workers_of_two_supervisors_may_have_the_same_number() {
    let mut recorder = Recorder::default();
    for supervisor in [1, 2] {
        start_worker(&mut recorder, (supervisor, 1), 0);
        recorder.request_queued((supervisor, 1), second(1));
        recorder.request_accepted((supervisor, 1), (supervisor, 1), second(1));
    }
    finish(&mut recorder, (2, 1), 2);
    finish(&mut recorder, (1, 1), 2);
    let workers: Vec<_> = recorder.hooks.iter().map(|hook| hook.worker).collect();
    assert_eq!(workers, [Some(1), Some(0)]);
}

#[test]
fn recording_stops_at_the_limit() {
    let mut recorder = Recorder::with_limit(3);
    for request in 0..5 {
        recorder.observe(0, &Event::Resumed, second(request));
        recorder.interval(Interval { lane: "l".into(), name: "n".into(), start: second(0), end: second(request) });
    }
    assert_eq!((recorder.intervals.len(), recorder.cut), (3, Some(second(3))));
}

#[test]
fn templates_learn() {
    let mut recorder = Recorder::default();
    recorder.template_starting((0, 1), Some("flit_core.buildapi".into()), second(0));
    for _ in 0..Recorder::MAX_LEARNED + 5 {
        recorder.templates.change((0, 1), |template| template.ready = Some(second(1)));
    }
    recorder.template_ended((0, 1), Some(&"killed".to_owned()), second(3));
    recorder.template_starting((0, 2), None, second(4));
    assert_eq!(recorder.templates.records[1].slot, 0);
    assert_eq!(
        (recorder.templates.records[0].ready, recorder.templates.records[0].end),
        (Some(second(1)), Some(second(3)))
    );
    assert_eq!(recorder.templates.records[0].reason.as_deref(), Some("killed"));
}
