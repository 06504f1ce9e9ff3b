//! Whose turn it is: round-robin, but for trees whose worker would be evicted
//! between two of their requests.

use super::Scheduler;
use crate::request::RequestId;
use crate::tree::TreePath;

impl Scheduler {
    /// Takes the next request from its queue.
    ///
    /// With more trees than workers, strict round-robin would have each worker
    /// evicted before the next request of its tree: two hooks of a thousand
    /// trees, asked for at once, would start two thousand workers. So where a
    /// tree could only be served at the cost of another's worker, one that has
    /// an idle worker is served before it. Not twice in a row: nobody waits for
    /// more than twice as many as in strict turns.
    pub(super) fn next_request(&mut self) -> Option<RequestId> {
        let first = self.trees.first()?;
        let may_wait = !self.passed_over && self.needs_eviction(first);
        let warm = if may_wait { self.trees.first_equal(self.workers.trees_with_idle()) } else { None };
        let next = warm.unwrap_or(first).clone();
        self.passed_over = warm.is_some();
        self.trees.pop(&next)
    }

    /// Whether a request of this tree gets a worker only where another ends.
    fn needs_eviction(&self, path: &TreePath) -> bool {
        self.workers.live() >= self.limits.max_workers.get() && self.workers.idle_in(path).is_none()
    }
}
