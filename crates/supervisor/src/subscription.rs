//! The way of events from a supervisor to its subscribers: a bounded channel for
//! each, so that no subscriber delays the supervisor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use serde::{Serialize, Serializer};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::event::Event;

/// An event with its time.
///
/// It serializes as the event, whose name is the field `event`, with the field
/// `time_ms`: milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TimedEvent {
    /// When it happened, for differences.
    #[serde(skip)]
    pub at: Instant,
    /// When it happened, for people.
    #[serde(rename = "time_ms", serialize_with = "since_1970")]
    pub time: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

fn since_1970<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    crate::json::milliseconds(&time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), serializer)
}

/// The events of a supervisor for one subscriber, in order. By
/// [`Builder::subscribe`](crate::Builder::subscribe) or
/// [`Supervisor::subscribe`](crate::Supervisor::subscribe).
///
/// At most [`Events::CAPACITY`] events wait to be read. A subscriber that is slower
/// misses the next ones, and learns by [`Event::EventsLost`] how many they were.
#[derive(Debug)]
pub struct Events {
    inbox: mpsc::Receiver<Arc<TimedEvent>>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// The number of events that wait for a subscriber.
    pub const CAPACITY: usize = 8192;

    /// The next event. `None` once the supervisor has ended and all its events were
    /// read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<TimedEvent>> {
        match self.inbox.recv().await {
            Some(event) => Some(event),
            // There was no event after those that were lost.
            None => match self.lost.swap(0, Ordering::Relaxed) {
                0 => None,
                count => Some(Arc::new(TimedEvent::now(Event::EventsLost { count }))),
            },
        }
    }
}

impl TimedEvent {
    fn now(event: Event) -> Self {
        Self { at: Instant::now(), time: SystemTime::now(), event }
    }
}

/// The subscribers of a supervisor. `None` after its end.
#[derive(Debug)]
pub(crate) struct Subscribers(Mutex<Option<Vec<Subscriber>>>);

struct Subscriber {
    wants: Box<dyn Fn(&Event) -> bool + Send>,
    outbox: mpsc::Sender<Arc<TimedEvent>>,
    /// The number of events that it was not told of yet.
    lost: Arc<AtomicU64>,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Subscriber").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Subscribers {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Vec::new()))))
    }

    pub fn add(&self, wants: impl Fn(&Event) -> bool + Send + 'static) -> Events {
        self.add_with_capacity(wants, Events::CAPACITY)
    }

    fn add_with_capacity(&self, wants: impl Fn(&Event) -> bool + Send + 'static, capacity: usize) -> Events {
        let (outbox, inbox) = mpsc::channel(capacity);
        let lost = Arc::new(AtomicU64::new(0));
        if let Some(subscribers) = &mut *self.subscribers() {
            subscribers.push(Subscriber { wants: Box::new(wants), outbox, lost: lost.clone() });
        }
        Events { inbox, lost }
    }

    /// Sends an event to all who want it. Never waits.
    pub fn send(&self, event: Event) {
        let mut subscribers = self.subscribers();
        let Some(subscribers) = &mut *subscribers else { return };
        if !subscribers.iter().any(|subscriber| (subscriber.wants)(&event)) {
            return;
        }
        let event = Arc::new(TimedEvent::now(event));
        subscribers.retain(|subscriber| !(subscriber.wants)(&event.event) || subscriber.send(&event));
    }

    /// The supervisor has ended: subscribers get what they have not read, and no
    /// more.
    pub fn end(&self) {
        *self.subscribers() = None;
    }

    fn subscribers(&self) -> MutexGuard<'_, Option<Vec<Subscriber>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// Returns false if it is gone.
    fn send(&self, event: &Arc<TimedEvent>) -> bool {
        // No other thread changes it while the subscriber can still receive.
        let lost = self.lost.load(Ordering::Relaxed);
        let sent = match lost {
            0 => self.outbox.try_send(event.clone()),
            // Before the event, so that it knows where they are missing.
            count => self
                .outbox
                .try_reserve_many(2)
                .map(|mut places| {
                    self.lost.store(0, Ordering::Relaxed);
                    for event in [Arc::new(TimedEvent::now(Event::EventsLost { count })), event.clone()] {
                        places.next().expect("two were reserved").send(event);
                    }
                })
                .map_err(|error| match error {
                    TrySendError::Full(()) => TrySendError::Full(event.clone()),
                    TrySendError::Closed(()) => TrySendError::Closed(event.clone()),
                }),
        };
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn killed(pid: u32) -> Event {
        Event::OrphanKilled { pid }
    }

    /// The pids of the events, and the numbers of lost ones, below zero.
    async fn read(events: &mut Events, most: usize) -> Vec<i64> {
        let mut found = Vec::new();
        while found.len() < most
            && let Some(event) = events.next().await
        {
            found.push(match event.event {
                Event::OrphanKilled { pid } => i64::from(pid),
                Event::EventsLost { count } => -i64::try_from(count).unwrap(),
                ref other => panic!("{other:?}"),
            });
        }
        found
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_how_many_events_it_has_missed_and_where() {
        let subscribers = Subscribers::new();
        let mut fast = subscribers.add(|_| true);
        let mut slow = subscribers.add_with_capacity(|_| true, 3);
        (1..=5).for_each(|pid| subscribers.send(killed(pid)));
        assert_eq!(read(&mut slow, 2).await, [1, 2]);
        subscribers.send(killed(6));
        assert_eq!(read(&mut slow, 3).await, [3, -2, 6]);
        (7..=11).for_each(|pid| subscribers.send(killed(pid)));
        subscribers.end();
        assert_eq!(read(&mut slow, 9).await, [7, 8, 9, -2]);
        assert_eq!(read(&mut fast, 99).await, (1..=11).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn subscribers_get_what_they_want_until_the_end() {
        let subscribers = Subscribers::new();
        let mut even = subscribers.add(|event| matches!(event, Event::OrphanKilled { pid } if pid % 2 == 0));
        drop(subscribers.add(|_| true));
        (1..=4).for_each(|pid| subscribers.send(killed(pid)));
        assert_eq!(subscribers.subscribers().as_ref().unwrap().len(), 1, "the other has gone");
        subscribers.end();
        subscribers.send(killed(6));
        assert_eq!(read(&mut even, 9).await, [2, 4]);
        assert!(subscribers.add(|_| true).next().await.is_none());
    }

    #[test]
    fn an_event_is_a_flat_object() {
        let event = Event::PoolBackoff { tree: "/t".into(), delay: std::time::Duration::from_millis(50), failures: 2 };
        let mut value = serde_json::to_value(TimedEvent::now(event)).unwrap();
        assert!(value.as_object_mut().unwrap().remove("time_ms").unwrap().as_f64() > Some(1.7e12));
        assert_eq!(value, json!({"event": "pool_backoff", "tree": "/t", "delay_ms": 50.0, "failures": 2}));
    }
}
