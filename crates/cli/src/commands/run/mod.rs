//! `hookpool run`: requests on standard input, responses on standard output,
//! both as JSON, a line each.

mod field;
mod id;
mod input;
mod output;
mod patient;
mod request_line;
mod response_line;
mod session;

use std::io;
use std::time::{Duration, Instant};

use hookpool_frontend::jobserver::Decision;
use hookpool_supervisor::{EndSignal, Supervisor};
use tokio::sync::watch;

use self::input::Input;
use self::output::Output;
use self::session::{Session, SessionEnd};
use crate::arguments::run::RunArguments;
use crate::cache;
use crate::capture::CaptureFolder;
use crate::exit::{Exit, Failure};
use crate::jobserver;
use crate::pool;
use crate::settings::PoolSettings;
use crate::signals::{self, Ending, Signals};
use crate::timings::Timings;

/// How long a reader who stalls may take for the last responses, once a signal
/// has ended everything else.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the end may take after a second signal.
const END_AT_ONCE: Duration = Duration::from_secs(5);

/// Runs hooks until the input ends or a signal comes.
pub fn execute(arguments: RunArguments) -> Result<Exit, Failure> {
    let settings = PoolSettings::resolve(arguments.pool)?;
    let decision = jobserver::decide(settings.jobserver)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::pool(format!("cannot start the event loop: {error}")))?;
    let outcome = runtime.block_on(run(settings, decision));
    // Not by dropping it, which would wait for blocking calls, such as one for
    // the lock of a source tree that another process works in.
    runtime.shutdown_background();
    outcome
}

async fn run(settings: PoolSettings, decision: Decision) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    // The folders and the jobserver must outlive the supervisor; what is
    // temporary is removed when this function returns, whatever the reason.
    let timings = Timings::start(settings.timings.as_deref(), "run", settings.limits.jobs.get())?;
    let cache_folder = cache::for_this_run(settings.cache_folder.clone())?;
    let capture_folder = CaptureFolder::make(settings.capture_folder.as_deref())?;
    let jobserver = jobserver::start(decision, settings.limits.jobs, &capture_folder)?;
    let queue_size = settings.limits.queue_size;
    let builder = timings.attach(jobserver.attach(pool::builder(settings, &cache_folder, &capture_folder)));
    let starting = Instant::now();
    let supervisor = tokio::select! {
        started = pool::start(builder) => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    timings.intervals().add("hookpool", "start of the pool", starting, Instant::now());
    let (set_ending, ending) = watch::channel(Ending::NotYet);
    tokio::spawn(signals::obey(signals, supervisor.clone(), set_ending));
    let streams = Input::start().and_then(|input| Ok((input, Output::start()?)));
    let (input, mut output) =
        streams.map_err(|error| Failure::pool(format!("cannot use standard input and output: {error}")))?;
    let mut session = Session::new(supervisor.clone(), queue_size.get(), input, ending.clone());
    let end = session.serve(&mut output).await;
    let any_failed = session.any_failed();
    // What is left of the requests is cancelled with it.
    drop(session);
    timings.finish(finish(end, any_failed, &supervisor, output, ending).await)
}

/// Ends the pool and the output, and says what that amounts to.
async fn finish(
    end: SessionEnd,
    any_failed: bool,
    supervisor: &Supervisor,
    output: Output,
    ending: watch::Receiver<Ending>,
) -> Result<Exit, Failure> {
    if let SessionEnd::OutputFailed(_) = end {
        supervisor.interrupt(EndSignal::Terminate).await;
    }
    // The dispatcher ends before the time is up, or it does not end at all.
    tokio::select! {
        () = supervisor.drain() => {}
        () = time_is_up(supervisor.clone(), ending.clone()) => {}
    }
    let (read, written) = match end {
        SessionEnd::OutputFailed(error) => (Ok(()), Err(error)),
        SessionEnd::TimeIsUp => (Ok(()), Ok(())),
        SessionEnd::Answered => (Ok(()), last_words(output, supervisor, &ending).await),
        SessionEnd::InputFailed(error) => (Err(error), last_words(output, supervisor, &ending).await),
    };
    let signal = ending.borrow().signal();
    match (signal, written, read) {
        (Some(signal), _, _) => Ok(Exit::Interrupted(signal)),
        (None, Err(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
        (None, Err(error), _) => Err(Failure::pool(format!("cannot write to standard output: {error}"))),
        (None, Ok(()), Err(error)) => Err(Failure::pool(format!("cannot read standard input: {error}"))),
        (None, Ok(()), Ok(())) if any_failed => Ok(Exit::RequestFailed),
        (None, Ok(()), Ok(())) => Ok(Exit::Success),
    }
}

/// Waits until everything is written, as long as no signal says otherwise.
async fn last_words(output: Output, supervisor: &Supervisor, ending: &watch::Receiver<Ending>) -> io::Result<()> {
    tokio::select! {
        written = output.finish() => written,
        () = time_is_up(supervisor.clone(), ending.clone()) => Ok(()),
    }
}

/// Waits until signals have ended the program and what is still open has had
/// its time; for ever where there is none. Cancel-safe.
async fn time_is_up(supervisor: Supervisor, mut ending: watch::Receiver<Ending>) {
    let mut first = ending.clone();
    let orderly = async {
        let _ = first.wait_for(|ending| ending.signal().is_some()).await;
        supervisor.finished().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let at_once = async {
        let _ = ending.wait_for(|ending| matches!(ending, Ending::AtOnce(_))).await;
        tokio::time::sleep(END_AT_ONCE).await;
    };
    tokio::select! {
        () = orderly => {}
        () = at_once => {}
    }
}
