//! From a source to its metadata, its wheel, its source distribution:
//! [`Frontend`], and what it reports.
//!
//! The steps of a build are in `build`, in their order.

mod build;
mod claim;
mod demand;
mod errors;
mod hints;
mod hook;
mod logs;
mod report;
mod spelling;
mod tree;

use std::fmt;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{CallerProcess, ErrorKind, Hook, HookError, Supervisor, Timeout};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use self::build::Build;
use self::demand::Demand;
use self::hook::Hooks;
use self::tree::SourceTree;
use crate::answers::Answers;
use crate::environment::{Environment, Environments};
use crate::extensions::ExtensionPolicy;
use crate::files::unblock_until;
use crate::output::OutputFolder;
use crate::run_folder::{RunFolder, RunFolderError, WorkFolder};
use crate::source::Source;
use crate::source_folder::Sources;

pub(crate) use errors::is_raised_by_hook;
pub(crate) use hook::is_file_name;
pub use logs::{KeptLogs, LogFolder};
pub use report::{
    AnswerUse, BuildEvent, BuildWarning, DeclaredExtension, EnvironmentUse, Fallback, Goal, HookRun, JobId, Origin,
    Product, Report, Step,
};

/// How a [`Frontend`] builds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FrontendSettings {
    /// The build environments that hooks run in. `None`, the default: hooks run
    /// in the supervisor's interpreter, without build isolation.
    pub environments: Option<Arc<Environments>>,
    /// The interpreter, in place of that of the supervisor.
    pub python: Option<PathBuf>,
    /// What hooks inherit, in place of what this process has.
    pub caller: Option<Arc<CallerProcess>>,
    /// What whoever asks for the build calls it, as
    /// [`HookRequest::caller_id`](hookpool_supervisor::HookRequest::caller_id) of each hook.
    pub caller_id: Option<Arc<str>>,
    /// How long a hook may run, in place of the limit of the supervisor.
    pub hook_timeout: Option<Timeout>,
    /// The `config_settings` that hooks get (PEP 517). Default: none.
    pub config_settings: Option<Map<String, Value>>,
    /// Whether the metadata of an archive may come from its `PKG-INFO`, where
    /// the specification allows it (PEP 643). Default: yes.
    pub static_metadata: bool,
    /// The folder that keeps the wheels that were built for their metadata.
    /// Default: none are kept.
    pub keep_wheels: Option<Arc<OutputFolder>>,
    /// What happens to metadata that declare extensions. Default: no extension
    /// is supported, and metadata that require one are an error.
    pub extensions: ExtensionPolicy,
    /// Whether it is an error, and not only a warning, to build a project with a
    /// Python that it does not support. Default: no.
    pub check_requires_python: bool,
    /// The folder that keeps the output of hooks. Default: none is kept.
    pub logs: Option<LogFolder>,
    /// The cache folder that archives are unpacked in, where one that a wheel with
    /// compiled code was built of stays for its next build. Default: they are unpacked
    /// among the temporary files, and nothing stays.
    pub cache_folder: Option<PathBuf>,
    /// The answers of earlier hooks. Default: none are used or kept.
    pub answers: Option<Arc<Answers>>,
    /// Whether the templates and workers of an environment end as soon as no build that has
    /// begun needs it, which saves memory. For callers who begin builds well before their turn
    /// ([`Frontend::build_in_turn`]), and who use the supervisor alone. Default: no.
    pub retire_unneeded: bool,
}

impl Default for FrontendSettings {
    fn default() -> Self {
        Self {
            environments: None,
            python: None,
            caller: None,
            caller_id: None,
            hook_timeout: None,
            config_settings: None,
            static_metadata: true,
            keep_wheels: None,
            extensions: ExtensionPolicy::default(),
            check_requires_python: false,
            logs: None,
            cache_folder: None,
            answers: None,
            retire_unneeded: false,
        }
    }
}

/// Builds sources with the hooks that a supervisor runs.
pub struct Frontend {
    supervisor: Supervisor,
    settings: FrontendSettings,
    /// Holds what hooks make on the way to a product.
    work: RunFolder,
    sources: Arc<Sources>,
    /// Bounds how many sources are looked at at once.
    looks: Semaphore,
    /// Bounds how many threads read files at the top of folders, which may be on a file system
    /// that does not respond.
    folder_looks: Arc<Semaphore>,
    /// `None`: nothing ends for it.
    demand: Option<Demand>,
    observer: Box<dyn Fn(&BuildEvent) + Send + Sync>,
}

impl fmt::Debug for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Frontend").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Frontend {
    /// Makes a frontend, and its folder among the temporary files, which is
    /// removed when the frontend is dropped. Logs are complete only if the
    /// supervisor was made with
    /// [`keep_output`](hookpool_supervisor::Builder::keep_output).
    ///
    /// `observer` is called from the tasks that build, and must not block.
    ///
    /// # Errors
    /// [`RunFolderError`]: the folder cannot be made.
    pub fn new(
        supervisor: Supervisor,
        settings: FrontendSettings,
        observer: impl Fn(&BuildEvent) + Send + Sync + 'static,
    ) -> Result<Self, RunFolderError> {
        let work = RunFolder::temporary("work")?;
        let sources = settings.cache_folder.as_deref().map_or_else(Sources::temporary, Sources::in_cache);
        /// Of the runtime's threads, most are for sources whose turn it is.
        const MOST_LOOKS: usize = 4;
        let looks = Semaphore::new(available_parallelism().map_or(1, usize::from).min(MOST_LOOKS));
        let folder_looks = Arc::new(Semaphore::new(MOST_LOOKS));
        let may_retire = settings.retire_unneeded && settings.environments.is_some();
        let demand = may_retire.then(Demand::default);
        let (sources, observer) = (Arc::new(sources), Box::new(observer));
        Ok(Self { supervisor, settings, work, sources, looks, folder_looks, demand, observer })
    }

    /// Builds a source. `job` identifies it in events, `name` in messages.
    ///
    /// Dropping the future ends everything that runs for it.
    pub async fn build(&self, job: JobId, name: &Path, source: &Source, goal: &Goal) -> Report {
        self.build_in_turn(job, name, source, goal, ready(Ok(()))).await
    }

    /// The same, as one of many. All that is done before its `turn` is a look at its metadata
    /// and requirements. A source whose metadata are static does not wait for its turn. What
    /// `turn` returns is dropped at the end; its error is that of the build.
    pub async fn build_in_turn<T>(
        &self,
        job: JobId,
        name: &Path,
        source: &Source,
        goal: &Goal,
        turn: impl Future<Output = Result<T, HookError>>,
    ) -> Report {
        let mut build = Build::new(self, job, name);
        let outcome = build.run(source, goal, turn).await;
        let report = build.report(outcome);
        self.retire_unneeded().await;
        report
    }

    /// The build environment for the hooks of a tree, with the requirements that
    /// the hook `get_requires` returns; `None` without build isolation.
    ///
    /// # Errors
    /// The environment cannot be made, `pyproject.toml` is invalid, or the hook
    /// failed.
    pub async fn environment(&self, tree: &Path, get_requires: Hook) -> Result<Option<Environment>, HookError> {
        let (job, mut hooks) = (JobId(0), Hooks::new(self, JobId(0), tree));
        let source = SourceTree::folder(self, job, tree, tree.to_owned());
        let additional = hooks.additional_requirements(&source, get_requires).await?;
        match (&self.settings.environments, &hooks.environment) {
            (Some(environments), Some(environment)) => Ok(Some(environments.enrich(environment, &additional).await?)),
            _ => Ok(None),
        }
    }

    /// Waits until the unpacked archives are removed, and removes the build environments that
    /// only this process could use. To be called after [`Supervisor::drain`], when no hook can be
    /// running in them and no build is left.
    pub async fn close(&self) {
        self.sources.finished().await;
        if let Some(environments) = &self.settings.environments {
            environments.close().await;
        }
    }

    /// Ends the templates and workers of environments that no build needs.
    async fn retire_unneeded(&self) {
        for python in self.demand.iter().flat_map(Demand::take_unneeded) {
            self.supervisor.retire(&python).await;
        }
    }

    fn observe(&self, event: &BuildEvent) {
        (self.observer)(event);
    }

    fn step(&self, job: JobId, step: Step) {
        self.observe(&BuildEvent::Step { job, step });
    }

    /// Runs blocking work that is not a hook and may take long. When the
    /// supervisor is interrupted, the flag is set and the work has to end.
    async fn unblock_unless_interrupted<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, HookError> {
        let result = unblock_until(self.supervisor.interrupted(), work).await;
        result.ok_or_else(|| HookError::new(ErrorKind::Interrupted, "the run was interrupted"))
    }

    /// Makes a private folder for temporary files of a build.
    async fn work_folder(&self) -> Result<WorkFolder, HookError> {
        let work = self.work.path().to_owned();
        let make = move || {
            WorkFolder::within(&work, "work-").map_err(|error| {
                let message = format!("cannot make a folder in {}: {error}", work.display());
                HookError::new(ErrorKind::SystemRefused, message)
            })
        };
        unblock(make).await
    }
}
