//! `hookpool run`: requests on standard input, responses on standard output,
//! both as JSON, a line each.

mod field;
mod id;
mod input;
mod open_request;
mod request_line;
mod response_line;
mod session;

use tokio::sync::watch;

use self::input::InputLines;
use self::session::Session;
use crate::arguments::run::RunArguments;
use crate::commands::event_loop;
use crate::commands::finish::finish;
use crate::exit::{Exit, Failure};
use crate::observer;
use crate::pool::{self, Premises};
use crate::settings::PoolSettings;
use crate::signals::{self, Ending, Signals};
use crate::streams::output::Output;

/// Runs hooks until the input ends or a signal comes.
pub fn execute(arguments: RunArguments) -> Result<Exit, Failure> {
    let settings = PoolSettings::resolve(arguments.pool)?;
    event_loop::run(run(settings))
}

async fn run(settings: PoolSettings) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    let premises = tokio::select! {
        premises = Premises::prepare(&settings, "run") => premises?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let queue_size = settings.limits.queue_size;
    let supervisor = tokio::select! {
        started = premises.start(premises.builder(settings.clone())) => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let environments = pool::environments(&settings, &premises, &supervisor, observer::log_environment)?;
    let (set_ending, ending) = watch::channel(Ending::NotYet);
    tokio::spawn(signals::obey(signals, supervisor.clone(), set_ending));
    let streams = InputLines::start().and_then(|input| Ok((input, Output::start()?)));
    let (input, mut output) =
        streams.map_err(|error| Failure::pool(format!("cannot use standard input and output: {error}")))?;
    let mut session = Session::new(supervisor.clone(), environments.clone(), queue_size.get(), input, ending.clone());
    let end = session.serve(&mut output).await;
    let any_failed = session.any_failed();
    // What is left of the requests is cancelled with it.
    drop(session);
    let close = async {
        if let Some(environments) = environments {
            environments.close().await;
        }
    };
    let exit = finish(end, any_failed, &supervisor, output, close, ending).await;
    premises.finish(exit)
}
