//! `hookpool metadata`, `wheel`, `sdist` and `editable`: many sources in, metadata or
//! archives out.

mod jobs;
mod result;
mod show;
mod sources;

use std::sync::Arc;

use hookpool_frontend::{Answers, Durations, Frontend, KeptLogs, LogFolder};
use hookpool_supervisor::Supervisor;
use hookpool_supervisor::files::{refuse_foreign_links, unblock};

use self::jobs::Job;
use self::show::{Display, Verbosity};
use self::sources::SourceBuilder;
use crate::arguments::LogArguments;
use crate::commands::lifecycle;
use crate::exit::{Exit, Failure};
use crate::pool::PoolResources;
use crate::settings::BuildSettings;
use crate::signals::{self, FirstSignal, Signals};
use crate::streams::output::Output;

/// Builds all sources.
pub fn execute(settings: BuildSettings, log: &LogArguments) -> Result<Exit, Failure> {
    // Reading the list of sources from a terminal or a pipe may take forever. Signals
    // are not handled yet, so Ctrl-C ends it.
    let jobs = Job::all(&settings.sources, &settings.lists)?;
    let verbosity = Verbosity { shows_output: log.verbose > 0, is_quiet: log.quiet };
    lifecycle::run(run(settings, jobs, verbosity))
}

async fn run(settings: BuildSettings, jobs: Vec<Job>, verbosity: Verbosity) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::start(&jobs, settings.format, settings.wants_metadata(), verbosity)
        .map_err(|error| Failure::pool(format!("cannot start the thread of the display: {error}")))?;
    settings.prepare_outputs()?;
    let start = async {
        let resources = PoolResources::prepare(&settings.pool, settings.command()).await?;
        let builder = resources.builder(settings.pool.clone()).keep_output(true).observer(display.observer());
        let supervisor = resources.start(builder).await?;
        Ok::<_, Failure>((resources, supervisor))
    };
    let (resources, supervisor) = tokio::select! {
        started = start => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let answers = resources.answers(&settings.pool).await;
    let frontend = start_frontend(&settings, &resources, &supervisor, &display, answers.clone())?;
    let ending = signals::obey(signals, supervisor.clone(), FirstSignal::Interrupts);
    let mut output = Output::start().map_err(|error| Failure::pool(format!("cannot use standard output: {error}")))?;

    let cache = resources.cache.path().to_owned();
    let mut durations = unblock(move || Durations::open(&cache)).await;
    let builder = SourceBuilder {
        settings: &settings,
        frontend: &frontend,
        supervisor: &supervisor,
        display: &display,
        durations: &mut durations,
        intervals: resources.intervals(),
        ending: ending.clone(),
    };
    let reason = builder.build(&jobs, &mut output).await;
    if let Err(error) = unblock(move || durations.save()).await {
        tracing::debug!("the durations of this run are not kept: {error}");
    }

    let is_interrupted = ending.borrow().signal().is_some();
    let close = async {
        display.finish(is_interrupted).await;
        frontend.close().await;
        if let Some(answers) = &answers {
            answers.close().await;
        }
    };
    let exit = lifecycle::finish(reason, &supervisor, output, close, ending).await;
    resources.finish(exit)
}

fn start_frontend(
    settings: &BuildSettings,
    resources: &PoolResources,
    supervisor: &Supervisor,
    display: &Display,
    answers: Option<Arc<Answers>>,
) -> Result<Frontend, Failure> {
    let logs = match &settings.log_folder {
        Some(path) => {
            refuse_foreign_links(path).map_err(|error| Failure::pool(format!("--log-dir: {error}")))?;
            LogFolder::new(std::path::absolute(path).map_err(Failure::pool)?, KeptLogs::All)
        }
        None => LogFolder::in_cache(resources.cache.path()),
    };
    let mut frontend = settings.frontend.clone();
    frontend.environments = resources.environments(&settings.pool, supervisor, display.environment_observer())?;
    frontend.logs = Some(logs);
    frontend.cache_folder = Some(resources.cache.path().to_owned());
    frontend.answers = answers;
    Frontend::new(supervisor.clone(), frontend, display.build_observer()).map_err(Failure::pool)
}
