//! Everything that a request waits for before it gets a worker: the visit of its
//! tree, the tree's lock, its environment. Tasks wait here for disks and for
//! other processes, so that the dispatcher does not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::slots::JobSlot;
use crate::blocking::BlockingPool;
use crate::build_environment::{EnvironmentOutcome, MadeEnvironment, WantedEnvironment};
use crate::error::{ErrorKind, HookError};
use crate::event::Event;
use crate::ids::RequestId;
use crate::limits::Timeout;
use crate::lock::{LockWaits, OwnLocks, TreeLock};
use crate::request::HookRequest;
use crate::response::StartMethod;
use crate::tree::{Candidate, TreePath, VisitOutcome, VisitPlan, Within};
use crate::worker::WorkerFreshness;

/// The result of a visit or a wait.
#[derive(Debug)]
pub(crate) enum Arrival {
    Visited { request: RequestId, path: TreePath, outcome: VisitOutcome, is_locked: bool },
    LockAwaited(TreePath, Result<(), HookError>),
    Prepared(WantedEnvironment, EnvironmentOutcome),
}

pub(crate) struct Gate {
    pool: BlockingPool,
    fallback_lock_folder: Arc<PathBuf>,
    start_method: StartMethod,
    lock_waits: LockWaits,
    own_locks: OwnLocks,
    within: Arc<Within>,
    locks: HashMap<TreePath, TreeLock>,
    /// Locks that are being released. A visit that needs one of them waits for
    /// the end of its channel.
    unlocking: HashMap<TreePath, oneshot::Receiver<()>>,
    /// Each result with the lock that was taken for it.
    tasks: JoinSet<(Option<TreeLock>, Arrival)>,
    waiting: HashMap<TreePath, AbortHandle>,
    preparing: HashMap<WantedEnvironment, AbortHandle>,
    /// The time by which environments must be made, once the shutdown has begun.
    ends_at: watch::Sender<Option<Instant>>,
}

impl Gate {
    pub fn new(
        pool: BlockingPool,
        fallback_lock_folder: PathBuf,
        start_method: StartMethod,
        lock_timeout: Option<Timeout>,
        notices: async_channel::Sender<Event>,
    ) -> Self {
        let (fallback_lock_folder, own_locks) = (Arc::new(fallback_lock_folder), OwnLocks::default());
        Self {
            lock_waits: LockWaits::new(
                pool.clone(),
                fallback_lock_folder.clone(),
                own_locks.clone(),
                lock_timeout,
                notices,
            ),
            pool,
            fallback_lock_folder,
            own_locks,
            within: Arc::new(Within::of_this_process()),
            start_method,
            locks: HashMap::new(),
            unlocking: HashMap::new(),
            tasks: JoinSet::new(),
            waiting: HashMap::new(),
            preparing: HashMap::new(),
            ends_at: watch::Sender::new(None),
        }
    }

    /// Visits a tree by its path in the request.
    pub fn visit(
        &mut self,
        request: RequestId,
        details: Arc<HookRequest>,
        path: TreePath,
        named: TreePath,
        made: Option<MadeEnvironment>,
        worker: Option<(Arc<WorkerFreshness>, Candidate)>,
    ) {
        // The tree may have nothing to do with the place of a worker that was
        // guessed, and must not wait for it.
        let worker = worker.filter(|(_, candidate)| !candidate.is_guess || self.pool.is_responsive());
        let plan = Arc::new(VisitPlan {
            path: named,
            queue: path.clone(),
            request: details,
            locked: self.locks.get(&path).map(|lock| lock.tree),
            made,
            worker,
            own_locks: self.own_locks.clone(),
            within: self.within.clone(),
            fallback_lock_folder: self.fallback_lock_folder.clone(),
            start_method: self.start_method,
        });
        let unlocked = self.unlocking.remove(&path);
        let pool = self.pool.clone();
        self.tasks.spawn(async move {
            let of_thread = plan.clone();
            let visit = move |progress: &_| {
                // Nothing is sent: the channel ends when the lock is free.
                let _ = unlocked.map(oneshot::Receiver::blocking_recv);
                of_thread.visit(progress)
            };
            let visit = pool.run(&plan.places(), visit).await;
            let (lock, outcome) = visit.unwrap_or_else(|error| (None, VisitOutcome::Failed(error.into())));
            (lock, Arrival::Visited { request, path, outcome, is_locked: false })
        });
    }

    /// Waits for the next result; pends while no task runs. Cancel-safe, as
    /// [`JoinSet::join_next`] is.
    pub async fn next(&mut self) -> Arrival {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((lock, arrival))) => {
                    if let Some(arrival) = self.arrive(lock, arrival) {
                        return arrival;
                    }
                }
                // It was aborted.
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => return std::future::pending().await,
            }
        }
    }

    /// Stores the lock of a result. `None` if the wait was given up.
    fn arrive(&mut self, lock: Option<TreeLock>, mut arrival: Arrival) -> Option<Arrival> {
        match &mut arrival {
            Arrival::Visited { path, is_locked, .. } => {
                self.locks.extend(lock.map(|lock| (path.clone(), lock)));
                *is_locked = self.locks.contains_key(path);
            }
            Arrival::LockAwaited(path, _) => {
                // If a wait was given up and begun again, there are two tasks: the
                // other would now wait for this lock.
                self.waiting.remove(path)?.abort();
                self.locks.extend(lock.map(|lock| (path.clone(), lock)));
            }
            Arrival::Prepared(wanted, _) => self.preparing.remove(wanted)?.abort(),
        }
        Some(arrival)
    }

    /// Waits for the lock of a tree that a visit found busy.
    pub fn await_lock(&mut self, path: TreePath) {
        let wait = self.lock_waits.clone().wait(path.clone());
        let of_task = path.clone();
        let task = self.tasks.spawn(async move {
            match wait.await {
                Ok(lock) => (Some(lock), Arrival::LockAwaited(of_task, Ok(()))),
                Err(error) => (None, Arrival::LockAwaited(of_task, Err(error))),
            }
        });
        self.waiting.insert(path, task);
    }

    /// Ends the wait for a lock.
    pub fn give_up_lock(&mut self, path: &TreePath) {
        if let Some(task) = self.waiting.remove(path) {
            task.abort();
        }
    }

    /// Releases the lock of a tree.
    pub fn unlock(&mut self, path: &TreePath) {
        let Some(lock) = self.locks.remove(path).filter(|lock| lock.is_slow_to_drop) else { return };
        let (sender, unlocked) = oneshot::channel::<()>();
        self.unlocking.retain(|_, unlocked| matches!(unlocked.try_recv(), Err(TryRecvError::Empty)));
        self.unlocking.insert(path.clone(), unlocked);
        tokio::task::spawn_blocking(move || {
            drop(lock);
            drop(sender);
        });
    }

    /// Makes an environment.
    pub fn prepare(&mut self, wanted: WantedEnvironment, slot: JobSlot) {
        let make = wanted.provider.clone().make(wanted.requirements.clone(), slot.lent());
        let mut ends_at = self.ends_at.subscribe();
        let of_task = wanted.clone();
        let task = self.tasks.spawn(async move {
            let cut_off = async {
                // The sender outlives the tasks.
                let ends_at = ends_at.wait_for(Option::is_some).await.map(|ends_at| *ends_at);
                match ends_at {
                    Ok(Some(at)) => tokio::time::sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                biased;
                outcome = make => outcome,
                () = cut_off => {
                    Err(HookError::new(ErrorKind::Interrupted, "the supervisor was ended while the environment was made"))
                }
            };
            (None, Arrival::Prepared(of_task, outcome))
        });
        self.preparing.insert(wanted, task);
    }

    /// Ends the making of an environment.
    pub fn give_up_environment(&mut self, wanted: &WantedEnvironment) {
        if let Some(task) = self.preparing.remove(wanted) {
            task.abort();
        }
    }

    /// Limits the time for environments that are being made. A later time does
    /// not replace an earlier one.
    pub fn end_by(&mut self, at: Instant) {
        self.ends_at.send_modify(|ends_at| *ends_at = Some(ends_at.map_or(at, |before| before.min(at))));
    }
}
