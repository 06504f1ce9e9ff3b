//! The way into trees: their locks, the visits to them, and the waits for other
//! processes that work in them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::scheduler::Visited;
use crate::error::HookError;
use crate::request::{HookRequest, RequestId};
use crate::tree::lock::BusyTree;
use crate::tree::visit::{Visit, VisitSettings, visit};
use crate::tree::{Tree, TreeId, TreeLock};

type LockOutcome = Result<TreeLock, HookError>;

/// What came of a visit or a wait.
#[derive(Debug)]
pub(crate) enum Arrival {
    Visited(RequestId, TreeId, Visited),
    LockAwaited(TreeId, Result<(), HookError>),
}

pub(crate) struct Gate {
    settings: Arc<VisitSettings>,
    locks: HashMap<TreeId, TreeLock>,
    /// Trees that other processes work in, until somebody waits for them.
    busy: HashMap<TreeId, BusyTree>,
    /// Those for which no thread was free.
    backlog: VecDeque<TreeId>,
    waits: JoinSet<(TreeId, LockOutcome)>,
    /// Visits on threads of their own, and how long they took.
    visits: JoinSet<(RequestId, TreeId, Visit, Duration)>,
    /// Visits that were made on the spot.
    made: VecDeque<(RequestId, TreeId, Visit)>,
    /// File systems on which the last visit was fast.
    fast_devices: HashSet<u64>,
}

impl Gate {
    /// Threads that wait for locks of other processes.
    const MAX_WAITS: usize = 256;
    /// A visit that took so long belongs on a thread.
    const SLOW: Duration = Duration::from_millis(5);

    pub fn new(settings: VisitSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            locks: HashMap::new(),
            busy: HashMap::new(),
            backlog: VecDeque::new(),
            waits: JoinSet::new(),
            visits: JoinSet::new(),
            made: VecDeque::new(),
            fast_devices: HashSet::new(),
        }
    }

    /// Visits a tree: on a local disk at once, which is faster than a thread is
    /// woken for it; on a file system that is slow, or not known yet, on a
    /// thread.
    pub fn visit(&mut self, request: RequestId, details: Arc<HookRequest>, tree: Arc<Tree>, locked: bool) {
        let settings = self.settings.clone();
        let id = tree.id;
        let timed = move || {
            let before = Instant::now();
            let visit = visit(&tree, &details, locked, &settings);
            (request, id, visit, before.elapsed())
        };
        if self.fast_devices.contains(&id.device) {
            let (request, id, visit, took) = timed();
            self.note_speed(id, took);
            self.made.push_back((request, id, visit));
        } else {
            self.visits.spawn_blocking(timed);
        }
    }

    fn note_speed(&mut self, tree: TreeId, took: Duration) {
        if took > Self::SLOW {
            self.fast_devices.remove(&tree.device);
        } else {
            self.fast_devices.insert(tree.device);
        }
    }

    /// A visit that was made on the spot.
    pub fn take_made(&mut self) -> Option<Arrival> {
        let (request, tree, visit) = self.made.pop_front()?;
        Some(self.arrive(request, tree, visit))
    }

    /// Waits for the next visit or lock; pends while there is none to come.
    ///
    /// Cancel-safe, as [`JoinSet::join_next`] is.
    pub async fn next(&mut self) -> Arrival {
        tokio::select! {
            Some(visit) = self.visits.join_next() => {
                let (request, tree, visit, took) = finished_task(visit);
                self.note_speed(tree, took);
                self.arrive(request, tree, visit)
            }
            Some(wait) = self.waits.join_next() => {
                let (tree, outcome) = finished_task(wait);
                if let Some(next) = self.backlog.pop_front() {
                    self.await_lock(next);
                }
                Arrival::LockAwaited(tree, outcome.map(|lock| self.keep(tree, Some(lock))))
            }
            else => std::future::pending().await,
        }
    }

    fn arrive(&mut self, request: RequestId, tree: TreeId, visit: Visit) -> Arrival {
        let visited = match visit {
            Visit::Ready { lock, prepared } => {
                self.keep(tree, lock);
                Visited::Ready { prepared }
            }
            Visit::Busy(busy) => {
                self.busy.insert(tree, busy);
                Visited::Busy
            }
            Visit::Failed { lock, error } => {
                self.keep(tree, lock);
                Visited::Failed { error, locked: self.locks.contains_key(&tree) }
            }
        };
        Arrival::Visited(request, tree, visited)
    }

    fn keep(&mut self, tree: TreeId, lock: Option<TreeLock>) {
        if let Some(lock) = lock {
            self.locks.insert(tree, lock);
        }
    }

    /// Waits for the lock of a tree that a visit found busy.
    pub fn await_lock(&mut self, tree: TreeId) {
        if self.waits.len() >= Self::MAX_WAITS {
            return self.backlog.push_back(tree);
        }
        let Some(busy) = self.busy.remove(&tree) else { return };
        let receiver = busy.wait();
        self.waits.spawn(async move { (tree, receiver.await.expect("the thread always answers")) });
    }

    /// Lets other processes into a tree.
    pub fn unlock(&mut self, tree: TreeId) {
        self.locks.remove(&tree);
    }
}

/// The result of a task that is never aborted.
fn finished_task<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    match outcome {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
