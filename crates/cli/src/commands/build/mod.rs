//! `hookpool metadata`, `wheel`, `sdist` and `editable`: many sources in, metadata or
//! archives out.
//!
//! One half builds ([`crate::building`]) and tells what happens: with a supervisor of this
//! process ([`own_supervisor`]), or in a service ([`remote`]). The other half shows it
//! ([`Display`]) and writes the results.

mod own_supervisor;
mod remote;
mod show;

use std::pin::pin;

use tokio::sync::mpsc;

use self::show::{Display, Verbosity};
use crate::arguments::{GivenFlag, LogArguments};
use crate::building::jobs::Job;
use crate::building::sources::Built;
use crate::exit::{Exit, Failure};
use crate::lifecycle::{self, EndReason};
use crate::settings::BuildSettings;
use crate::signals::Signals;
use crate::streams::output::Output;

/// Builds all sources.
pub fn execute(settings: BuildSettings, given: &[GivenFlag], log: &LogArguments) -> Result<Exit, Failure> {
    // Reading the list of sources from a terminal or a pipe may take forever. Signals
    // are not handled yet, so Ctrl-C ends it.
    let jobs = Job::all(&settings.sources, &settings.lists)?;
    let verbosity = Verbosity { shows_output: log.verbose > 0, is_quiet: log.quiet };
    lifecycle::run(run(settings, given.to_vec(), jobs, verbosity))
}

async fn run(
    settings: BuildSettings,
    given: Vec<GivenFlag>,
    jobs: Vec<Job>,
    verbosity: Verbosity,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::start(&jobs, settings.format, settings.wants_metadata(), verbosity)
        .map_err(|error| Failure::pool(format!("cannot start the thread of the display: {error}")))?;
    let remote = tokio::select! {
        remote = remote::begin(&settings, &given, &jobs, display.shows_output()) => remote?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    if let Some(remote) = remote {
        return remote.run(&settings, &jobs, signals, &display).await;
    }
    settings.prepare_outputs()?;
    own_supervisor::run(settings, jobs, signals, display).await
}

/// Shows and writes each result as it comes, until all have come or the output fails.
/// `time_is_up` ends it earlier.
async fn show(
    settings: &BuildSettings,
    jobs: &[Job],
    display: &Display,
    mut results: mpsc::Receiver<Built>,
    output: &mut Output,
    time_is_up: impl Future<Output = ()>,
) -> EndReason {
    let (writer, reports) = output.halves();
    let mut output_failed = pin!(reports.failure());
    let mut time_is_up = pin!(time_is_up);
    let mut any_failed = false;
    loop {
        let next = tokio::select! {
            biased;
            error = &mut output_failed => return EndReason::OutputFailed(error),
            () = &mut time_is_up => return EndReason::TimeIsUp,
            next = results.recv() => next,
        };
        let Some((job, result)) = next else { return EndReason::AllAnswered { any_failed } };
        any_failed |= settings.is_failure(&result);
        let Some(bytes) = display.done(&jobs[job.0], *result) else { continue };
        let room = tokio::select! {
            biased;
            error = &mut output_failed => return EndReason::OutputFailed(error),
            () = &mut time_is_up => return EndReason::TimeIsUp,
            room = writer.room() => room,
        };
        room.send(bytes);
    }
}
