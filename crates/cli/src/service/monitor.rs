//! What the service remembers of the events of its pool, for those who run it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hookpool_frontend::{AnswerStatistics, EnvironmentEvent};
use hookpool_supervisor::{Builder, Event, RequestId};
use hookpool_wire::AnswerCounts;
use tokio::sync::watch;
use tracing::warn;

use super::metrics::Metrics;
use crate::event_readers::EventReaders;

/// The files that a running hook writes its output to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFiles {
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// The files of all running hooks.
pub type RunningHooks = HashMap<RequestId, OutputFiles>;

/// Listens to the events of a pool.
#[derive(Debug, Default)]
pub struct Monitor {
    running: watch::Sender<RunningHooks>,
    pub metrics: Metrics,
    answers_of_builds: Mutex<AnswerCounts>,
}

impl Monitor {
    /// Listens to the events of the supervisor to be.
    pub fn attach(self: &Arc<Self>, builder: Builder, readers: &EventReaders) -> Builder {
        let monitor = self.clone();
        let wants = |event: &Event| {
            Metrics::wants(event) || matches!(event, Event::OutputCaptured { .. } | Event::RequestFinished { .. })
        };
        readers.attach(builder, wants, move |event| monitor.observe(&event.event))
    }

    fn observe(&self, event: &Event) {
        self.metrics.observe(event);
        match event {
            Event::OutputCaptured { request, stdout, stderr } => {
                let files = OutputFiles { stdout: stdout.clone(), stderr: stderr.clone() };
                self.running.send_modify(|running| drop(running.insert(*request, files)));
            }
            Event::RequestFinished { request, .. } => {
                self.running.send_if_modified(|running| running.remove(request).is_some());
            }
            Event::EventsLost { count } => {
                warn!("{count} events were lost: the metrics count too little");
                // Nobody could say which of them still run.
                self.running.send_modify(HashMap::clear);
            }
            _ => {}
        }
    }

    /// Takes in an event of the build environments.
    pub fn observe_environment(&self, event: &EnvironmentEvent) {
        if let EnvironmentEvent::Made { .. } = event {
            self.metrics.environment_made();
        }
    }

    /// The running hooks, now and as they change.
    pub fn running(&self) -> watch::Receiver<RunningHooks> {
        self.running.subscribe()
    }

    /// Adds what a build that has ended has counted.
    pub fn add_answers_of_build(&self, counted: &AnswerStatistics) {
        let mut answers = self.answers_of_builds.lock().unwrap_or_else(PoisonError::into_inner);
        answers.hits += counted.hits;
        answers.misses += counted.misses;
        answers.kept += counted.kept;
        answers.wrong += counted.mismatches;
    }

    /// What the builds that have ended have counted.
    pub fn answers_of_builds(&self) -> AnswerCounts {
        *self.answers_of_builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
