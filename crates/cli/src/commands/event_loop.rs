//! The event loop that the commands which run hooks live in.

use std::future::Future;

use crate::exit::{Exit, Failure};

/// Runs a command to its end, on this thread.
pub fn run(command: impl Future<Output = Result<Exit, Failure>> + Send + 'static) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::pool(format!("cannot start the event loop: {error}")))?;
    // As a task among the others: what is not one is woken by a system call.
    let outcome = runtime.block_on(async { tokio::spawn(command).await });
    let outcome = outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // Not by dropping it, which would wait for blocking calls, such as one for
    // the lock of a source tree that another process works in.
    runtime.shutdown_background();
    outcome
}
