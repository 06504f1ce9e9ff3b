//! The pool of a command: its folders, jobserver, report, supervisor and build
//! environments, made from the settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hookpool_frontend::jobserver::{Decision, Jobserver};
use hookpool_frontend::{AnswerSettings, Answers, EnvironmentEvent, EnvironmentSettings, Environments, RunFolder};
use hookpool_supervisor::{Builder, StartError, Supervisor, raise_open_files_limit};
use tracing::info;

use crate::event_readers::EventReaders;
use crate::exit::{Exit, Failure};
use crate::folders::{self, Folder};
use crate::hooks::EnvironmentsOfCallers;
use crate::settings::PoolSettings;
use crate::timings::{Intervals, Timings};
use crate::{flags, observer};

/// What the supervisors of a command need. Keep it until they have ended:
/// dropping it removes the temporary folders and the jobserver.
pub struct PoolResources {
    pub readers: EventReaders,
    timings: Timings,
    // Dropped before the capture folder, which its fifo is in.
    jobserver: Jobserver,
    pub cache: Folder,
    capture: RunFolder,
}

impl PoolResources {
    /// Makes the folders, and starts the jobserver and the report on the run of
    /// `command`. Needs an event loop, and must come before the first supervisor:
    /// the decision about the jobserver runs make.
    pub async fn prepare(settings: &PoolSettings, command: &'static str) -> Result<Self, Failure> {
        let decision = Decision::make(settings.jobserver).await.map_err(|reason| {
            Failure::pool(format!("--jobserver on: {reason}"))
                .with_hint("--jobserver auto runs without a jobserver in this case, --jobserver off in all cases")
        })?;
        let timings = Timings::start(settings.timings.as_deref(), command, settings.limits.jobs.get())?;
        let cache = folders::cache_for_this_run(settings.cache_folder.clone())?;
        let capture = folders::capture(settings.capture_folder.as_deref())?;
        if let Some(reason) = decision.obstacle() {
            info!("hooks get no jobserver: {reason}");
        }
        if let Some(fifo) = decision.outer() {
            info!(fifo = %fifo.display(), "hooks get the jobserver that MAKEFLAGS names, hookpool starts none");
        }
        let jobserver = Jobserver::start(decision, settings.limits.jobs, capture.path()).map_err(|error| {
            Failure::pool(error)
                .with_hint("--jobserver off runs without a jobserver, --capture-dir chooses another folder")
        })?;
        if let Some((fifo, tokens)) = jobserver.ours() {
            info!(fifo = %fifo.display(), tokens, "hooks get a jobserver");
        }
        Ok(Self { readers: EventReaders::default(), timings, jobserver, cache, capture })
    }

    /// A supervisor with these settings, not started yet.
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
            // PYTHONPATH is meant for the user's own environment only.
            .keep_python_path(settings.build_environments.is_none())
            .child_subreaper(true);
        let mut log = observer::Log::default();
        let builder = self.readers.attach(builder, observer::is_logged, move |event| log.log(&event.event));
        let builder = match settings.answers {
            Some(_) => Answers::attach(builder),
            None => builder,
        };
        let builder = self.timings.attach(self.jobserver.attach(builder), &self.readers);
        match raise_open_files_limit() {
            Ok(before) => builder.children_open_files(before),
            Err(error) => {
                tracing::warn!("cannot raise the limit of open files: {error}");
                builder
            }
        }
    }

    /// Starts a supervisor of [`Self::builder`].
    pub async fn start(&self, builder: Builder) -> Result<Supervisor, Failure> {
        let before = Instant::now();
        let started = builder.start().await.map_err(|error| {
            let failure = Failure::pool(&error);
            match error {
                StartError::Interpreter(_) => failure.with_hint("--python chooses the interpreter"),
                _ => failure,
            }
        });
        if started.is_err() {
            // They may tell more about the failure.
            self.readers.finished().await;
        }
        self.timings.intervals().add("hookpool", "start of the pool", before, Instant::now());
        started
    }

    /// The build environments for hooks.
    pub fn environments_of_callers(
        &self,
        settings: &PoolSettings,
        supervisor: &Supervisor,
        observer: impl Fn(&EnvironmentEvent) + Clone + Send + Sync + 'static,
    ) -> Arc<EnvironmentsOfCallers> {
        let (settings, supervisor) = (settings.clone(), supervisor.clone());
        let (cache, intervals) = (self.cache.path().to_owned(), self.intervals());
        EnvironmentsOfCallers::new(move |caller| {
            let settings = PoolSettings { caller, ..settings.clone() };
            environments(&settings, &cache, intervals.clone(), &supervisor, observer.clone())
        })
    }

    /// Records what happens outside of the supervisors.
    pub fn intervals(&self) -> Intervals {
        self.timings.intervals()
    }

    /// Writes the report. To be called when no hook runs any more.
    pub fn finish(self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        self.timings.finish(outcome)
    }
}

/// The build environments of a command; `None` without build isolation.
pub fn environments(
    settings: &PoolSettings,
    cache: &Path,
    intervals: Intervals,
    supervisor: &Supervisor,
    observer: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
) -> Result<Option<Arc<Environments>>, Failure> {
    let Some(installer) = settings.build_environments.clone() else { return Ok(None) };
    let mut environments = EnvironmentSettings::new(cache);
    environments.installer = installer.installer;
    environments.installer_timeout = installer.timeout;
    environments.index = installer.index;
    environments.build_constraints = installer.build_constraints;
    environments.refresh = installer.refresh;
    environments.offline = installer.offline;
    environments.jobs = settings.limits.jobs;
    environments.caller.clone_from(&settings.caller);
    let observer = move |event: &EnvironmentEvent| {
        if let EnvironmentEvent::Made { requirements, after, .. }
        | EnvironmentEvent::Matched { requirements, after, .. } = event
        {
            let now = Instant::now();
            intervals.add("environments", &requirements.join(", "), now - *after, now);
        }
        observer(event);
    };
    Environments::new(supervisor.clone(), environments, observer).map(Some).map_err(|error| {
        let failure = Failure::pool(&error);
        match flags::hint(error.hint(), error.setting().as_ref()) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// The answers of a command; `None` if none are kept.
pub async fn answers(settings: &PoolSettings, cache: &Path) -> Option<Arc<Answers>> {
    let choice = settings.answers.as_ref()?;
    let mut answers = AnswerSettings::new(cache.to_owned());
    answers.policy = choice.policy;
    answers.refresh = choice.refresh;
    answers.verify = choice.verify;
    answers.remote = choice.remote.clone();
    Answers::open(answers).await
}
