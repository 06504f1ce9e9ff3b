//! `--timings FILE`: a page that shows where the time of a run went.
//!
//! A task turns events into [`records`], a task reads the load of the
//! [`processors`], and at the end the [`page`] is written. A service makes the page, and
//! its client writes it. Without the flag nothing of this runs.

mod page;
mod processors;
mod recorder;
mod records;
mod target;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hookpool_supervisor::{Builder, RequestId, Snapshot, TimedEvent};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use self::page::Header;
use self::processors::Ticks;
use self::recorder::Recorder;
use self::records::Interval;
pub use self::target::Target;
use crate::event_readers::EventReaders;
use crate::exit::{Exit, Failure};

/// How often the load of the processors is read.
const SAMPLING: Duration = Duration::from_millis(200);

/// The report on a run, if one is wanted, and the file for it.
#[derive(Debug)]
pub struct Timings(Option<(Target, Report)>);

/// A report on what happens from its start on.
#[derive(Debug)]
pub struct Report {
    recording: Recording,
    command: &'static str,
    jobs: usize,
    started: SystemTime,
    supervisors: AtomicU32,
    sampler: JoinHandle<()>,
}

/// The recorder with the start of the run. The lock is held to add a record, and to
/// write the report.
#[derive(Clone, Debug)]
struct Recording {
    recorder: Arc<Mutex<Recorder>>,
    start: Instant,
}

/// Adds intervals outside of the supervisors to the report. Cheap to clone; does
/// nothing if no report is wanted.
#[derive(Clone, Debug)]
pub struct Intervals(Option<Recording>);

impl Timings {
    /// Starts recording. The report shows `command` and `jobs`. Needs an event loop.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(file: Option<&Path>, command: &'static str, jobs: usize) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self(None)) };
        let target = Target::check(file).map_err(Failure::pool)?;
        Ok(Self(Some((target, Report::start(command, jobs)))))
    }

    /// Records the events of a supervisor. A run may have several.
    #[must_use]
    pub fn attach(&self, builder: Builder, readers: &EventReaders) -> Builder {
        let Some((_, report)) = &self.0 else { return builder };
        let supervisor = report.supervisors.fetch_add(1, Ordering::Relaxed);
        let recording = report.recording.clone();
        readers.attach(builder, |_| true, move |event| recording.observe(supervisor, event))
    }

    /// Records what happens outside of the supervisors.
    pub fn intervals(&self) -> Intervals {
        self.0.as_ref().map_or_else(Intervals::none, |(_, report)| report.intervals())
    }

    /// Writes the report, whatever the outcome. If that fails, the run fails.
    pub fn finish(self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let Some((target, report)) = self.0 else { return outcome };
        let write = || write(&target, &report.page().map_err(Failure::pool)?);
        with_page(write(), outcome)
    }
}

/// Writes the page of a report.
pub fn write(target: &Target, page: &str) -> Result<(), Failure> {
    target.write(page).map_err(Failure::pool)?;
    info!(file = %target.path().display(), "wrote the timings");
    Ok(())
}

/// The outcome of a run, which fails if its page was not written.
pub fn with_page(written: Result<(), Failure>, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
    match (written, outcome) {
        (Ok(()), outcome) => outcome,
        (Err(failure), Ok(Exit::Success | Exit::RequestFailed)) => Err(failure),
        (Err(failure), outcome) => {
            error!("{}", failure.message());
            outcome
        }
    }
}

impl Intervals {
    /// For work that no report is about.
    pub fn none() -> Self {
        Self(None)
    }

    /// Adds an interval with a name to the lane of this name. The chart has several
    /// lines for intervals of a lane that overlap.
    pub fn add(&self, lane: &str, name: &str, start: Instant, end: Instant) {
        let Some(recording) = &self.0 else { return };
        let since_start = |moment: Instant| moment.saturating_duration_since(recording.start);
        let (start, end) = (since_start(start), since_start(end));
        recording.recorder().interval(Interval { lane: lane.into(), name: name.into(), start, end });
    }
}

impl Report {
    /// Starts recording. The report shows `command` and `jobs`. Needs an event loop.
    pub fn start(command: &'static str, jobs: usize) -> Self {
        let recording = Recording { recorder: Arc::default(), start: Instant::now() };
        let sampler = tokio::spawn(sample(recording.clone()));
        Self { recording, command, jobs, started: SystemTime::now(), supervisors: AtomicU32::new(0), sampler }
    }

    /// Records a part of what a supervisor does, from this snapshot on, which was made
    /// after the subscription to its events. To be called before any of them is observed.
    pub fn begin(&self, snapshot: &Snapshot) {
        let mut recorder = self.recording.recorder();
        for worker in &snapshot.workers.first {
            recorder.has_worker(0, worker);
        }
    }

    /// Records an event of the one supervisor.
    pub fn observe(&self, event: &TimedEvent) {
        self.recording.observe(0, event);
    }

    /// Those of these requests of the one supervisor whose answer is not recorded yet.
    pub fn missing(&self, requests: &HashSet<RequestId>) -> HashSet<RequestId> {
        let recorder = self.recording.recorder();
        let recorded: HashSet<_> = recorder.hooks.iter().map(|hook| RequestId::from(hook.request.1)).collect();
        requests - &recorded
    }

    /// Keeps only what is about these requests of the one supervisor.
    pub fn retain(&self, requests: &HashSet<RequestId>) {
        self.recording.recorder().retain(&requests.iter().map(|request| (0, request.number())).collect());
    }

    /// Records what happens outside of the supervisors.
    pub fn intervals(&self) -> Intervals {
        Intervals(Some(self.recording.clone()))
    }

    /// The page.
    pub fn page(&self) -> Result<String, serde_json::Error> {
        // The last interval may be shorter.
        self.recording.add_sample();
        let duration = self.recording.start.elapsed();
        let header = Header { command: self.command, jobs: self.jobs, started: self.started, duration };
        page::render(&header, &self.recording.recorder())
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

impl Recording {
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, supervisor: u32, event: &TimedEvent) {
        let time = event.at.saturating_duration_since(self.start);
        self.recorder().observe(supervisor, &event.event, time);
    }

    /// Reads the load of the processors. Returns whether to go on.
    fn add_sample(&self) -> bool {
        let Some(ticks) = Ticks::now() else { return false };
        let now = self.start.elapsed();
        let mut recorder = self.recorder();
        if recorder.cut.is_none() {
            recorder.samples.add(now, ticks);
        }
        recorder.cut.is_none()
    }
}

/// Reads the load of the processors until recording stops.
async fn sample(recording: Recording) {
    let mut interval = tokio::time::interval(SAMPLING);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        if !recording.add_sample() {
            return;
        }
    }
}
