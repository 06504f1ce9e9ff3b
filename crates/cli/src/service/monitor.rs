//! What the service remembers of the events of its pool, for those who run it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hookpool_frontend::EnvironmentEvent;
use hookpool_supervisor::{Builder, Event, RequestId};
use tokio::sync::watch;

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
    environments_made: AtomicU64,
}

impl Monitor {
    /// Listens to the events of the supervisor to be.
    pub fn attach(self: &Arc<Self>, builder: Builder, readers: &EventReaders) -> Builder {
        let monitor = self.clone();
        let is_wanted = |event: &Event| matches!(event, Event::OutputCaptured { .. } | Event::RequestFinished { .. });
        readers.attach(builder, is_wanted, move |event| monitor.observe(&event.event))
    }

    fn observe(&self, event: &Event) {
        match event {
            Event::OutputCaptured { request, stdout, stderr } => {
                let files = OutputFiles { stdout: stdout.clone(), stderr: stderr.clone() };
                self.running.send_modify(|running| drop(running.insert(*request, files)));
            }
            Event::RequestFinished { request, .. } => {
                self.running.send_if_modified(|running| running.remove(request).is_some());
            }
            // Nobody could say which of them still run.
            Event::EventsLost { .. } => self.running.send_modify(HashMap::clear),
            _ => {}
        }
    }

    /// Takes in an event of the build environments.
    pub fn observe_environment(&self, event: &EnvironmentEvent) {
        if let EnvironmentEvent::Made { .. } = event {
            self.environments_made.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The running hooks, now and as they change.
    pub fn running(&self) -> watch::Receiver<RunningHooks> {
        self.running.subscribe()
    }

    /// The number of build environments that were made.
    pub fn environments_made(&self) -> u64 {
        self.environments_made.load(Ordering::Relaxed)
    }
}
