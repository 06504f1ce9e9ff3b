//! Work on files, off the event loop.

/// Runs `work` on one of the runtime's threads for blocking work. It goes on if
/// this is dropped. A panic of the work is passed on.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
