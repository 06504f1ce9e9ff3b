//! The handle: what all sources of a run have in common.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hookpool_supervisor::{ErrorKind, Hook, HookError, Supervisor};

use super::builder::{FrontendBuilder, FrontendSettings};
use super::claim::Claim;
use super::event::{BuildEvent, BuildObserver, JobId, Step};
use super::goal::{Goal, Origin, Product, Report};
use super::logs::LogFolder;
use super::run::Run;
use crate::archive::{UnpackLimits, read_files};
use crate::environment::{Environment, Environments};
use crate::metadata::{CoreMetadata, NotStatic, static_metadata};
use crate::run_folder::{RunFolder, WorkFolder};
use crate::source::Source;
use crate::unblock::{unblock, unblock_until};

/// Gets what is wanted from sources. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Frontend {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub supervisor: Supervisor,
    /// `None`: hooks run in the supervisor's own interpreter.
    pub environments: Option<Environments>,
    pub settings: FrontendSettings,
    pub logs: Option<LogFolder>,
    /// For unpacked archives, and for what hooks make on the way.
    pub work: RunFolder,
    pub observer: Box<dyn BuildObserver>,
}

impl fmt::Debug for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Frontend").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Frontend {
    /// A frontend to be, on a supervisor, which should be made with
    /// [`keep_output`](hookpool_supervisor::Builder::keep_output) for whole logs.
    pub fn builder(supervisor: Supervisor) -> FrontendBuilder {
        FrontendBuilder::new(supervisor)
    }

    /// Gets what is wanted from a source. `job` is for the observer, `name` is
    /// how messages call the source.
    ///
    /// Dropping the future ends what runs for it.
    pub async fn build(&self, job: JobId, name: &Path, source: &Source, goal: &Goal) -> Report {
        let mut run = Run::new(self, job, name);
        let not_static = match self.static_metadata(&run, source, goal).await {
            Ok(Ok(metadata)) => return Report::of(Ok(Product::Metadata(Box::new(metadata), Origin::Static))),
            Ok(Err(reason)) => reason,
            Err(error) => return Report::failed(error),
        };
        let outcome = run.reach(source, goal).await;
        let environment = run.environment_use().await;
        let Run { hooks, kept_wheel, extensions, fallback, warnings, .. } = run;
        Report { outcome, hooks, not_static, environment, kept_wheel, extensions, fallback, warnings }
    }

    /// The build environment for hooks of a tree, with what the hook
    /// `get_requires` asks for; none without build isolation.
    ///
    /// # Errors
    /// Those of the environment, of `pyproject.toml` and of that hook.
    pub async fn environment(&self, tree: &Path, get_requires: Hook) -> Result<Option<Environment>, HookError> {
        let mut run = Run::new(self, JobId(0), tree);
        let place = run.prepare(tree, get_requires).await?;
        match (&self.shared.environments, run.environment) {
            (Some(environments), Some(environment)) => {
                Ok(Some(environments.enrich(&environment, &place.additional).await?))
            }
            _ => Ok(None),
        }
    }

    /// The metadata that need no hook, or why there are none; no reason where
    /// nobody looked.
    async fn static_metadata(
        &self,
        run: &Run<'_>,
        source: &Source,
        goal: &Goal,
    ) -> Result<Result<CoreMetadata, Option<NotStatic>>, HookError> {
        if !self.shared.settings.static_metadata || !matches!(goal, Goal::Metadata) {
            return Ok(Err(None));
        }
        let archive = match source {
            Source::Wheel(_) => return Ok(Err(None)),
            Source::Tree(_) => return Ok(Err(Some(NotStatic::Tree))),
            Source::SourceArchive(archive) => archive.clone(),
        };
        run.step(Step::Unpacking);
        let names = ["PKG-INFO", "pyproject.toml"];
        let claim = Claim::by_name(&archive);
        let read = move |cancel: &_| read_files(&archive, names, &UnpackLimits::default(), cancel);
        let [pkg_info, pyproject] = self.unblock_unless_interrupted(read).await??;
        let found = static_metadata(pkg_info.as_deref(), pyproject.as_deref());
        Ok(found.map_err(Some).and_then(|metadata| match claim.check((&metadata.name, &metadata.version)) {
            Ok(_) => Ok(metadata),
            Err(_) => Err(Some(NotStatic::OtherArchive)),
        }))
    }

    /// Removes the environments that nobody else may use. After
    /// [`Supervisor::drain`], when no hook can be running in them.
    pub async fn close(&self) {
        if let Some(environments) = &self.shared.environments {
            environments.close().await;
        }
    }

    pub(crate) fn observe(&self, event: &BuildEvent) {
        self.shared.observer.observe(event);
    }

    /// Work of some length that no hook does: it ends with the supervisor's
    /// interruption, of which the flag tells.
    pub(crate) async fn unblock_unless_interrupted<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, HookError> {
        let result = unblock_until(self.shared.supervisor.interrupted(), work).await;
        result.ok_or_else(|| HookError::new(ErrorKind::Interrupted, "the run was interrupted"))
    }

    /// A private folder for as long as it is needed.
    pub(crate) async fn scratch(&self) -> Result<WorkFolder, HookError> {
        let work = self.shared.work.path().to_owned();
        let make = move || {
            WorkFolder::within(&work, "work-").map_err(|error| {
                let message = format!("cannot make a folder in {}: {error}", work.display());
                HookError::new(ErrorKind::SystemRefused, message)
            })
        };
        unblock(make).await
    }
}

impl Report {
    /// For a source that no hook ran for, because of this.
    #[must_use]
    pub fn failed(error: HookError) -> Self {
        Self::of(Err(error))
    }

    fn of(outcome: Result<Product, HookError>) -> Self {
        Self {
            outcome,
            hooks: Vec::new(),
            not_static: None,
            environment: None,
            kept_wheel: None,
            extensions: None,
            fallback: None,
            warnings: Vec::new(),
        }
    }
}
