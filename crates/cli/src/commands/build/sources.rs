//! Builds the sources, several at a time, and shows each result as it completes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookpool_frontend::{Durations, Frontend, JobId, Report};
use hookpool_supervisor::{ErrorKind, HookError, Supervisor};
use tokio::sync::watch;

use super::jobs::Job;
use super::result::result;
use super::show::Display;
use crate::commands::lifecycle::{EndReason, time_is_up};
use crate::settings::BuildSettings;
use crate::signals::Ending;
use crate::streams::output::Output;
use crate::timings::Intervals;

/// The lane of sources for which no hook ran; `timings/report/head.js` counts them.
const KEPT_ANSWERS: &str = "kept answers";

/// Builds the sources of a command.
pub struct SourceBuilder<'a> {
    pub settings: &'a BuildSettings,
    pub frontend: &'a Frontend,
    pub supervisor: &'a Supervisor,
    pub display: &'a Display,
    pub durations: &'a mut Durations,
    pub intervals: Intervals,
    pub ending: watch::Receiver<Ending>,
}

impl SourceBuilder<'_> {
    /// Builds until the result of each source is written or the output fails.
    pub async fn build(mut self, jobs: &[Job], output: &mut Output) -> EndReason {
        // Some sources wait for their environments or archives; with this many at once
        // the job slots stay busy.
        let at_once = self.settings.pool.limits.jobs.get().saturating_mul(4);
        let (writer, reports) = output.halves();
        let mut output_failed = pin!(reports.failure());
        let mut time_is_up = pin!(time_is_up(self.supervisor.clone(), self.ending.clone()));
        let mut open: BTreeMap<JobId, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
        let mut waiting = self.longest_first(jobs).into_iter();
        let mut running = FuturesUnordered::new();
        let mut any_failed = false;
        loop {
            if self.is_ending() {
                // The supervisor ends what runs.
            } else if self.settings.fail_fast && any_failed {
                // Dropping a build cancels it.
                running.clear();
            } else {
                let free = at_once.saturating_sub(running.len());
                running.extend(waiting.by_ref().take(free).map(|job| build(self.frontend, self.settings, job)));
            }
            let next = tokio::select! {
                biased;
                error = &mut output_failed => return EndReason::OutputFailed(error),
                () = &mut time_is_up => return EndReason::TimeIsUp,
                next = running.next() => next,
            };
            let (job, report, took) = match (next, open.values().next()) {
                (Some(built), _) => built,
                (None, Some(job)) => (*job, self.not_built(), Duration::ZERO),
                (None, None) => return EndReason::AllAnswered { any_failed },
            };
            open.remove(&job.id);
            self.note_duration(job, &report);
            if report.is_by_kept_answers() {
                let now = Instant::now();
                self.intervals.add(KEPT_ANSWERS, &job.name().display().to_string(), now - took, now);
            }
            let result = result(job.name(), &report, took);
            any_failed |= !result.ok || (self.is_strict() && result.has_wrong_answer());
            let Some(bytes) = self.display.done(job, result) else { continue };
            let room = tokio::select! {
                biased;
                error = &mut output_failed => return EndReason::OutputFailed(error),
                () = &mut time_is_up => return EndReason::TimeIsUp,
                room = writer.room() => room,
            };
            room.send(bytes);
        }
    }

    fn is_strict(&self) -> bool {
        self.settings.pool.answers.as_ref().is_some_and(|answers| answers.strict)
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    /// The sources that took longest in earlier runs come first, so that none of them
    /// runs alone at the end.
    fn longest_first<'jobs>(&self, jobs: &'jobs [Job]) -> Vec<&'jobs Job> {
        let mut jobs: Vec<&Job> = jobs.iter().collect();
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
        Report::failed(if self.is_ending() {
            HookError::new(ErrorKind::Interrupted, "the run was interrupted")
        } else {
            HookError::new(ErrorKind::Cancelled, "another source failed (--fail-fast)")
        })
    }
}

async fn build<'job>(frontend: &Frontend, settings: &BuildSettings, job: &'job Job) -> (&'job Job, Report, Duration) {
    let started = Instant::now();
    let report = match &job.source {
        Ok(source) => frontend.build(job.id, job.name(), source, &settings.goal).await,
        Err(error) => Report::failed(error.clone()),
    };
    (job, report, started.elapsed())
}
