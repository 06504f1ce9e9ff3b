//! Writes the events of the pool as log messages.
//!
//! Error: somebody has to act. Warning: something failed, and the pool recovered.
//! Info: changes in the pool. Debug: the life of workers. Trace: each request. A
//! message below the current level costs one comparison.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use hookpool_frontend::EnvironmentEvent;
use hookpool_supervisor::{Event, RequestId, Selection};
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, trace, warn};

use crate::format::milliseconds;

/// Logs events.
#[derive(Debug, Default)]
pub struct Log {
    /// What the callers of unanswered requests call them.
    caller_ids: HashMap<RequestId, Arc<str>>,
}

impl Log {
    /// Logs an event.
    pub fn log(&mut self, event: &Event) {
        if let Event::RequestQueued { request, caller_id: Some(id), .. } = event {
            self.caller_ids.insert(*request, id.clone());
        }
        let caller_id = event.request().and_then(|request| self.caller_ids.get(&request)).map(|id| &**id);
        if !(log_request(event, caller_id) || log_worker(event) || log_template(event)) {
            log_pool(event, caller_id);
        }
        if let Event::RequestFinished { request, .. } = event {
            self.caller_ids.remove(request);
        }
    }
}

/// Whether an event is needed for messages, as far as that is known from their level. So
/// the events of each request are not sent in vain.
pub fn is_logged(event: &Event) -> bool {
    LevelFilter::current()
        >= match event {
            // Other messages have the id.
            Event::RequestQueued { caller_id: Some(_), .. } | Event::RequestFinished { caller_id: Some(_), .. } => {
                LevelFilter::OFF
            }
            Event::RequestQueued { .. }
            | Event::RequestPreparing { .. }
            | Event::RequestPrepared { .. }
            | Event::RequestAccepted { .. }
            | Event::OutputCaptured { .. }
            | Event::RequestFinished { .. } => LevelFilter::TRACE,
            Event::WorkerStarting { .. }
            | Event::WorkerMoved { .. }
            | Event::WorkerReady { .. }
            | Event::WorkerStopping { .. }
            | Event::WorkerExited { planned: true, .. }
            | Event::WorkerLingers { .. }
            | Event::WorkerLog { .. } => LevelFilter::DEBUG,
            _ => LevelFilter::ERROR,
        }
}

/// Logs an event of the build environments.
pub fn log_environment(event: &EnvironmentEvent) {
    match event {
        EnvironmentEvent::PipInPlaceOfUv { told_by } => warn!("{}", pip_in_place_of_uv(told_by)),
        EnvironmentEvent::Making { requirements, .. } => {
            info!("making a build environment with {}", requirements.join(", "));
        }
        EnvironmentEvent::Made { folder, after, .. } => {
            info!(folder = %show(folder), after_ms = milliseconds(*after), "build environment made");
        }
        EnvironmentEvent::Matched { folder, requirements, after } => {
            let (list, after_ms) = (requirements.join(", "), milliseconds(*after));
            info!(folder = %show(folder), after_ms, "a build environment with the same packages as {list} exists already");
        }
        EnvironmentEvent::Reused { folder, requirements } => {
            debug!(folder = %show(folder), "build environment with {}", requirements.join(", "));
        }
        EnvironmentEvent::Discarded { folder, reason } => {
            warn!(folder = %show(folder), "build environment is not used again: {reason}");
        }
        EnvironmentEvent::Awaited { requirements } => {
            info!("waiting: another process makes a build environment with {}", requirements.join(", "));
        }
        EnvironmentEvent::StaleResolutionUsed { folder, requirements, reason } => {
            let list = requirements.join(", ");
            warn!(folder = %show(folder), "an older build environment is used for {list}: {reason}");
        }
        EnvironmentEvent::LeftoversRemoved { count } => {
            info!(count, "removed incomplete build environments of earlier runs");
        }
        _ => {}
    }
}

/// The message that pip was chosen although uv is faster.
pub fn pip_in_place_of_uv(told_by: &str) -> String {
    format!(
        "pip makes the build environments although uv is faster: {told_by} configures sources of distributions, \
         and uv does not read it (configure uv too, or pass --installer)"
    )
}

/// Logs an event of a request; returns false for all others.
fn log_request(event: &Event, http_request: Option<&str>) -> bool {
    match event {
        Event::RequestQueued { request, tree, hook, .. } => {
            trace!(%request, http_request, tree = %show(tree), %hook, "request queued");
        }
        Event::RequestPreparing { request } => {
            trace!(%request, http_request, "request waits for its build environment")
        }
        Event::RequestPrepared { request } => trace!(%request, http_request, "request has its build environment"),
        Event::RequestAccepted { request, worker } => trace!(%request, http_request, %worker, "request accepted"),
        Event::OutputCaptured { request, stdout, stderr } => {
            trace!(%request, http_request, stdout = %show(stdout), stderr = %show(stderr), "output is captured");
        }
        Event::RequestRetried { request, reason } => info!(%request, http_request, "request is queued again: {reason}"),
        Event::RequestFinished { request, tree, hook, error, timing, .. } => {
            let error = error.map(tracing::field::display);
            let hook_ms = timing.hook.map(milliseconds);
            trace!(%request, http_request, tree = %show(tree), %hook, error, hook_ms, "request answered");
        }
        Event::DeadlineExceeded { request, worker } => {
            warn!(%request, http_request, %worker, "hook exceeded its time limit")
        }
        Event::MemoryLimitExceeded { request, worker, bytes } => {
            warn!(%request, http_request, %worker, bytes, "hook exceeded its memory limit and is killed");
        }
        _ => return false,
    }
    true
}

/// Logs an event of a worker; returns false for all others.
fn log_worker(event: &Event) -> bool {
    match event {
        Event::WorkerStarting { worker, tree, generation, .. } => {
            debug!(%worker, tree = %show(tree), generation, "worker starts");
        }
        Event::WorkerMoved { worker, tree, generation } => {
            debug!(%worker, tree = %show(tree), generation, "worker moves");
        }
        Event::WorkerReady { worker, pid, start_method, after } => {
            let after_ms = milliseconds(*after);
            debug!(%worker, pid, start_method = start_method.name(), after_ms, "worker is ready");
        }
        Event::WorkerStartFailed { worker, tree, reason } => {
            warn!(%worker, tree = %show(tree), "worker could not be started: {reason}");
        }
        Event::WorkerStopping { worker, reason } => debug!(%worker, reason = reason.describe(), "worker is ended"),
        Event::WorkerExited { worker, pid, exit, planned: true } => debug!(%worker, pid, "worker {exit}"),
        Event::WorkerExited { worker, pid, exit, planned: false } => {
            warn!(%worker, pid, "worker crashed: it {exit}");
        }
        Event::WorkerLingers { worker, pid } => {
            debug!(%worker, pid, "worker stays alive for the processes that its hooks detached");
        }
        Event::HealthCheckFailed { worker } => {
            warn!(%worker, "worker did not respond to the health check and is killed")
        }
        Event::ProtocolViolated { worker, reason } => {
            warn!(%worker, "worker violated the protocol and is killed: {reason}")
        }
        Event::WorkerLog { worker, line } => debug!(%worker, "worker says: {line}"),
        _ => return false,
    }
    true
}

/// Logs an event of a template; returns false for all others.
fn log_template(event: &Event) -> bool {
    match event {
        Event::TemplateStarting { template, interpreter, backend } => {
            debug!(%template, interpreter = %show(interpreter), backend, "template starts");
        }
        Event::TemplateReady { template, pid, modules, after } => {
            debug!(%template, pid, modules, after_ms = milliseconds(*after), "template is ready");
        }
        Event::TemplateLearned { template, modules } => debug!(%template, modules, "template has learned"),
        Event::PreloadRefused { template, backend: Some(backend), reason } => {
            debug!(%template, backend, "the backend is not preloaded: {reason}");
        }
        Event::PreloadRefused { template, backend: None, reason } => {
            debug!(%template, "this environment goes without learned modules: {reason}");
        }
        Event::PreloadShadowed { tree, module, loaded, found } => {
            warn!(tree = %show(tree), module, loaded, found, "the hook would have imported another module");
        }
        Event::TemplateStale { template, changed } => {
            info!(%template, changed = %show(changed), "the environment has changed: template is replaced");
        }
        Event::TemplateFailed { template, reason } => warn!(%template, "template failed: {reason}"),
        Event::TemplateFallback { interpreter, backend, reason } => {
            let interpreter = show(interpreter);
            warn!(%interpreter, backend, "templates fail, workers are spawned from now on: {reason}");
        }
        Event::TemplateExited { template } => debug!(%template, "template exited"),
        Event::TemplateLog { template, line } => debug!(%template, "template says: {line}"),
        _ => return false,
    }
    true
}

fn log_pool(event: &Event, http_request: Option<&str>) {
    match event {
        Event::TreeStillLocked { tree, holder } => {
            let holder = holder.as_deref().unwrap_or("another process");
            warn!(tree = %show(tree), "still waiting: {holder} uses the tree");
        }
        Event::TreeLocked { tree, .. } => {
            info!(http_request, tree = %show(tree), "waiting: another process uses the tree");
        }
        Event::PoolBackoff { tree, delay, failures } => {
            let delay_ms = milliseconds(*delay);
            info!(tree = %show(tree), delay_ms, failures, "workers failed: the next one is started later");
        }
        Event::PoolQuarantined { tree, cool_down, reason } => {
            let cool_down_ms = milliseconds(*cool_down);
            error!(tree = %show(tree), cool_down_ms, "workers failed too often, requests fail for a while: {reason}");
        }
        // There may be many, and the crash of their worker has a warning of its own.
        Event::OrphanKilled { pid } => info!(pid, "killed a process that a worker left behind"),
        Event::FreeThreaded { python } => {
            warn!(python = %show(python), "the interpreter is a free-threaded build, which hookpool is not tested with");
        }
        Event::WorkersCapped { max_workers, open_files } => {
            warn!(
                max_workers,
                open_files, "the limit of open files (ulimit -n) allows fewer workers than --max-workers"
            );
        }
        Event::OrphansUnknown { reason } => {
            warn!("cannot find the processes that hooks leave behind, some may stay: {reason}");
        }
        Event::LimitsChanged { limits } => {
            info!(jobs = limits.jobs, max_workers = limits.max_workers, "the limits were changed");
        }
        Event::Restarting { selection: Selection::All } => info!("replacing all workers"),
        Event::Restarting { selection } => info!("replacing workers: {selection:?}"),
        Event::Draining => info!("answering what is left"),
        Event::Interrupted { signal } => info!(%signal, "ending the running hooks"),
        Event::EventsLost { count } => warn!("{count} events were lost: they came faster than they could be logged"),
        Event::Suspended => info!("all hooks are stopped"),
        Event::Resumed => info!("all hooks go on"),
        // The enum is non-exhaustive.
        other => debug!("{other:?}"),
    }
}

fn show(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Levels(std::sync::mpsc::Sender<tracing::Level>);

    impl<S: tracing::Subscriber> Layer<S> for Levels {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.send(*event.metadata().level()).unwrap();
        }
    }

    #[test]
    fn a_killed_orphan_is_not_a_warning() {
        let (sender, levels) = std::sync::mpsc::channel();
        let subscriber = tracing_subscriber::registry().with(Levels(sender));
        tracing::subscriber::with_default(subscriber, || Log::default().log(&Event::OrphanKilled { pid: 7 }));
        assert_eq!(levels.iter().collect::<Vec<_>>(), [tracing::Level::INFO]);
    }
}
