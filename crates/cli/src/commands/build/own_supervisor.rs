//! A build with a pool of this process.

use hookpool_frontend::{Durations, EnvironmentEvent};
use hookpool_supervisor::files::unblock;
use tokio::sync::mpsc;

use super::show::Display;
use crate::building::events::Narrator;
use crate::building::jobs::Job;
use crate::building::sources::SourceBuilder;
use crate::building::start_frontend;
use crate::exit::{Exit, Failure};
use crate::lifecycle::{self, time_is_up};
use crate::pool::{self, PoolResources};
use crate::settings::BuildSettings;
use crate::signals::{self, FirstSignal, Signals};
use crate::streams::output::Output;

/// Starts a pool, builds, and ends it.
pub async fn run(
    mut settings: BuildSettings,
    jobs: Vec<Job>,
    mut signals: Signals,
    display: Display,
) -> Result<Exit, Failure> {
    settings.frontend.retire_unneeded = true;
    let narrator = Narrator::new(display.observer(), display.shows_output());
    let start = async {
        let resources = PoolResources::prepare(&settings.pool, settings.command()).await?;
        let of_pool = narrator.clone();
        let builder = resources.builder(settings.pool.clone()).keep_output(true);
        let builder = resources.readers.attach(builder, narrator.wants(), move |event| of_pool.of_pool(&event.event));
        let supervisor = resources.start(builder).await?;
        Ok::<_, Failure>((resources, supervisor))
    };
    let (resources, supervisor) = tokio::select! {
        started = start => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let answers = pool::answers(&settings.pool, resources.cache.path()).await;
    let (cache, intervals) = (resources.cache.path(), resources.intervals());
    let told = narrator.clone();
    let tell = move |event: &EnvironmentEvent| told.of_environments(event);
    let frontend = start_frontend(&settings, cache, intervals, &supervisor, &narrator, tell, answers.clone())?;
    let ending = signals::obey(signals, supervisor.clone(), FirstSignal::Interrupts);
    let mut output = Output::start().map_err(|error| Failure::pool(format!("cannot use standard output: {error}")))?;

    let cache = resources.cache.path().to_owned();
    let mut durations = unblock(move || Durations::open(&cache)).await;
    let builder = SourceBuilder {
        settings: &settings,
        frontend: &frontend,
        durations: &mut durations,
        intervals: resources.intervals(),
        ending: ending.clone(),
        jobs: settings.pool.limits.jobs.get(),
    };
    let (send, results) = mpsc::channel(1);
    let time_is_up = time_is_up(supervisor.clone(), ending.clone());
    let build = async {
        builder.build(&jobs, send).await;
        std::future::pending().await
    };
    let reason = tokio::select! {
        biased;
        reason = super::show(&settings, &jobs, &display, results, &mut output, time_is_up) => reason,
        () = build => unreachable!("it never resolves"),
    };
    if let Err(error) = unblock(move || durations.save()).await {
        tracing::debug!("the durations of this run are not kept: {error}");
    }

    let is_interrupted = ending.borrow().signal().is_some();
    let close = async {
        resources.readers.finished().await;
        display.finish(is_interrupted).await;
        frontend.close().await;
        if let Some(answers) = &answers {
            answers.close().await;
        }
    };
    let exit = lifecycle::finish(reason, &supervisor, output, close, ending).await;
    resources.finish(exit)
}
