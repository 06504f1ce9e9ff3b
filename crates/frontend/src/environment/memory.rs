//! What this process remembers: the environments that it is finding or making,
//! and those that it has found.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, WeakShared};
use hookpool_supervisor::EnvironmentRequirements;

use super::error::EnvironmentError;
use super::handle::{Environment, InUse};

pub(super) type Outcome = Result<Arc<InUse>, EnvironmentError>;

/// What is known of a key.
pub(super) enum KeyState {
    /// The environment is being found or made. All who want it share the future,
    /// which is dropped when none of them is left.
    Pending(WeakShared<BoxFuture<'static, Outcome>>),
    Found(Remembered),
}

/// An environment that was found or made.
#[derive(Clone)]
pub(super) struct Remembered {
    pub in_use: Arc<InUse>,
    pub at: Instant,
    /// The number of the last use; later uses have higher numbers.
    last_use: u64,
}

/// Environments by the keys and by the requirements that lead to them.
#[derive(Default)]
pub(super) struct Memory {
    by_key: HashMap<String, KeyState>,
    by_requirements: HashMap<EnvironmentRequirements, Environment>,
    uses: u64,
}

impl Memory {
    /// The number of idle environments that are remembered: each has a lock and a
    /// list of its files. Of more, the least recently used are forgotten.
    const IDLE: usize = 16;

    pub fn get(&mut self, key: &str) -> Option<&KeyState> {
        self.uses += 1;
        let entry = self.by_key.get_mut(key)?;
        if let KeyState::Found(found) = entry {
            found.last_use = self.uses;
        }
        Some(entry)
    }

    pub fn set_pending(&mut self, key: String, future: WeakShared<BoxFuture<'static, Outcome>>) {
        self.by_key.insert(key, KeyState::Pending(future));
    }

    /// Remembers what came of a pending key: nothing if it failed. Returns what is
    /// forgotten instead, which may look at the disk when it is dropped.
    pub fn set_outcome(&mut self, key: String, outcome: &Outcome) -> Vec<Arc<InUse>> {
        let Ok(in_use) = outcome else {
            self.by_key.remove(&key);
            return Vec::new();
        };
        self.uses += 1;
        let found = Remembered { in_use: in_use.clone(), at: Instant::now(), last_use: self.uses };
        self.by_key.insert(key, KeyState::Found(found));
        self.forget_idle()
    }

    /// Remembers what requirements have led to.
    pub fn add(&mut self, requirements: &EnvironmentRequirements, environment: &Environment) {
        self.by_requirements.insert(requirements.clone(), environment.clone());
    }

    /// What requirements have led to.
    pub fn find(&mut self, requirements: &EnvironmentRequirements) -> Option<(Environment, Remembered)> {
        let environment = self.by_requirements.get(requirements)?.clone();
        match self.get(&environment.wanted.key)? {
            KeyState::Found(found) if Arc::ptr_eq(&found.in_use, &environment.in_use) => {
                Some((environment, found.clone()))
            }
            _ => None,
        }
    }

    /// The number of environments that are remembered.
    pub fn found(&self) -> usize {
        self.by_key.values().filter(|entry| matches!(entry, KeyState::Found(_))).count()
    }

    /// Forgets everything, and returns it.
    pub fn clear(&mut self) -> Vec<Arc<InUse>> {
        let by_requirements = std::mem::take(&mut self.by_requirements).into_values();
        let found = std::mem::take(&mut self.by_key).into_values().filter_map(|entry| match entry {
            KeyState::Found(found) => Some(found.in_use),
            KeyState::Pending(_) => None,
        });
        by_requirements.map(|environment| environment.in_use).chain(found).collect()
    }

    fn forget_idle(&mut self) -> Vec<Arc<InUse>> {
        let found = || {
            self.by_key.iter().filter_map(|(key, entry)| match entry {
                KeyState::Found(found) => Some((key, found)),
                KeyState::Pending(_) => None,
            })
        };
        // An environment is idle if all references to it are from here.
        let mut own_references: HashMap<*const InUse, usize> = HashMap::new();
        let by_requirements = self.by_requirements.values().map(|environment| &environment.in_use);
        for in_use in by_requirements.chain(found().map(|(_, found)| &found.in_use)) {
            *own_references.entry(Arc::as_ptr(in_use)).or_default() += 1;
        }
        let is_idle = |in_use: &Arc<InUse>| Arc::strong_count(in_use) <= own_references[&Arc::as_ptr(in_use)];
        let mut idle: Vec<(u64, String)> = found()
            .filter(|(_, found)| is_idle(&found.in_use))
            .map(|(key, found)| (found.last_use, key.clone()))
            .collect();
        idle.sort_unstable();
        let surplus = idle.len().saturating_sub(Self::IDLE);
        let mut forgotten = Vec::new();
        for (_, key) in idle.drain(..surplus) {
            if let Some(KeyState::Found(found)) = self.by_key.remove(&key) {
                forgotten.push(found.in_use);
            }
        }
        let without_key =
            self.by_requirements.extract_if(|_, environment| !self.by_key.contains_key(&environment.wanted.key));
        forgotten.extend(without_key.map(|(_, environment)| environment.in_use));
        forgotten
    }
}
