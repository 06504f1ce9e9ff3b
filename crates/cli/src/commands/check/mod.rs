//! `hookpool check`: fresh against warm, does this backend behave the same?

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
use crate::arguments::check::CheckArguments;
use crate::cache::Folder;
use crate::commands::event_loop;
use crate::exit::{Exit, Failure};
use crate::observer;
use crate::pool::{self, Premises};
use crate::settings::PoolSettings;
use crate::signals::Signals;

/// Compares, and tells every difference.
pub fn execute(arguments: CheckArguments) -> Result<Exit, Failure> {
    let settings = PoolSettings::resolve(arguments.pool)?;
    if settings.isolation != Isolation::Hook || settings.start_method != StartMethod::Forkserver {
        let message = "--isolation and --start-method cannot be chosen: check compares what they are by default";
        return Err(Failure::usage(message));
    }
    event_loop::run(run(settings, arguments.sources))
}

async fn run(settings: PoolSettings, sources: Vec<PathBuf>) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    let premises = tokio::select! {
        premises = Premises::prepare(&settings, "check") => premises?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let work = Folder::temporary(&hookpool_supervisor::temporary_folder())?;
    let bench = Bench { settings, premises: &premises, work: work.path() };
    let outcome = tokio::select! {
        outcome = bench.compare(&sources) => outcome,
        // What runs is dropped, and its processes end with it.
        signal = signals.end() => Ok(Exit::Interrupted(signal)),
    };
    premises.finish(outcome)
}

/// What all runs have in common.
struct Bench<'a> {
    settings: PoolSettings,
    premises: &'a Premises,
    work: &'a Path,
}

impl Bench<'_> {
    async fn compare(&self, sources: &[PathBuf]) -> Result<Exit, Failure> {
        let found = sources.iter().map(|source| Project::find(source, self.work));
        let mut projects = found.collect::<Result<Vec<_>, _>>()?;
        // Held to the end: what is in use is not removed.
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

    /// Gives each project its build environment.
    async fn prepare(&self, projects: &mut [Project]) -> Result<(Frontend, Vec<Environment>), Failure> {
        let supervisor = self.premises.start(self.builder(self.settings.clone())).await?;
        let environments = pool::environments(&self.settings, self.premises, &supervisor, observer::log_environment)?;
        let mut settings = FrontendSettings::default();
        settings.environments = environments;
        settings.logs = Some(LogFolder::in_cache(self.premises.cache.path()));
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
        Ok((frontend, held))
    }

    /// Each hook in a new worker, of a new interpreter.
    async fn fresh(&self, projects: &[Project]) -> Result<[Pass; 2], Failure> {
        let mut settings = self.settings.clone();
        settings.start_method = StartMethod::Spawn;
        settings.limits.max_requests = Some(NonZeroU32::MIN);
        let supervisor = self.premises.start(self.builder(settings)).await?;
        // What hooks leave in a tree, the next find there: a first pass makes
        // that the same for all that are compared.
        run_pass(&supervisor, projects.iter(), self.work).await?;
        let first = run_pass(&supervisor, projects.iter(), self.work).await?;
        let second = run_pass(&supervisor, projects.iter(), self.work).await?;
        supervisor.drain().await;
        Ok([first, second])
    }

    /// Forked from templates, after other projects, in both orders.
    async fn warm(&self, projects: &[Project], decoys: &[Project]) -> Result<([Pass; 2], Vec<Shadowed>), Failure> {
        let shadowed = Arc::new(Mutex::new(Vec::new()));
        let seen = shadowed.clone();
        let builder = self.builder(self.settings.clone()).report_shadowed(true).observer(move |event: &Event| {
            if let Some(shadow) = Shadowed::of(event) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(shadow);
            }
        });
        let supervisor = self.premises.start(builder).await?;
        self.teach(&supervisor, projects, decoys).await?;
        let first = run_pass(&supervisor, decoys.iter().chain(projects), self.work).await?;
        let second = run_pass(&supervisor, projects.iter().chain(decoys).rev(), self.work).await?;
        supervisor.drain().await;
        let mut shadowed = std::mem::take(&mut *shadowed.lock().unwrap_or_else(PoisonError::into_inner));
        shadowed.sort();
        shadowed.dedup();
        Ok(([first, second], shadowed))
    }

    /// Lets the templates learn whatever these projects can teach them.
    async fn teach(&self, supervisor: &Supervisor, projects: &[Project], decoys: &[Project]) -> Result<(), Failure> {
        /// What hooks import is told after their answers: by the end of the
        /// second pass that of the first is known.
        const PASSES: usize = 2;
        for _ in 0..PASSES {
            run_pass(supervisor, decoys.iter().chain(projects), self.work).await?;
            supervisor.settled().await;
        }
        Ok(())
    }

    fn builder(&self, settings: PoolSettings) -> hookpool_supervisor::Builder {
        let seed = std::env::var_os("PYTHONHASHSEED").filter(|seed| seed != "random").unwrap_or_else(|| "0".into());
        self.premises.builder(settings).variable("PYTHONHASHSEED", seed)
    }
}
