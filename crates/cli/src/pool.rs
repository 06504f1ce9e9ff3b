//! The supervisor of a command, made from its settings.

use std::time::Instant;

use hookpool_frontend::jobserver::Jobserver;
use hookpool_frontend::{EnvironmentEvent, EnvironmentSettings, Environments, RunFolder};
use hookpool_supervisor::{Builder, StartError, Supervisor, raise_open_files_limit};

use crate::cache::{self, Folder};
use crate::exit::{Exit, Failure};
use crate::settings::PoolSettings;
use crate::timings::Timings;
use crate::{capture, flags, jobserver, observer};

/// What the pool of a command stands on. It must outlive the supervisor; what of
/// it is temporary is removed when it is dropped.
pub struct Premises {
    timings: Timings,
    // First to go: its fifo lies in the capture folder.
    jobserver: Jobserver,
    pub cache: Folder,
    capture: RunFolder,
}

impl Premises {
    /// Decides about the jobserver, which asks make for its version; makes the
    /// folders, and starts the jobserver and the report about the run
    /// of `command`. Within the runtime.
    pub async fn prepare(settings: &PoolSettings, command: &'static str) -> Result<Self, Failure> {
        let jobserver = jobserver::decide(settings.jobserver).await?;
        let timings = Timings::start(settings.timings.as_deref(), command, settings.limits.jobs.get())?;
        let cache = cache::for_this_run(settings.cache_folder.clone())?;
        let capture = capture::folder(settings.capture_folder.as_deref())?;
        let jobserver = jobserver::start(jobserver, settings.limits.jobs, &capture)?;
        Ok(Self { timings, jobserver, cache, capture })
    }

    /// A supervisor as the settings want it.
    pub fn builder(&self, settings: PoolSettings) -> Builder {
        let builder = Supervisor::builder()
            .limits(settings.limits)
            .isolation(settings.isolation)
            .start_method(settings.start_method)
            .check_freshness(settings.check_freshness)
            .interpreter(settings.python)
            .cache_folder(self.cache.path())
            .capture_folder(self.capture.path())
            .kill_detached(settings.kill_detached)
            // PYTHONPATH belongs to the user's own environment, and to no other.
            .keep_python_path(settings.build_environments.is_none())
            .child_subreaper(true)
            .observer(observer::log);
        let builder = self.timings.attach(self.jobserver.attach(builder));
        match raise_open_files_limit() {
            Ok(before) => builder.children_open_files(before),
            Err(error) => {
                tracing::warn!("cannot raise the limit of open files: {error}");
                builder
            }
        }
    }

    /// Starts a supervisor of [`Premises::builder`].
    pub async fn start(&self, builder: Builder) -> Result<Supervisor, Failure> {
        let before = Instant::now();
        let started = builder.start().await.map_err(|error| {
            let failure = Failure::pool(&error);
            match error {
                StartError::Interpreter(_) => failure.with_hint("--python names the interpreter"),
                _ => failure,
            }
        });
        self.timings.intervals().add("hookpool", "start of the pool", before, Instant::now());
        started
    }

    /// For the end, when nothing runs any more: writes the report.
    pub fn finish(self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        self.timings.finish(outcome)
    }
}

/// The build environments of a command; none where it has no build isolation.
pub fn environments(
    settings: &PoolSettings,
    premises: &Premises,
    supervisor: &Supervisor,
    observer: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
) -> Result<Option<Environments>, Failure> {
    let Some(installer) = settings.build_environments.clone() else { return Ok(None) };
    let mut made = EnvironmentSettings::new(premises.cache.path());
    made.installer = installer.installer;
    made.installer_timeout = installer.timeout;
    made.index = installer.index;
    made.build_constraints = installer.build_constraints;
    made.refresh = installer.refresh;
    made.offline = installer.offline;
    made.jobs = settings.limits.jobs;
    let intervals = premises.timings.intervals();
    let observer = move |event: &EnvironmentEvent| {
        if let EnvironmentEvent::Made { requirements, after, .. }
        | EnvironmentEvent::Matched { requirements, after, .. } = event
        {
            let now = Instant::now();
            intervals.add("environments", &requirements.join(", "), now - *after, now);
        }
        observer(event);
    };
    Environments::new(supervisor.clone(), made, observer).map(Some).map_err(|error| {
        let failure = Failure::pool(&error);
        match flags::hint(error.hint(), error.setting().as_ref()) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}
