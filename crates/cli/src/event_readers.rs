//! The tasks that read the events of supervisors, each for one purpose.

use std::sync::{Arc, Mutex, PoisonError};

use hookpool_supervisor::{Builder, Event, TimedEvent};
use tokio::task::JoinSet;

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EventReaders(Arc<Mutex<JoinSet<()>>>);

impl EventReaders {
    /// Reads the events of a supervisor that `wants` accepts, and how many were lost.
    /// Needs an event loop.
    #[must_use]
    pub fn attach(
        &self,
        mut builder: Builder,
        wants: impl Fn(&Event) -> bool + Send + 'static,
        mut observe: impl FnMut(&TimedEvent) + Send + 'static,
    ) -> Builder {
        let mut events = builder.subscribe(wants);
        let read = async move {
            while let Some(event) = events.next().await {
                observe(&event);
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(read);
        builder
    }

    /// Waits until all events of supervisors that have ended are read.
    pub async fn finished(&self) {
        let readers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        readers.join_all().await;
    }
}
