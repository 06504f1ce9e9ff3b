//! The supervisor of a command, made from its settings.

use hookpool_frontend::RunFolder;
use hookpool_supervisor::{Builder, StartError, Supervisor, raise_open_files_limit};

use crate::cache::Folder;
use crate::exit::Failure;
use crate::observer;
use crate::settings::PoolSettings;

/// A supervisor as the settings want it. Both folders must outlive it.
pub fn builder(settings: PoolSettings, cache: &Folder, capture: &RunFolder) -> Builder {
    let builder = Supervisor::builder()
        .limits(settings.limits)
        .isolation(settings.isolation)
        .start_method(settings.start_method)
        .check_freshness(settings.check_freshness)
        .interpreter(settings.python)
        .cache_folder(cache.path())
        .capture_folder(capture.path())
        .kill_detached(settings.kill_detached)
        // Hooks run in the user's own environment, which PYTHONPATH belongs to.
        .keep_python_path(true)
        .child_subreaper(true)
        .observer(observer::log);
    match raise_open_files_limit() {
        Ok(before) => builder.children_open_files(before),
        Err(error) => {
            tracing::warn!("cannot raise the limit of open files: {error}");
            builder
        }
    }
}

/// Starts it.
pub async fn start(builder: Builder) -> Result<Supervisor, Failure> {
    builder.start().await.map_err(|error| {
        let failure = Failure::pool(&error);
        match error {
            StartError::Interpreter(_) => failure.with_hint("--python names the interpreter"),
            _ => failure,
        }
    })
}
