//! The trees that have requests: their queues, and the order in which they are
//! served.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::RequestId;
use crate::tree::TreePath;

/// The place of a request in its queue: higher priorities first, then the order
/// of submission. A request that is retried keeps its place.
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

/// The state of a tree's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// This process does not hold the lock.
    Free,
    /// A visit is taking it. A second visit at once would find it busy.
    Taking,
    /// Another process holds it, and this one waits.
    Waiting,
    Held,
}

#[derive(Debug)]
pub(crate) struct TreeState {
    pub lock: LockState,
    /// Its first request waits for its environment.
    pub is_preparing: bool,
    /// The number of requests between their visit and the end of their worker's
    /// cleanup.
    pub active: usize,
    /// The number of these that are answered.
    pub sweeping: usize,
    queue: BTreeMap<QueuePlace, RequestId>,
    /// When the tree was last served; the lowest number is next. Unique.
    turn: u64,
    /// The turn before that.
    last_turn: u64,
}

type RotationPlace = (Reverse<i32>, u64);

/// All trees with requests, and the order in which they are served: higher
/// priorities first, round-robin among equals.
#[derive(Debug)]
pub(crate) struct Trees {
    trees: HashMap<TreePath, TreeState>,
    rotation: BTreeMap<RotationPlace, TreePath>,
    /// The future places of trees whose worker has answered, and is not ready yet.
    soon: BTreeSet<RotationPlace>,
    /// Paths that share the queue of another path to the same folder.
    aliases: HashMap<TreePath, TreePath>,
    next_turn: u64,
    workers_per_tree: usize,
}

impl Trees {
    pub fn new(workers_per_tree: usize) -> Self {
        Self {
            trees: HashMap::new(),
            rotation: BTreeMap::new(),
            soon: BTreeSet::new(),
            aliases: HashMap::new(),
            next_turn: 0,
            workers_per_tree,
        }
    }

    /// Changes the number of requests that may be active in a tree at once. Those
    /// that are active stay so.
    pub fn set_workers_per_tree(&mut self, workers_per_tree: usize) {
        self.workers_per_tree = workers_per_tree;
        self.rotation.clear();
        self.soon.clear();
        for (path, state) in &self.trees {
            match standing(state, workers_per_tree) {
                Some(Standing::Now(place)) => drop(self.rotation.insert(place, path.clone())),
                Some(Standing::Soon(place)) => drop(self.soon.insert(place)),
                None => {}
            }
        }
    }

    pub fn get(&self, path: &TreePath) -> Option<&TreeState> {
        self.trees.get(path)
    }

    /// The path of the queue that a path belongs to.
    pub fn queue_of(&mut self, named: &TreePath) -> TreePath {
        match self.aliases.get(named) {
            Some(main) if self.trees.contains_key(main) => main.clone(),
            Some(_) => {
                self.aliases.remove(named);
                named.clone()
            }
            None => named.clone(),
        }
    }

    /// Moves the queue of one path to that of another. Returns the requests that
    /// were moved.
    pub fn merge(&mut self, path: &TreePath, main: &TreePath) -> Vec<RequestId> {
        self.aliases.retain(|_, main| self.trees.contains_key(main));
        self.aliases.values_mut().filter(|target| *target == path).for_each(|target| target.clone_from(main));
        self.aliases.remove(main);
        self.aliases.insert(path.clone(), main.clone());
        let moved = self.change(path, |state| std::mem::take(&mut state.queue)).unwrap_or_default();
        moved.keys().for_each(|place| self.enqueue(main, *place));
        moved.into_values().collect()
    }

    /// Gives a path its own queue again, since it leads to another folder.
    pub fn separate(&mut self, path: &TreePath) {
        self.aliases.remove(path);
    }

    /// Adds a request to the queue of its tree.
    pub fn enqueue(&mut self, path: &TreePath, place: QueuePlace) {
        let next_turn = &mut self.next_turn;
        self.trees.entry(path.clone()).or_insert_with(|| {
            *next_turn += 1;
            TreeState {
                lock: LockState::Free,
                is_preparing: false,
                active: 0,
                sweeping: 0,
                queue: BTreeMap::new(),
                turn: *next_turn,
                last_turn: *next_turn,
            }
        });
        self.change(path, |state| {
            state.queue.insert(place, place.request);
        });
    }

    /// Removes a request from its queue. Returns whether it was there.
    pub fn dequeue(&mut self, path: &TreePath, place: QueuePlace) -> bool {
        self.change(path, |state| state.queue.remove(&place).is_some()).unwrap_or(false)
    }

    /// The tree whose turn it is.
    pub fn first(&self) -> Option<&TreePath> {
        self.rotation.first_key_value().map(|(_, path)| path)
    }

    /// The number of trees that have a request of a higher priority than the tree
    /// whose turn it is, and that can be served as soon as their worker, which
    /// has answered, is ready.
    pub fn soon_before_first(&self) -> usize {
        let Some(((first, _), _)) = self.rotation.first_key_value() else { return 0 };
        self.soon.iter().take_while(|(priority, _)| priority < first).count()
    }

    /// The first of these trees that can be served and whose priority is not lower
    /// than that of the tree whose turn it is.
    pub fn first_equal<'a>(&self, paths: impl Iterator<Item = &'a TreePath>) -> Option<&'a TreePath> {
        let ((highest, _), _) = self.rotation.first_key_value()?;
        let places = paths.filter_map(|path| match standing(self.trees.get(path)?, self.workers_per_tree)? {
            Standing::Now(place) => Some((place, path)),
            Standing::Soon(_) => None,
        });
        places.filter(|((priority, _), _)| priority == highest).min_by_key(|(place, _)| *place).map(|(_, path)| path)
    }

    /// Takes the next request of a tree that can be served, and counts it as
    /// active.
    pub fn pop(&mut self, path: &TreePath) -> Option<RequestId> {
        self.next_turn += 1;
        let turn = self.next_turn;
        self.change(path, |state| {
            let (_, request) = state.queue.pop_first()?;
            state.active += 1;
            state.last_turn = std::mem::replace(&mut state.turn, turn);
            Some(request)
        })?
    }

    /// Puts a request back to its place. Its tree was not served, and keeps its
    /// previous turn.
    pub fn put_back(&mut self, path: &TreePath, place: QueuePlace) {
        self.change(path, |state| {
            state.queue.insert(place, place.request);
            state.turn = state.last_turn;
        });
    }

    /// Changes a tree's state and updates the rotation. A tree without requests
    /// is forgotten.
    pub fn change<T>(&mut self, path: &TreePath, change: impl FnOnce(&mut TreeState) -> T) -> Option<T> {
        let state = self.trees.get_mut(path)?;
        match standing(state, self.workers_per_tree) {
            Some(Standing::Now(place)) => drop(self.rotation.remove(&place)),
            Some(Standing::Soon(place)) => drop(self.soon.remove(&place)),
            None => {}
        }
        let result = change(state);
        match standing(state, self.workers_per_tree) {
            Some(Standing::Now(place)) => drop(self.rotation.insert(place, path.clone())),
            Some(Standing::Soon(place)) => drop(self.soon.insert(place)),
            None if state.has_nothing_left() => {
                self.trees.remove(path);
            }
            None => {}
        }
        Some(result)
    }

    /// Empties all queues.
    pub fn drain(&mut self) {
        let paths: Vec<TreePath> = self.trees.keys().cloned().collect();
        for path in paths {
            self.change(&path, |state| state.queue.clear());
        }
    }
}

impl TreeState {
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a request is queued whose place is before this one.
    pub fn has_earlier(&self, place: QueuePlace) -> bool {
        self.queue.keys().next().is_some_and(|first| *first < place)
    }

    pub fn first(&self) -> Option<RequestId> {
        self.queue.values().next().copied()
    }

    fn has_nothing_left(&self) -> bool {
        self.queue.is_empty() && self.active == 0 && self.lock == LockState::Free && !self.is_preparing
    }
}

/// The place of a tree in the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Now(RotationPlace),
    /// Its place as soon as a worker that has answered is ready.
    Soon(RotationPlace),
}

/// `None` while the tree cannot be served.
fn standing(state: &TreeState, workers_per_tree: usize) -> Option<Standing> {
    let (first, _) = state.queue.first_key_value()?;
    let is_open = matches!(state.lock, LockState::Free | LockState::Held) && !state.is_preparing;
    let place = (first.priority, state.turn);
    if !is_open || state.active - state.sweeping >= workers_per_tree {
        None
    } else if state.active >= workers_per_tree {
        Some(Standing::Soon(place))
    } else {
        Some(Standing::Now(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tree(name: &str) -> TreePath {
        Path::new(name).into()
    }

    fn place(priority: i32, request: u64) -> QueuePlace {
        QueuePlace::new(priority, RequestId(request))
    }

    fn pop(trees: &mut Trees) -> Option<RequestId> {
        let first = trees.first().cloned()?;
        trees.pop(&first)
    }

    fn pop_all(trees: &mut Trees) -> Vec<u64> {
        std::iter::from_fn(|| {
            let request = pop(trees)?;
            for name in ["/a", "/b", "/c"] {
                trees.change(&tree(name), |state| state.active = 0);
            }
            Some(request.0)
        })
        .collect()
    }

    #[test]
    fn a_hot_tree_does_not_starve_the_others() {
        let mut trees = Trees::new(1);
        for request in 0..4 {
            trees.enqueue(&tree("/a"), place(0, request));
        }
        trees.enqueue(&tree("/b"), place(0, 10));
        trees.enqueue(&tree("/c"), place(0, 20));
        trees.enqueue(&tree("/c"), place(0, 21));
        assert_eq!(pop_all(&mut trees), [0, 10, 20, 1, 21, 2, 3]);
        assert!(trees.trees.is_empty() && trees.rotation.is_empty());
    }

    #[test]
    fn priorities_come_first_within_a_tree_and_between_trees() {
        let mut trees = Trees::new(1);
        trees.enqueue(&tree("/a"), place(0, 1));
        trees.enqueue(&tree("/a"), place(5, 2));
        trees.enqueue(&tree("/b"), place(1, 3));
        trees.enqueue(&tree("/c"), place(-1, 4));
        assert_eq!(pop_all(&mut trees), [2, 3, 1, 4]);
    }

    #[test]
    fn a_tree_whose_worker_is_about_to_be_ready_is_expected() {
        let mut trees = Trees::new(1);
        let (urgent, other) = (tree("/a"), tree("/b"));
        trees.enqueue(&urgent, place(5, 1));
        trees.enqueue(&urgent, place(5, 2));
        trees.enqueue(&other, place(0, 3));
        assert!(pop(&mut trees).is_some());
        // Its hook runs, for an unknown time.
        assert_eq!(trees.soon_before_first(), 0);
        trees.change(&urgent, |state| state.sweeping = 1);
        assert_eq!((trees.first(), trees.soon_before_first()), (Some(&other), 1));
        // The priority is not higher, so no tree waits for it.
        trees.enqueue(&other, place(5, 4));
        assert_eq!(trees.soon_before_first(), 0);
        trees.change(&urgent, |state| (state.active, state.sweeping) = (0, 0));
        assert_eq!((trees.first(), trees.soon_before_first()), (Some(&other), 0), "it was served longer ago");
    }

    #[test]
    fn one_hook_at_a_time_and_none_while_something_is_waited_for() {
        let mut trees = Trees::new(1);
        let one = tree("/a");
        trees.enqueue(&one, place(0, 1));
        trees.enqueue(&one, place(0, 2));
        assert!(pop(&mut trees).is_some());
        assert!(pop(&mut trees).is_none());
        trees.change(&one, |state| {
            state.active = 0;
            state.lock = LockState::Waiting;
        });
        assert!(pop(&mut trees).is_none());
        trees.change(&one, |state| {
            state.lock = LockState::Held;
            state.is_preparing = true;
        });
        assert!(pop(&mut trees).is_none());
        trees.change(&one, |state| state.is_preparing = false);
        assert_eq!(pop(&mut trees).unwrap(), RequestId(2));
    }

    #[test]
    fn a_tree_that_had_to_wait_keeps_its_turn() {
        let mut trees = Trees::new(1);
        for (name, request) in [("/a", 1), ("/b", 2), ("/a", 3)] {
            trees.enqueue(&tree(name), place(0, request));
        }
        assert_eq!(pop(&mut trees), Some(RequestId(1)));
        trees.put_back(&tree("/a"), place(0, 1));
        trees.change(&tree("/a"), |state| state.active = 0);
        assert_eq!(pop_all(&mut trees), [1, 2, 3]);
    }

    #[test]
    fn another_number_of_workers_per_tree_counts_at_once() {
        let mut trees = Trees::new(1);
        let one = tree("/a");
        for request in 1..=4 {
            trees.enqueue(&one, place(0, request));
        }
        assert!(pop(&mut trees).is_some());
        assert!(pop(&mut trees).is_none());
        trees.set_workers_per_tree(3);
        assert_eq!((pop(&mut trees), pop(&mut trees)), (Some(RequestId(2)), Some(RequestId(3))));
        trees.set_workers_per_tree(2);
        for (active, sweeping, expected) in
            [(3, 0, (false, 0)), (3, 1, (false, 0)), (3, 2, (false, 1)), (1, 0, (true, 0))]
        {
            trees.change(&one, |state| (state.active, state.sweeping) = (active, sweeping));
            assert_eq!((trees.first().is_some(), trees.soon.len()), expected, "{active} active, {sweeping} sweeping");
        }
    }

    #[test]
    fn what_was_cancelled_does_not_come() {
        let mut trees = Trees::new(1);
        trees.enqueue(&tree("/a"), place(0, 1));
        assert!(trees.dequeue(&tree("/a"), place(0, 1)));
        assert!(!trees.dequeue(&tree("/a"), place(0, 1)));
        assert!(pop(&mut trees).is_none());
    }
}
