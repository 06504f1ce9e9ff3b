//! A build with a pool of this process.

use std::path::Path;
use std::sync::Arc;

use hookpool_frontend::{Answers, Durations, EnvironmentEvent, Frontend, KeptLogs, LogFolder};
use hookpool_supervisor::Supervisor;
use hookpool_supervisor::files::{refuse_foreign_links, unblock};
use tokio::sync::mpsc;

use super::events::Narrator;
use super::jobs::Job;

use super::show::Display;
use super::sources::SourceBuilder;
use crate::commands::lifecycle::{self, time_is_up};
use crate::exit::{Exit, Failure};
use crate::pool::{self, PoolResources};
use crate::settings::BuildSettings;
use crate::signals::{self, FirstSignal, Signals};
use crate::streams::output::Output;
use crate::timings::Intervals;

/// Starts a pool, builds, and ends it.
pub async fn run(
    settings: BuildSettings,
    jobs: Vec<Job>,
    mut signals: Signals,
    display: Display,
) -> Result<Exit, Failure> {
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

/// The frontend of a build, in whatever process.
pub fn start_frontend(
    settings: &BuildSettings,
    cache: &Path,
    intervals: Intervals,
    supervisor: &Supervisor,
    narrator: &Narrator,
    of_environments: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
    answers: Option<Arc<Answers>>,
) -> Result<Frontend, Failure> {
    let logs = match &settings.log_folder {
        Some(path) => {
            refuse_foreign_links(path).map_err(|error| Failure::pool(format!("--log-dir: {error}")))?;
            LogFolder::new(std::path::absolute(path).map_err(Failure::pool)?, KeptLogs::All)
        }
        None => LogFolder::in_cache(cache),
    };
    let of_frontend = narrator.clone();
    let mut frontend = settings.frontend.clone();
    frontend.environments = pool::environments(&settings.pool, cache, intervals, supervisor, of_environments)?;
    frontend.logs = Some(logs);
    frontend.cache_folder = Some(cache.to_owned());
    frontend.answers = answers;
    Frontend::new(supervisor.clone(), frontend, move |event| of_frontend.of_frontend(event)).map_err(Failure::pool)
}
