//! The trees that have requests: their queues, and whose turn it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::request::RequestId;
use crate::tree::{Tree, TreeId};

/// Higher priorities first, then the order of submission. A request that is
/// tried again keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePlace {
    priority: Reverse<i32>,
    request: RequestId,
}

impl QueuePlace {
    pub fn new(priority: i32, request: RequestId) -> Self {
        Self { priority: Reverse(priority), request }
    }
}

/// Who may run hooks in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// This process does not hold the lock.
    Free,
    /// A visit is about to take it; a second visit would meet the first.
    Taking,
    /// Another process holds it; somebody waits for it.
    Waiting,
    Held,
}

#[derive(Debug)]
pub(crate) struct TreeState {
    pub tree: Arc<Tree>,
    pub lock: LockState,
    /// Requests on their way from a visit to the end of their worker's sweep.
    pub active: usize,
    queue: BTreeMap<QueuePlace, RequestId>,
    /// When the tree was last served; whoever waits longest is next.
    turn: u64,
}

type RotationPlace = (Reverse<i32>, u64, TreeId);

/// All trees with requests, and the order in which they are served: higher
/// priorities first, round-robin among equals.
#[derive(Debug)]
pub(crate) struct Trees {
    trees: HashMap<TreeId, TreeState>,
    rotation: BTreeSet<RotationPlace>,
    next_turn: u64,
    workers_per_tree: usize,
}

impl Trees {
    pub fn new(workers_per_tree: usize) -> Self {
        Self { trees: HashMap::new(), rotation: BTreeSet::new(), next_turn: 0, workers_per_tree }
    }

    pub fn get(&self, id: TreeId) -> Option<&TreeState> {
        self.trees.get(&id)
    }

    /// Adds a request to the queue of its tree.
    pub fn enqueue(&mut self, tree: &Arc<Tree>, place: QueuePlace) {
        let next_turn = &mut self.next_turn;
        self.trees.entry(tree.id).or_insert_with(|| {
            *next_turn += 1;
            let tree = tree.clone();
            let (lock, queue, turn) = (LockState::Free, BTreeMap::new(), *next_turn);
            TreeState { tree, lock, active: 0, queue, turn }
        });
        self.change(tree.id, |state| {
            state.queue.insert(place, place.request);
        });
    }

    /// Takes a request out of its tree's queue; whether it was there.
    pub fn dequeue(&mut self, tree: TreeId, place: QueuePlace) -> bool {
        self.change(tree, |state| state.queue.remove(&place).is_some()).unwrap_or(false)
    }

    /// The tree whose turn it is.
    pub fn first(&self) -> Option<TreeId> {
        self.rotation.first().map(|(_, _, id)| *id)
    }

    /// Of these trees, the first in the order that can be served and whose
    /// priority is no lower than that of the tree whose turn it is.
    pub fn first_equal(&self, ids: impl Iterator<Item = TreeId>) -> Option<TreeId> {
        let (highest, ..) = self.rotation.first()?;
        let places = ids.filter_map(|id| place(self.trees.get(&id)?, self.workers_per_tree));
        places.filter(|(priority, ..)| priority == highest).min().map(|(_, _, id)| id)
    }

    /// The next request of a tree that can be served. It counts as active.
    pub fn pop(&mut self, id: TreeId) -> Option<RequestId> {
        self.next_turn += 1;
        let turn = self.next_turn;
        self.change(id, |state| {
            let (_, request) = state.queue.pop_first()?;
            state.active += 1;
            state.turn = turn;
            Some(request)
        })?
    }

    /// Changes a tree's state; keeps the rotation right, and forgets a tree
    /// that has nothing left.
    pub fn change<T>(&mut self, id: TreeId, change: impl FnOnce(&mut TreeState) -> T) -> Option<T> {
        let state = self.trees.get_mut(&id)?;
        if let Some(place) = place(state, self.workers_per_tree) {
            self.rotation.remove(&place);
        }
        let result = change(state);
        match place(state, self.workers_per_tree) {
            Some(place) => {
                self.rotation.insert(place);
            }
            None if state.queue.is_empty() && state.active == 0 && state.lock == LockState::Free => {
                self.trees.remove(&id);
            }
            None => {}
        }
        Some(result)
    }

    /// Empties all queues.
    pub fn drain(&mut self) -> Vec<RequestId> {
        let ids: Vec<TreeId> = self.trees.keys().copied().collect();
        let mut requests = Vec::new();
        for id in ids {
            self.change(id, |state| requests.extend(std::mem::take(&mut state.queue).into_values()));
        }
        requests
    }
}

impl TreeState {
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn first(&self) -> Option<RequestId> {
        self.queue.values().next().copied()
    }
}

/// Where a tree stands in the rotation; nowhere, while it cannot be served.
fn place(state: &TreeState, workers_per_tree: usize) -> Option<RotationPlace> {
    let (first, _) = state.queue.first_key_value()?;
    let lockable = matches!(state.lock, LockState::Free | LockState::Held);
    (lockable && state.active < workers_per_tree).then_some((first.priority, state.turn, state.tree.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(inode: u64) -> Arc<Tree> {
        Arc::new(Tree { id: TreeId { device: 1, inode }, path: format!("/{inode}").into() })
    }

    fn place(priority: i32, request: u64) -> QueuePlace {
        QueuePlace::new(priority, RequestId(request))
    }

    fn pop(trees: &mut Trees) -> Option<RequestId> {
        trees.first().and_then(|tree| trees.pop(tree))
    }

    fn pop_all(trees: &mut Trees) -> Vec<u64> {
        std::iter::from_fn(|| {
            let request = pop(trees)?;
            for inode in 1..=3 {
                trees.change(tree(inode).id, |state| state.active = 0);
            }
            Some(request.0)
        })
        .collect()
    }

    #[test]
    fn a_hot_tree_does_not_starve_the_others() {
        let mut trees = Trees::new(1);
        for request in 0..4 {
            trees.enqueue(&tree(1), place(0, request));
        }
        trees.enqueue(&tree(2), place(0, 10));
        trees.enqueue(&tree(3), place(0, 20));
        trees.enqueue(&tree(3), place(0, 21));
        assert_eq!(pop_all(&mut trees), [0, 10, 20, 1, 21, 2, 3]);
        assert!(trees.trees.is_empty() && trees.rotation.is_empty());
    }

    #[test]
    fn priorities_come_first_within_a_tree_and_between_trees() {
        let mut trees = Trees::new(1);
        trees.enqueue(&tree(1), place(0, 1));
        trees.enqueue(&tree(1), place(5, 2));
        trees.enqueue(&tree(2), place(1, 3));
        trees.enqueue(&tree(3), place(-1, 4));
        assert_eq!(pop_all(&mut trees), [2, 3, 1, 4]);
    }

    #[test]
    fn one_hook_at_a_time_and_none_while_another_process_has_the_lock() {
        let mut trees = Trees::new(1);
        let one = tree(1);
        trees.enqueue(&one, place(0, 1));
        trees.enqueue(&one, place(0, 2));
        assert!(pop(&mut trees).is_some());
        assert!(pop(&mut trees).is_none());
        trees.change(one.id, |state| {
            state.active = 0;
            state.lock = LockState::Waiting;
        });
        assert!(pop(&mut trees).is_none());
        trees.change(one.id, |state| state.lock = LockState::Held);
        assert_eq!(pop(&mut trees).unwrap(), RequestId(2));
    }

    #[test]
    fn what_was_cancelled_does_not_come() {
        let mut trees = Trees::new(1);
        trees.enqueue(&tree(1), place(0, 1));
        assert!(trees.dequeue(tree(1).id, place(0, 1)));
        assert!(!trees.dequeue(tree(1).id, place(0, 1)));
        assert!(pop(&mut trees).is_none());
    }
}
