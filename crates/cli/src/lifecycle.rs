//! How a command that runs hooks starts and ends: its event loop, and the end of
//! its pool and its output.

use std::io::{self, ErrorKind};
use std::time::Duration;

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{EndSignal, Supervisor};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::console;
use crate::exit::{Exit, Failure};
use crate::signals::Ending;
use crate::streams::output::Output;

/// The most threads for blocking work.
const MAX_BLOCKING_THREADS: usize = 32;

/// How long a reader that stalls may take to read the last responses after a
/// signal.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// How long the end may take after a second signal.
const FORCED_END: Duration = Duration::from_secs(5);

/// Runs a command to its end, on this thread.
pub fn run(command: impl Future<Output = Result<Exit, Failure>> + Send + 'static) -> Result<Exit, Failure> {
    let failure = |error| Failure::pool(format!("cannot start the event loop: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Blocking threads never expire: tokio panics if it has none and the system
        // refuses to create one, which can happen at any time.
        .thread_keep_alive(Duration::MAX)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .map_err(failure)?;
    start_first_blocking_thread(&runtime).map_err(failure)?;
    // Spawned as a task: waking the future of `block_on` itself takes a system call.
    let outcome = runtime.block_on(async { tokio::spawn(command).await });
    let outcome = outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // Dropping the runtime would wait for blocking calls, for example for the lock of
    // a source tree that another process holds.
    runtime.shutdown_background();
    outcome
}

/// Starts tokio's first blocking thread. If the system refuses to create threads,
/// this is an error and not a panic.
fn start_first_blocking_thread(runtime: &Runtime) -> io::Result<()> {
    std::thread::Builder::new().spawn(|| ())?.join().expect("the thread does nothing");
    // The system has just created a thread, so it will most likely create this one.
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}

/// Why a command stops serving.
#[derive(Debug)]
pub enum EndReason {
    /// Everything was answered.
    AllAnswered { any_failed: bool },
    /// Reading the input failed; what was read before is answered.
    InputFailed(io::Error),
    /// Writing the output failed.
    OutputFailed(io::Error),
    /// A signal came, and not all answers could be written in time.
    TimeIsUp,
}

/// Ends the pool and the output, and returns how the program is to exit. `close`
/// runs when no hook runs any more.
pub async fn finish(
    reason: EndReason,
    supervisor: &Supervisor,
    output: Output,
    close: impl Future<Output = ()>,
    ending: watch::Receiver<Ending>,
) -> Result<Exit, Failure> {
    let output = match reason {
        EndReason::AllAnswered { .. } | EndReason::InputFailed(_) => Some(output),
        EndReason::OutputFailed(_) => {
            supervisor.interrupt(EndSignal::Terminate).await;
            None
        }
        EndReason::TimeIsUp => None,
    };
    let mut written = Ok(());
    let orderly_end = async {
        supervisor.drain().await;
        if let Some(output) = output {
            written = output.finish().await;
        }
        close.await;
        console_flushed().await;
    };
    tokio::select! {
        () = orderly_end => {}
        () = time_is_up(supervisor.clone(), ending.clone()) => {}
    }
    if let Some(signal) = ending.borrow().signal() {
        return Ok(Exit::Interrupted(signal));
    }
    match (reason, written) {
        (EndReason::OutputFailed(error), _) | (_, Err(error)) => output_failed(error),
        (EndReason::InputFailed(error), Ok(())) => Err(Failure::pool(format!("cannot read standard input: {error}"))),
        (EndReason::AllAnswered { any_failed: true }, Ok(())) => Ok(Exit::RequestFailed),
        (EndReason::AllAnswered { any_failed: false } | EndReason::TimeIsUp, Ok(())) => Ok(Exit::Success),
    }
}

/// Waits until standard error is written. Cancel-safe.
pub async fn console_flushed() {
    /// A blocked thread cannot be cancelled, so each attempt is short.
    const ATTEMPT: Duration = Duration::from_secs(1);
    while !unblock(|| console::flush(ATTEMPT)).await {}
}

/// Waits until a signal has ended the program and the grace period of the output
/// is over; forever if no signal comes. Cancel-safe.
pub async fn time_is_up(supervisor: Supervisor, mut ending: watch::Receiver<Ending>) {
    let mut first = ending.clone();
    let orderly = async {
        let _ = first.wait_for(|ending| ending.signal().is_some()).await;
        supervisor.finished().await;
        tokio::time::sleep(OUTPUT_GRACE).await;
    };
    tokio::select! {
        () = orderly => {}
        () = forced_end(&mut ending) => {}
    }
}

/// Waits until a second signal has come, and the time that the end may take after it
/// is over; forever if none comes. Cancel-safe.
pub async fn forced_end(ending: &mut watch::Receiver<Ending>) {
    if ending.wait_for(|ending| matches!(ending, Ending::AtOnce(_))).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(FORCED_END).await;
}

/// How the program exits when it cannot write its results.
pub fn output_failed(error: io::Error) -> Result<Exit, Failure> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
        _ => Err(Failure::pool(format!("cannot write to standard output: {error}"))),
    }
}
