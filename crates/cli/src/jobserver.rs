//! The jobserver of a command that runs hooks.

use std::num::NonZeroUsize;

use hookpool_frontend::RunFolder;
use hookpool_frontend::jobserver::{Choice, Decision, Jobserver};
use tracing::info;

use crate::exit::Failure;

/// Decides whether hooks get one, and says so. Starts a process for it, so it
/// has to come before the supervisor.
pub async fn decide(choice: Choice) -> Result<Decision, Failure> {
    let decision = Decision::make(choice).await.map_err(|reason| {
        Failure::pool(format!("--jobserver on: {reason}"))
            .with_hint("--jobserver auto does without one then, --jobserver off always does")
    })?;
    if let Some(reason) = decision.obstacle() {
        info!("hooks get no jobserver: {reason}");
    }
    if let Some(fifo) = decision.outer() {
        info!(fifo = %fifo.display(), "hooks get the jobserver that MAKEFLAGS names, and none of hookpool's");
    }
    Ok(decision)
}

/// Starts what was decided, within the runtime. To be dropped after the
/// supervisor and before the capture folder, which a fifo of ours lies in.
pub fn start(decision: Decision, jobs: NonZeroUsize, capture: &RunFolder) -> Result<Jobserver, Failure> {
    let jobserver = Jobserver::start(decision, jobs, capture.path()).map_err(|error| {
        Failure::pool(error).with_hint("--jobserver off does without it, --capture-dir names another folder")
    })?;
    if let Some((fifo, tokens)) = jobserver.ours() {
        info!(fifo = %fifo.display(), tokens, "hooks get a jobserver");
    }
    Ok(jobserver)
}
