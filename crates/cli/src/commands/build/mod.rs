//! `hookpool metadata`, `wheel`, `sdist` and `editable`: many sources in, what
//! is wanted of them out.

mod extensions;
mod jobs;
mod plan;
mod pool;
mod session;
mod show;

use tokio::sync::watch;

use self::jobs::Job;
use self::pool::BuildPool;
use self::session::Session;
use self::show::{Display, Verbosity};
use crate::arguments::LogArguments;
use crate::commands::event_loop;
use crate::commands::finish::finish;
use crate::exit::{Exit, Failure};
use crate::signals::{self, Ending, Signals};
use crate::streams::output::Output;

pub use self::plan::Plan;

/// Builds all sources of a plan.
pub fn execute(plan: Plan, log: &LogArguments) -> Result<Exit, Failure> {
    // Before signals are listened to: reading a terminal or a pipe may take for
    // ever, and can be ended by Ctrl-C until then.
    let jobs = Job::all(&plan.sources, &plan.lists)?;
    let verbosity = Verbosity { shows_output: log.verbose > 0, is_quiet: log.quiet };
    event_loop::run(run(plan, jobs, verbosity))
}

async fn run(plan: Plan, jobs: Vec<Job>, verbosity: Verbosity) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    let display = Display::start(&jobs, plan.format, plan.wants_metadata(), verbosity)
        .map_err(|error| Failure::pool(format!("cannot show anything: no thread could be started: {error}")))?;
    plan.prepare_outputs()?;
    // Its folders must outlive the supervisor: they are removed at the end of
    // this function, whatever the reason.
    let pool = tokio::select! {
        started = BuildPool::start(&plan, &display) => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let (set_ending, ending) = watch::channel(Ending::NotYet);
    tokio::spawn(signals::obey(signals, pool.supervisor.clone(), set_ending));
    let mut output = Output::start().map_err(|error| Failure::pool(format!("cannot use standard output: {error}")))?;
    let (end, any_failed) = {
        let mut session = Session::new(&pool, &plan, &display, ending.clone()).await;
        let end = session.serve(&jobs, &mut output).await;
        let any_failed = session.any_failed();
        session.keep().await;
        (end, any_failed)
        // What is left is dropped here, and with it ended.
    };
    let is_interrupted = ending.borrow().signal().is_some();
    let close = async {
        display.finish(is_interrupted).await;
        pool.frontend.close().await;
    };
    let exit = finish(end, any_failed, &pool.supervisor, output, close, ending).await;
    pool.finish(exit)
}
