//! Builds of many sources: the half of a building command that needs the pool, in this
//! process or in a service. [`sources`] builds, [`events`] tells what happens.

pub mod events;
pub mod jobs;
mod result;
pub mod sources;

use std::path::Path;
use std::sync::Arc;

use hookpool_frontend::{Answers, EnvironmentEvent, Frontend, KeptLogs, LogFolder};
use hookpool_supervisor::Supervisor;

use self::events::Narrator;
use crate::exit::Failure;
use crate::pool;
use crate::settings::BuildSettings;
use crate::timings::Intervals;

/// The frontend of a build.
pub fn start_frontend(
    settings: &BuildSettings,
    cache: &Path,
    intervals: Intervals,
    supervisor: &Supervisor,
    narrator: &Narrator,
    of_environments: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
    answers: Option<Arc<Answers>>,
) -> Result<Frontend, Failure> {
    let logs = match &settings.log_folder {
        Some(path) => LogFolder::new(std::path::absolute(path).map_err(Failure::pool)?, KeptLogs::All),
        None => LogFolder::in_cache(cache),
    };
    let of_frontend = narrator.clone();
    let mut frontend = settings.frontend.clone();
    frontend.environments = pool::environments(&settings.pool, cache, intervals, supervisor, of_environments)?;
    frontend.logs = Some(logs);
    frontend.cache_folder = Some(cache.to_owned());
    frontend.answers = answers;
    Frontend::new(supervisor.clone(), frontend, move |event| of_frontend.of_frontend(event)).map_err(Failure::pool)
}
