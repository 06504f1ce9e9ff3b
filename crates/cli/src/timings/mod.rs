//! `--timings FILE`: a page that shows where the time of a run went.
//!
//! A task turns events into [`records`], a task reads the load of the
//! [`processors`], and at the end the [`page`] is written. Without the flag nothing of
//! this runs.

mod page;
mod processors;
mod recorder;
mod records;
mod target;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hookpool_supervisor::{Builder, TimedEvent};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use self::page::Header;
use self::processors::Ticks;
use self::recorder::Recorder;
use self::records::Interval;
use self::target::Target;
use crate::event_readers::EventReaders;
use crate::exit::{Exit, Failure};

/// How often the load of the processors is read.
const SAMPLING: Duration = Duration::from_millis(200);

/// The report on a run, if one is wanted.
#[derive(Debug)]
pub struct Timings(Option<PendingReport>);

/// A report to be written at the end.
#[derive(Debug)]
struct PendingReport {
    target: Target,
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
        let recording = Recording { recorder: Arc::default(), start: Instant::now() };
        let sampler = tokio::spawn(sample(recording.clone()));
        let started = SystemTime::now();
        let supervisors = AtomicU32::new(0);
        Ok(Self(Some(PendingReport { target, recording, command, jobs, started, supervisors, sampler })))
    }

    /// Records the events of a supervisor. A run may have several.
    #[must_use]
    pub fn attach(&self, builder: Builder, readers: &EventReaders) -> Builder {
        let Some(report) = &self.0 else { return builder };
        let supervisor = report.supervisors.fetch_add(1, Ordering::Relaxed);
        let recording = report.recording.clone();
        let observe = move |event: &TimedEvent| {
            let time = event.at.saturating_duration_since(recording.start);
            recording.recorder().observe(supervisor, &event.event, time);
        };
        readers.attach(builder, |_| true, observe)
    }

    /// Records what happens outside of the supervisors.
    pub fn intervals(&self) -> Intervals {
        Intervals(self.0.as_ref().map(|report| report.recording.clone()))
    }

    /// Writes the report, whatever the outcome. If that fails, the run fails.
    pub fn finish(self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let Some(report) = self.0 else { return outcome };
        match (report.write(), outcome) {
            (Ok(()), outcome) => outcome,
            (Err(failure), Ok(Exit::Success | Exit::RequestFailed)) => Err(failure),
            (Err(failure), outcome) => {
                error!("{}", failure.message());
                outcome
            }
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

impl PendingReport {
    fn write(&self) -> Result<(), Failure> {
        // The last interval may be shorter.
        self.recording.add_sample();
        let duration = self.recording.start.elapsed();
        let header = Header { command: self.command, jobs: self.jobs, started: self.started, duration };
        let page = page::render(&header, &self.recording.recorder()).map_err(Failure::pool)?;
        self.target.write(&page).map_err(Failure::pool)?;
        info!(file = %self.target.path().display(), "wrote the timings");
        Ok(())
    }
}

impl Drop for PendingReport {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

impl Recording {
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
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
