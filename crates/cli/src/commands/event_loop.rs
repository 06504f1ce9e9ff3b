//! The event loop that the commands which run hooks live in.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::exit::{Exit, Failure};

/// Threads for work that blocks; more of it waits for one.
const MOST_BLOCKING_THREADS: usize = 32;

/// Runs a command to its end, on this thread.
pub fn run(command: impl Future<Output = Result<Exit, Failure>> + Send + 'static) -> Result<Exit, Failure> {
    let failure = |error| Failure::pool(format!("cannot start the event loop: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Those that there are stay: tokio panics where it has none and the
        // system refuses the first, as it may at any time.
        .thread_keep_alive(Duration::MAX)
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .build()
        .map_err(failure)?;
    start_first_blocking_thread(&runtime).map_err(failure)?;
    // As a task among the others: what is not one is woken by a system call.
    let outcome = runtime.block_on(async { tokio::spawn(command).await });
    let outcome = outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // Not by dropping it, which would wait for blocking calls, such as one for
    // the lock of a source tree that another process works in.
    runtime.shutdown_background();
    outcome
}

/// Where the system refuses any further thread, this is an error and no panic.
fn start_first_blocking_thread(runtime: &Runtime) -> io::Result<()> {
    std::thread::Builder::new().spawn(|| ())?.join().expect("it does nothing");
    // Another one is refused now only if somebody else was faster.
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}
