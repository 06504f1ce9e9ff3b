//! Whose turn it is: round-robin, but for trees whose worker would be evicted
//! between two of their requests.

use std::time::Duration;

use tokio::time::Instant;

use super::Scheduler;
use crate::request::RequestId;
use crate::tree::TreeId;

impl Scheduler {
    /// How long trees with an idle worker are served before the one whose turn
    /// it is. The end of a worker and the start of another take about 10 ms: a
    /// tenth of this.
    const PATIENCE: Duration = Duration::from_millis(100);

    /// Takes the next request from its queue.
    ///
    /// With more trees than workers, strict round-robin would have each worker
    /// evicted before the next request of its tree: two hooks of a thousand
    /// trees, asked for at once, would start two thousand workers. So where a
    /// tree could only be served at the cost of another's worker, those that
    /// have an idle one are served before it, for a while.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<RequestId> {
        let first = self.trees.first()?;
        let next = if self.needs_eviction(first) { self.warm_tree(first, now) } else { None };
        self.trees.pop(next.unwrap_or(first))
    }

    /// Whether a request of this tree gets a worker only where another ends.
    fn needs_eviction(&self, tree: TreeId) -> bool {
        self.workers.live() >= self.limits.max_workers.get()
            && !self.workers.trees_with_idle().any(|other| other == tree)
    }

    /// A tree that may be served before the one whose turn it is.
    fn warm_tree(&mut self, first: TreeId, now: Instant) -> Option<TreeId> {
        let warm = self.trees.first_equal(self.workers.trees_with_idle())?;
        let since = self.trees.change(first, |state| *state.passed_over.get_or_insert(now))?;
        (now - since < Self::PATIENCE).then_some(warm)
    }
}
