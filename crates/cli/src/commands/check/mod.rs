//! `hookpool check`: does a backend behave the same in fresh and in warm processes?

mod compare;
mod pass;
mod project;
mod report;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hookpool_frontend::{Environment, Frontend, FrontendSettings, LogFolder};
use hookpool_supervisor::{Event, Hook, Isolation, StartMethod, Supervisor};

use self::compare::{Comparison, compare};
use self::pass::{Pass, run_pass};
use self::project::{Project, decoys};
use self::report::{Shadowed, print};
use crate::arguments::CheckArguments;
use crate::exit::{Exit, Failure};
use crate::folders::Folder;
use crate::lifecycle;
use crate::observer;
use crate::pool::{self, PoolResources};
use crate::settings::PoolSettings;
use crate::signals::Signals;

/// Compares the hooks and prints every difference.
pub fn execute(arguments: CheckArguments) -> Result<Exit, Failure> {
    let mut settings = PoolSettings::resolve(arguments.pool)?;
    // Hooks are compared, so they have to run.
    settings.answers = None;
    if settings.isolation != Isolation::Hook || settings.start_method != StartMethod::Forkserver {
        let message = "--isolation and --start-method cannot be chosen: check compares their defaults";
        return Err(Failure::usage(message));
    }
    lifecycle::run(run(settings, arguments.sources))
}

async fn run(settings: PoolSettings, sources: Vec<PathBuf>) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let resources = tokio::select! {
        resources = PoolResources::prepare(&settings, "check") => resources?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let work = Folder::temporary(&hookpool_supervisor::files::temporary_folder())?;
    let check = Check { settings, resources: &resources, work: work.path() };
    let outcome = tokio::select! {
        outcome = check.compare(&sources) => outcome,
        // Dropping the comparison ends its processes.
        signal = signals.end() => Ok(Exit::Interrupted(signal)),
    };
    resources.finish(outcome)
}

struct Check<'a> {
    settings: PoolSettings,
    resources: &'a PoolResources,
    /// A temporary folder.
    work: &'a Path,
}

impl Check<'_> {
    async fn compare(&self, sources: &[PathBuf]) -> Result<Exit, Failure> {
        let found = sources.iter().map(|source| Project::find(source, self.work));
        let mut projects = found.collect::<Result<Vec<_>, _>>()?;
        // Kept to the end: an environment in use is not removed.
        let (frontend, environments) = self.prepare(&mut projects).await?;
        let decoys = decoys(&projects, self.work)?;
        let fresh = self.fresh(&projects).await?;
        let (warm, shadowed) = self.warm(&projects, &decoys).await?;
        let comparisons: Vec<Comparison> = projects.iter().map(|project| compare(project, &fresh, &warm)).collect();
        drop(environments);
        frontend.close().await;
        let any_difference = print(&comparisons, &shadowed);
        Ok(if any_difference { Exit::RequestFailed } else { Exit::Success })
    }

    /// Finds or makes the build environment of each project.
    async fn prepare(&self, projects: &mut [Project]) -> Result<(Frontend, Vec<Environment>), Failure> {
        let supervisor = self.resources.start(self.builder(self.settings.clone())).await?;
        let mut settings = FrontendSettings::default();
        let (cache, intervals) = (self.resources.cache.path(), self.resources.intervals());
        settings.environments =
            pool::environments(&self.settings, cache, intervals, &supervisor, observer::log_environment)?;
        settings.logs = Some(LogFolder::in_cache(self.resources.cache.path()));
        let frontend = Frontend::new(supervisor.clone(), settings, |_| {}).map_err(Failure::pool)?;
        let mut held = Vec::new();
        for project in projects {
            let environment = frontend.environment(&project.tree, Hook::GetRequiresForBuildWheel).await;
            let environment =
                environment.map_err(|error| Failure::pool(format!("source {}: {error}", project.name)))?;
            project.python = environment.as_ref().map(|environment| environment.python().to_owned());
            held.extend(environment);
        }
        supervisor.drain().await;
        self.resources.readers.finished().await;
        Ok((frontend, held))
    }

    /// Runs each hook in a new worker with a new interpreter.
    async fn fresh(&self, projects: &[Project]) -> Result<[Pass; 2], Failure> {
        let mut settings = self.settings.clone();
        settings.start_method = StartMethod::Spawn;
        settings.limits.max_requests = Some(NonZeroU32::MIN);
        let supervisor = self.resources.start(self.builder(settings)).await?;
        // Hooks leave files in the tree that later hooks find. A first pass makes these
        // the same for all passes that are compared.
        run_pass(&supervisor, projects.iter(), self.work).await?;
        let first = run_pass(&supervisor, projects.iter(), self.work).await?;
        let second = run_pass(&supervisor, projects.iter(), self.work).await?;
        supervisor.drain().await;
        self.resources.readers.finished().await;
        Ok([first, second])
    }

    /// Runs the hooks in workers that are forked from templates, after those of other
    /// projects, in both orders.
    async fn warm(&self, projects: &[Project], decoys: &[Project]) -> Result<([Pass; 2], Vec<Shadowed>), Failure> {
        let shadowed = Arc::new(Mutex::new(Vec::new()));
        let seen = shadowed.clone();
        let builder = self.builder(self.settings.clone()).report_shadowed(true);
        let wants = |event: &Event| matches!(event, Event::PreloadShadowed { .. });
        let builder = self.resources.readers.attach(builder, wants, move |event| {
            if let Some(shadow) = Shadowed::of(&event.event) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(shadow);
            }
        });
        let supervisor = self.resources.start(builder).await?;
        self.teach(&supervisor, projects, decoys).await?;
        let first = run_pass(&supervisor, decoys.iter().chain(projects), self.work).await?;
        let second = run_pass(&supervisor, projects.iter().chain(decoys).rev(), self.work).await?;
        supervisor.drain().await;
        self.resources.readers.finished().await;
        let mut shadowed = std::mem::take(&mut *shadowed.lock().unwrap_or_else(PoisonError::into_inner));
        shadowed.sort();
        shadowed.dedup();
        Ok(([first, second], shadowed))
    }

    /// Lets the templates learn the modules that the hooks of these projects import.
    async fn teach(&self, supervisor: &Supervisor, projects: &[Project], decoys: &[Project]) -> Result<(), Failure> {
        /// Hooks report their imports after they have answered: at the end of the
        /// second pass those of the first are known.
        const PASSES: usize = 2;
        for _ in 0..PASSES {
            run_pass(supervisor, decoys.iter().chain(projects), self.work).await?;
            supervisor.settled().await;
        }
        Ok(())
    }

    fn builder(&self, settings: PoolSettings) -> hookpool_supervisor::Builder {
        let seed = std::env::var_os("PYTHONHASHSEED").filter(|seed| seed != "random").unwrap_or_else(|| "0".into());
        self.resources.builder(settings).variable("PYTHONHASHSEED", seed)
    }
}
