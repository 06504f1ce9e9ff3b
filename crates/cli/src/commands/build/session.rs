//! The loop over the sources: some at a time, told as they complete.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookpool_frontend::{Durations, Frontend, JobId, Report};
use hookpool_supervisor::{ErrorKind, HookError, unblock};
use tokio::sync::watch;

use super::jobs::Job;
use super::plan::Plan;
use super::pool::BuildPool;
use super::show::Display;
use crate::commands::finish::{SessionEnd, time_is_up};
use crate::signals::Ending;
use crate::streams::output::Output;

/// The sources of a run on their way.
pub struct Session<'a> {
    pool: &'a BuildPool,
    plan: &'a Plan,
    display: &'a Display,
    ending: watch::Receiver<Ending>,
    durations: Durations,
    any_failed: bool,
}

/// A source that is done.
struct Done<'a> {
    job: &'a Job,
    report: Report,
    took: Duration,
}

impl<'a> Session<'a> {
    pub async fn new(
        pool: &'a BuildPool,
        plan: &'a Plan,
        display: &'a Display,
        ending: watch::Receiver<Ending>,
    ) -> Self {
        let folder = pool.cache_folder().to_owned();
        let durations = unblock(move || Durations::open(&folder)).await;
        Self { pool, plan, display, ending, durations, any_failed: false }
    }

    /// Whether some source so far failed.
    pub fn any_failed(&self) -> bool {
        self.any_failed
    }

    /// Runs until every source is told of, or nothing can be told.
    pub async fn serve(&mut self, jobs: &'a [Job], output: &mut Output) -> SessionEnd {
        let (writer, reports) = output.halves();
        let mut failed = pin!(reports.failure());
        let mut time_is_up = pin!(time_is_up(self.pool.supervisor.clone(), self.ending.clone()));
        let mut open: BTreeMap<JobId, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
        let mut waiting = self.in_order(jobs).into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            if self.stops() {
                self.stop_running(&mut running);
            } else {
                let free = self.pool.sources_at_once.saturating_sub(running.len());
                running.extend(waiting.by_ref().take(free).map(|job| build(&self.pool.frontend, self.plan, job)));
            }
            let next = tokio::select! {
                biased;
                error = &mut failed => return SessionEnd::OutputFailed(error),
                () = &mut time_is_up => return SessionEnd::TimeIsUp,
                next = running.next() => next,
            };
            let done = match next {
                Some(done) => done,
                None => match open.values().next() {
                    Some(job) => self.not_done(job),
                    None => return SessionEnd::Answered,
                },
            };
            open.remove(&done.job.id);
            self.note(&done);
            let Some(bytes) = self.display.done(done.job, done.report, done.took) else { continue };
            let room = tokio::select! {
                biased;
                error = &mut failed => return SessionEnd::OutputFailed(error),
                () = &mut time_is_up => return SessionEnd::TimeIsUp,
                room = writer.room() => room,
            };
            room.send(bytes);
        }
    }

    /// What takes longest first, so that the last to be done is not the one that
    /// was begun last.
    fn in_order(&self, jobs: &'a [Job]) -> Vec<&'a Job> {
        let mut jobs: Vec<&Job> = jobs.iter().collect();
        self.durations.longest_first(self.plan.command(), &mut jobs, |job| job.source.as_ref().ok());
        jobs
    }

    fn note(&mut self, done: &Done) {
        self.any_failed |= done.report.outcome.is_err();
        // What was cut off says nothing about how long it takes.
        let cut_off = |error: &HookError| matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Interrupted);
        if let Ok(source) = &done.job.source
            && !done.report.outcome.as_ref().is_err_and(cut_off)
        {
            self.durations.note(self.plan.command(), source, &done.report.hooks);
        }
    }

    /// Keeps what was learned for the next run.
    pub async fn keep(self) {
        let durations = self.durations;
        if let Err(error) = unblock(move || durations.save()).await {
            tracing::debug!("how long the sources took is not kept: {error}");
        }
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    /// Whether nothing more is to be begun.
    fn stops(&self) -> bool {
        self.is_ending() || (self.plan.fail_fast && self.any_failed)
    }

    /// Drops what runs, which ends it; not where a signal has told the
    /// supervisor to end it in good order.
    fn stop_running<F>(&self, running: &mut FuturesUnordered<F>) {
        if !self.is_ending() {
            running.clear();
        }
    }

    /// The answer for a source that was never begun, or dropped.
    fn not_done(&self, job: &'a Job) -> Done<'a> {
        let error = if self.is_ending() {
            HookError::new(ErrorKind::Interrupted, "the run was interrupted")
        } else {
            HookError::new(ErrorKind::Cancelled, "another source failed (--fail-fast)")
        };
        Done { job, report: Report::failed(error), took: Duration::ZERO }
    }
}

async fn build<'a>(frontend: &Frontend, plan: &Plan, job: &'a Job) -> Done<'a> {
    let started = Instant::now();
    let report = match &job.source {
        Ok(source) => frontend.build(job.id, job.name(), source, &plan.goal).await,
        Err(error) => Report::failed(error.clone()),
    };
    Done { job, report, took: started.elapsed() }
}
