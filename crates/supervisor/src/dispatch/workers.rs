//! The live workers, and which of them are idle.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::event::StopReason;
use crate::ids::{RequestId, TemplateId, WorkerId};
use crate::response::StartMethod;
use crate::tree::{Tree, TreePath};
use crate::worker::WorkerKey;

/// What the workers of a pool have in common: any of them can run a request of
/// the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// With its path, as a worker uses the path that it was started with. The
    /// folder may be renamed, and its inode reused.
    pub tree: Arc<Tree>,
    pub worker: WorkerKey,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupation {
    /// It is being started, for this request if that still needs it.
    Starting {
        request: Option<RequestId>,
    },
    Idle {
        turn: u64,
        since: Instant,
    },
    Leased {
        request: RequestId,
        accepted: bool,
    },
    /// Its request is answered, and it cleans up.
    Sweeping,
    Stopping,
    /// It stays as the parent of processes that its hooks detached.
    Lingering,
}

#[derive(Debug)]
pub(crate) struct WorkerRecord {
    pub pool: PoolKey,
    /// The path of the queue of its last request.
    pub path: TreePath,
    pub generation: u64,
    /// Changed by [`Workers::occupy`] only, which updates the counts.
    occupation: Occupation,
    pub pid: Option<u32>,
    /// The supervisor's, and from READY on how it was in fact started.
    pub start_method: StartMethod,
    /// The template that it was forked from.
    pub template: Option<TemplateId>,
    pub started_at: Instant,
    pub served: u32,
    /// The number of requests after which it is replaced, with jitter.
    pub max_served: Option<u32>,
    /// Why it is to end when its hook has ended, if it is.
    pub to_stop: Option<StopReason>,
    /// It is the parent of processes that its hooks detached.
    pub keeps_processes: bool,
}

impl WorkerRecord {
    /// A worker that is being started for this request.
    pub fn starting(
        pool: PoolKey,
        path: TreePath,
        generation: u64,
        request: RequestId,
        start_method: StartMethod,
        max_served: Option<u32>,
        now: Instant,
    ) -> Self {
        Self {
            pool,
            path,
            generation,
            occupation: Occupation::Starting { request: Some(request) },
            pid: None,
            start_method,
            template: None,
            started_at: now,
            served: 0,
            max_served,
            to_stop: None,
            keeps_processes: false,
        }
    }

    pub fn occupation(&self) -> Occupation {
        self.occupation
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.occupation, Occupation::Idle { .. })
    }

    /// Whether nothing of its tree is left in it, nor below it. Only workers of
    /// isolation `hook` are asked: the others keep what hooks have imported.
    pub fn may_move(&self) -> bool {
        !self.keeps_processes
    }
}

/// All workers of a supervisor.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    records: HashMap<WorkerId, WorkerRecord>,
    /// The idle ones, least recently used first.
    idle: BTreeMap<u64, WorkerId>,
    next_id: u64,
    next_turn: u64,
    lingering: usize,
    /// Those that a visit compares with the disk, for its request alone.
    candidates: HashMap<RequestId, WorkerId>,
}

impl Workers {
    pub fn add(&mut self, record: WorkerRecord) -> WorkerId {
        self.next_id += 1;
        let id = WorkerId(self.next_id);
        self.records.insert(id, record);
        id
    }

    pub fn get(&self, id: WorkerId) -> Option<&WorkerRecord> {
        self.records.get(&id)
    }

    pub fn get_mut(&mut self, id: WorkerId) -> Option<&mut WorkerRecord> {
        self.records.get_mut(&id)
    }

    /// Changes what a worker does. Returns what it did before.
    pub fn occupy(&mut self, id: WorkerId, occupation: Occupation) -> Option<Occupation> {
        let record = self.records.get_mut(&id)?;
        let before = std::mem::replace(&mut record.occupation, occupation);
        if let Occupation::Idle { turn, .. } = before {
            self.idle.remove(&turn);
        }
        self.lingering -= usize::from(before == Occupation::Lingering);
        self.lingering += usize::from(occupation == Occupation::Lingering);
        Some(before)
    }

    pub fn make_idle(&mut self, id: WorkerId, now: Instant) {
        self.next_turn += 1;
        let turn = self.next_turn;
        if self.occupy(id, Occupation::Idle { turn, since: now }).is_some() {
            self.idle.insert(turn, id);
        }
    }

    /// Removes a worker, and returns its record.
    pub fn remove(&mut self, id: WorkerId) -> Option<WorkerRecord> {
        let record = self.records.remove(&id)?;
        match record.occupation {
            Occupation::Idle { turn, .. } => {
                self.idle.remove(&turn);
            }
            Occupation::Lingering => self.lingering -= 1,
            _ => {}
        }
        Some(record)
    }

    /// The number of workers that count for the limit.
    pub fn live(&self) -> usize {
        self.records.len() - self.lingering
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn lingering(&self) -> usize {
        self.lingering
    }

    /// The worker that has lingered longest.
    pub fn oldest_lingering(&self) -> Option<WorkerId> {
        self.ids_where(|record| record.occupation == Occupation::Lingering).into_iter().min()
    }

    /// The number of live workers that are about to end.
    pub fn stopping(&self) -> usize {
        self.records.values().filter(|record| record.occupation == Occupation::Stopping).count()
    }

    pub fn least_recently_used(&self) -> Option<WorkerId> {
        self.idle.values().next().copied()
    }

    /// The most recently used of the idle workers for which this holds and that no
    /// visit compares with the disk. Its memory is most likely to be cached.
    pub fn idle_where(&self, test: impl Fn(&WorkerRecord) -> bool) -> Option<WorkerId> {
        let mut free = self.idle.values().rev().filter(|id| !self.candidates.values().any(|other| other == *id));
        free.find(|id| self.records.get(id).is_some_and(&test)).copied()
    }

    /// An idle worker of a pool.
    pub fn idle_of(&self, pool: &PoolKey) -> Option<WorkerId> {
        self.idle_where(|record| record.pool == *pool)
    }

    /// A visit compares this worker with the disk. Until it has ended, no other
    /// request gets the worker.
    pub fn keep_for(&mut self, request: RequestId, worker: WorkerId) {
        self.candidates.insert(request, worker);
    }

    /// The visit for a request has ended.
    pub fn release(&mut self, request: RequestId) {
        self.candidates.remove(&request);
    }

    /// The trees that have an idle worker.
    pub fn trees_with_idle(&self) -> impl Iterator<Item = &TreePath> {
        self.idle().map(|(_, record)| &record.path)
    }

    /// An idle worker of a tree.
    pub fn idle_in(&self, path: &TreePath) -> Option<WorkerId> {
        self.idle_where(|record| record.path == *path)
    }

    pub fn has_pool(&self, pool: &PoolKey) -> bool {
        self.records.values().any(|record| record.pool == *pool)
    }

    pub fn idle(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        self.idle.values().filter_map(|id| Some((*id, self.records.get(id)?)))
    }

    pub fn ids(&self) -> Vec<WorkerId> {
        self.ids_where(|_| true)
    }

    pub fn ids_where(&self, test: impl Fn(&WorkerRecord) -> bool) -> Vec<WorkerId> {
        let mut ids: Vec<WorkerId> =
            self.records.iter().filter(|(_, record)| test(record)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn records(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        self.records.iter().map(|(id, record)| (*id, record))
    }

    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut WorkerRecord> {
        self.records.values_mut()
    }
}
