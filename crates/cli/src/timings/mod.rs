//! `--timings FILE`: a page that shows where the time of a run went.
//!
//! An observer makes [`records`] of events, a task reads the use of the
//! [`processors`], and at the end a [`page`] is written. Without the flag none
//! of that happens.

mod page;
mod processors;
mod recorder;
mod records;
mod slots;
mod target;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hookpool_supervisor::{Builder, Event};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use self::page::Run;
use self::processors::Ticks;
use self::recorder::Recorder;
use self::records::Interval;
use self::target::Target;
use crate::exit::{Exit, Failure};

/// How often the use of the processors is read.
const SAMPLING: Duration = Duration::from_millis(200);

/// The report of a run to be, if there is to be one.
#[derive(Debug)]
pub struct Timings(Option<Report>);

#[derive(Debug)]
struct Report {
    target: Target,
    log: Log,
    command: &'static str,
    jobs: usize,
    started: SystemTime,
    supervisors: AtomicU32,
    sampler: JoinHandle<()>,
}

/// What is recorded, and since when. The lock is held for a change of the
/// records, and once for writing them.
#[derive(Clone, Debug)]
struct Log {
    recorder: Arc<Mutex<Recorder>>,
    since: Instant,
}

/// Adds to the report of a run what does not happen in a supervisor. Cheap to
/// clone, and without a report nothing happens.
#[derive(Clone, Debug)]
pub struct Intervals(Option<Log>);

impl Timings {
    /// From here on the time counts. `jobs` is for information. Within the
    /// runtime.
    ///
    /// # Errors
    /// The file cannot be written; that is looked at before there is any work.
    pub fn start(file: Option<&Path>, command: &'static str, jobs: usize) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self(None)) };
        let target = Target::check(file).map_err(Failure::pool)?;
        let log = Log { recorder: Arc::default(), since: Instant::now() };
        let sampler = tokio::spawn(sample(log.clone()));
        let started = SystemTime::now();
        Ok(Self(Some(Report { target, log, command, jobs, started, supervisors: AtomicU32::new(0), sampler })))
    }

    /// Records what happens in the supervisor to be. May be called for several.
    #[must_use]
    pub fn attach(&self, builder: Builder) -> Builder {
        let Some(report) = &self.0 else { return builder };
        let supervisor = report.supervisors.fetch_add(1, Ordering::Relaxed);
        let log = report.log.clone();
        builder.observer(move |event: &Event| {
            let now = log.since.elapsed();
            log.recorder().observe(supervisor, event, now);
        })
    }

    /// For what happens elsewhere.
    pub fn intervals(&self) -> Intervals {
        Intervals(self.0.as_ref().map(|report| report.log.clone()))
    }

    /// Writes the report of what has happened, however it ended. If that fails,
    /// so does a run that did not.
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
    /// Something took from `start` to `end`. `lane` names the line of the chart
    /// (those that overlap get several), `name` is what is told of it.
    pub fn add(&self, lane: &str, name: &str, start: Instant, end: Instant) {
        let Some(log) = &self.0 else { return };
        let since = |moment: Instant| moment.saturating_duration_since(log.since);
        let (start, end) = (since(start), since(end));
        log.recorder().interval(Interval { lane: lane.into(), name: name.into(), start, end });
    }
}

impl Report {
    fn write(&self) -> Result<(), Failure> {
        // The last stretch is as long as it is.
        self.log.add_sample();
        let duration = self.log.since.elapsed();
        let run = Run { command: self.command, jobs: self.jobs, started: self.started, duration };
        let page = page::render(&run, &self.log.recorder()).map_err(Failure::pool)?;
        self.target.write(&page).map_err(Failure::pool)?;
        info!(file = %self.target.path().display(), "wrote the timings");
        Ok(())
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

impl Log {
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the use of the processors; says whether that should go on.
    fn add_sample(&self) -> bool {
        let Some(ticks) = Ticks::now() else { return false };
        let now = self.since.elapsed();
        let mut recorder = self.recorder();
        if recorder.cut.is_none() {
            recorder.samples.add(now, ticks);
        }
        recorder.cut.is_none()
    }
}

/// Reads the use of the processors, as long as anything is recorded and the
/// system tells.
async fn sample(log: Log) {
    let mut interval = tokio::time::interval(SAMPLING);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        if !log.add_sample() {
            return;
        }
    }
}
