//! `hookpool run`: requests on standard input, responses on standard output, both
//! JSON Lines.

use crate::arguments::RunArguments;
use crate::exit::{Exit, Failure};
use crate::hooks::lines::InputLines;
use crate::hooks::requests::OpenRequests;
use crate::hooks::{Hooks, Origin};
use crate::lifecycle;
use crate::observer;
use crate::pool::{self, PoolResources};
use crate::settings::PoolSettings;
use crate::signals::{self, FirstSignal, Signals};
use crate::streams::output::Output;

/// Runs hooks until the input ends or a signal comes.
pub fn execute(arguments: RunArguments) -> Result<Exit, Failure> {
    let settings = PoolSettings::resolve(arguments.pool)?;
    lifecycle::run(run(settings))
}

async fn run(settings: PoolSettings) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let resources = tokio::select! {
        resources = PoolResources::prepare(&settings, "run") => resources?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let supervisor = tokio::select! {
        started = resources.start(resources.builder(settings.clone())) => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let environments = resources.environments_of_callers(&settings, &supervisor, observer::log_environment);
    // Otherwise the first request would tell that none can be made.
    environments.of(None).await?;
    let answers = pool::answers(&settings, resources.cache.path()).await;
    let hooks = Hooks {
        supervisor: supervisor.clone(),
        environments,
        answers,
        default_caller: None,
        origin: Origin::default(),
    };
    let ending = signals::obey(signals, supervisor.clone(), FirstSignal::Interrupts);
    let streams = InputLines::start().and_then(|input| Ok((input, Output::start()?)));
    let (input, mut output) =
        streams.map_err(|error| Failure::pool(format!("cannot use standard input and output: {error}")))?;
    let queue_size = settings.limits.queue_size.get();
    let is_strict = settings.answers.as_ref().is_some_and(|answers| answers.strict);
    let requests = OpenRequests::new(hooks.clone(), queue_size, input, ending.clone(), is_strict);
    let reason = requests.serve(&mut output, std::future::pending()).await;
    let close = async {
        resources.readers.finished().await;
        hooks.close().await;
    };
    let exit = lifecycle::finish(reason, &supervisor, output, close, ending).await;
    resources.finish(exit)
}
