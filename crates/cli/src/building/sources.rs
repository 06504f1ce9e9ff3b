//! Builds the sources, several at a time: the half of a building command that needs
//! the pool.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookpool_frontend::{Durations, Frontend, JobId, Report};
use hookpool_supervisor::{ErrorKind, HookError};
use hookpool_wire::BuildResult;
use tokio::sync::{Semaphore, mpsc, watch};

use super::jobs::Job;
use super::result::result;
use crate::settings::BuildSettings;
use crate::signals::Ending;
use crate::timings::Intervals;

/// The lanes of sources for which no hook ran, or fewer; `timings/report/head.js` counts them.
const KEPT_ANSWERS: &str = "kept answers";
const SOME_KEPT_ANSWERS: &str = "some kept answers";

/// The number of sources that are looked at before their turn.
const LOOK_AHEAD: usize = 64;

/// A source that is done.
pub type Built = (JobId, Box<BuildResult>);

/// Builds the sources of a command.
pub struct SourceBuilder<'a> {
    pub settings: &'a BuildSettings,
    pub frontend: &'a Frontend,
    pub durations: &'a mut Durations,
    pub intervals: Intervals,
    pub ending: watch::Receiver<Ending>,
    /// The number of hooks that the pool runs at once.
    pub jobs: usize,
}

impl SourceBuilder<'_> {
    /// Builds until the result of each source is sent, or nobody receives them.
    /// Dropping the future ends everything that runs for it.
    pub async fn build(mut self, jobs: &[Job], results: mpsc::Sender<Built>) {
        // Some sources wait for their environments or archives; with this many at once
        // the job slots stay busy.
        let at_once = self.jobs.saturating_mul(4).min(Semaphore::MAX_PERMITS);
        let turns = Semaphore::new(at_once);
        let mut open: BTreeMap<JobId, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
        let mut waiting = self.longest_first(jobs).into_iter();
        let mut running = FuturesUnordered::new();
        let mut any_failed = false;
        loop {
            if self.is_ending() {
                // The supervisor ends what runs. Nothing else gets its turn.
                turns.close();
            } else if self.settings.fail_fast && any_failed {
                // Dropping a build cancels it.
                running.clear();
            } else {
                let free = at_once.saturating_add(LOOK_AHEAD).saturating_sub(running.len());
                running.extend(waiting.by_ref().take(free).map(|job| build(self.frontend, self.settings, job, &turns)));
            }
            let (job, report) = match (running.next().await, open.values().next()) {
                (Some(built), _) => built,
                (None, Some(job)) => (*job, self.not_built()),
                (None, None) => return,
            };
            open.remove(&job.id);
            self.note_duration(job, &report);
            let result = result(job.name(), &report);
            any_failed |= self.settings.is_failure(&result);
            let lane = match (result.is_by_kept_answers(), result.is_partly_by_kept_answers()) {
                (true, _) => Some(KEPT_ANSWERS),
                (_, true) => Some(SOME_KEPT_ANSWERS),
                _ => None,
            };
            if let Some(lane) = lane {
                let now = Instant::now();
                self.intervals.add(lane, &job.name().display().to_string(), now - report.took, now);
            }
            if results.send((job.id, Box::new(result))).await.is_err() {
                return;
            }
        }
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    /// The sources that took longest in earlier runs come first, so that none of them
    /// runs alone at the end. Of others, large archives are expected to take longest.
    fn longest_first<'jobs>(&self, jobs: &'jobs [Job]) -> Vec<&'jobs Job> {
        let mut jobs = Job::largest_first(jobs);
        self.durations.longest_first(self.settings.command(), &mut jobs, |job| job.source.as_ref().ok());
        jobs
    }

    /// Notes how long a source took, unless its build was cut off.
    fn note_duration(&mut self, job: &Job, report: &Report) {
        let is_cut_off = |error: &HookError| matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Interrupted);
        if let Ok(source) = &job.source
            && !report.outcome.as_ref().is_err_and(is_cut_off)
        {
            self.durations.note(self.settings.command(), source, &report.hooks);
        }
    }

    /// The report on a source whose build did not start or was dropped.
    fn not_built(&self) -> Report {
        Report::failed(if self.is_ending() { interrupted() } else { failed_fast() })
    }
}

/// The error of a source that was not built because of a signal.
pub fn interrupted() -> HookError {
    HookError::new(ErrorKind::Interrupted, "the run was interrupted")
}

fn failed_fast() -> HookError {
    HookError::new(ErrorKind::Cancelled, "another source failed (--fail-fast)")
}

/// The result of a source of which nothing is known but this error.
pub fn failed(name: &Path, error: HookError) -> BuildResult {
    result(name, &Report::failed(error))
}

async fn build<'job>(
    frontend: &Frontend,
    settings: &BuildSettings,
    job: &'job Job,
    turns: &Semaphore,
) -> (&'job Job, Report) {
    let turn = async { turns.acquire().await.map_err(|_| interrupted()) };
    let report = match &job.source {
        Ok(source) => frontend.build_in_turn(job.id, job.name(), source, &settings.goal, turn).await,
        Err(error) => Report::failed(error.clone()),
    };
    (job, report)
}
