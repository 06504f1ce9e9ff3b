//! The supervisor of a command, made from its settings.

use hookpool_frontend::{EnvironmentEvent, EnvironmentSettings, Environments, RunFolder};
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
        // PYTHONPATH belongs to the user's own environment, and to no other.
        .keep_python_path(settings.build_environments.is_none())
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

/// The build environments of a command; none where it has no build isolation.
pub fn environments(
    settings: &PoolSettings,
    cache: &Folder,
    supervisor: &Supervisor,
    observer: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
) -> Result<Option<Environments>, Failure> {
    let Some(installer) = settings.build_environments.clone() else { return Ok(None) };
    let mut made = EnvironmentSettings::new(cache.path());
    made.installer = installer.installer;
    made.index = installer.index;
    made.build_constraints = installer.build_constraints;
    made.refresh = installer.refresh;
    made.offline = installer.offline;
    made.jobs = settings.limits.jobs;
    Environments::new(supervisor.clone(), made, observer).map(Some).map_err(|error| {
        let failure = Failure::pool(&error);
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
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
