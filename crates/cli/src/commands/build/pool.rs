//! What the commands that build run on: a supervisor, build environments, and
//! the flows on top of both.

use std::path::Path;

use hookpool_frontend::{Frontend, FrontendSettings, KeptLogs, LogFolder};
use hookpool_supervisor::{Supervisor, refuse_foreign_links};

use super::plan::Plan;
use super::show::Display;
use crate::exit::{Exit, Failure};
use crate::pool::{self, Premises};

/// Everything that a run needs, its folders included.
pub struct BuildPool {
    pub frontend: Frontend,
    pub supervisor: Supervisor,
    /// How many sources are worked on at once: enough for the job slots to
    /// stay busy while some wait for their environments or archives.
    pub sources_at_once: usize,
    /// Dropped after the above.
    premises: Premises,
}

impl BuildPool {
    /// Starts the supervisor; makes no environment yet.
    pub async fn start(plan: &Plan, display: &Display) -> Result<Self, Failure> {
        let premises = Premises::prepare(&plan.pool, plan.command()).await?;
        let builder = premises.builder(plan.pool.clone());
        let supervisor = premises.start(builder.keep_output(true).observer(display.observer())).await?;
        let environments = pool::environments(&plan.pool, &premises, &supervisor, display.environment_observer())?;
        let logs = match &plan.log_folder {
            Some(path) => {
                refuse_foreign_links(path).map_err(|error| Failure::pool(format!("--log-dir: {error}")))?;
                LogFolder::new(std::path::absolute(path).map_err(Failure::pool)?, KeptLogs::All)
            }
            None => LogFolder::in_cache(premises.cache.path()),
        };
        let mut settings = FrontendSettings::default();
        settings.environments = environments;
        settings.config_settings = plan.config_settings.clone();
        settings.static_metadata = plan.static_metadata;
        settings.keep_wheels = plan.keep_wheels.clone();
        settings.extensions = plan.extensions.clone();
        settings.check_requires_python = plan.check_requires_python;
        settings.logs = Some(logs);
        let frontend = Frontend::new(supervisor.clone(), settings, display.build_observer()).map_err(Failure::pool)?;
        let jobs = plan.pool.limits.jobs.get();
        Ok(Self { frontend, supervisor, sources_at_once: jobs.saturating_mul(4), premises })
    }

    /// Where what is kept from run to run lies.
    pub fn cache_folder(&self) -> &Path {
        self.premises.cache.path()
    }

    /// Removes its folders. For the end.
    pub fn finish(self, outcome: Result<Exit, Failure>) -> Result<Exit, Failure> {
        self.premises.finish(outcome)
    }
}
