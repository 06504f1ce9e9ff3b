//! Lines of the chart: each worker has one as long as it lives, and the next
//! one may have it after that.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Numbers from 0 on, each used by one owner at a time, the lowest first.
#[derive(Debug)]
pub struct Slots<Owner> {
    used: HashMap<Owner, usize>,
    free: BTreeSet<usize>,
}

impl<Owner> Default for Slots<Owner> {
    fn default() -> Self {
        Self { used: HashMap::new(), free: BTreeSet::new() }
    }
}

impl<Owner: Eq + Hash> Slots<Owner> {
    /// A number for a new owner.
    pub fn take(&mut self, owner: Owner) -> usize {
        // As many numbers are known as are used and free together.
        let slot = self.free.pop_first().unwrap_or(self.used.len());
        self.used.insert(owner, slot);
        slot
    }

    /// This owner is gone.
    pub fn release(&mut self, owner: &Owner) {
        if let Some(slot) = self.used.remove(owner) {
            self.free.insert(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_that_is_free() {
        let mut slots = Slots::default();
        assert_eq!([slots.take('a'), slots.take('b'), slots.take('c')], [0, 1, 2]);
        slots.release(&'b');
        slots.release(&'a');
        slots.release(&'x');
        assert_eq!([slots.take('d'), slots.take('e'), slots.take('f')], [0, 1, 3]);
    }
}
