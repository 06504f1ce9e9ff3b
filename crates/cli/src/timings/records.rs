//! The records of a run.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use hookpool_supervisor::{ErrorKind, Hook, StartMethod, Timing};

use crate::format::printable;

/// A request that was answered. All times are since the start of the run, except
/// those in `timing`.
#[derive(Clone, Debug)]
pub struct HookRecord {
    pub request: Key,
    /// Its index in the names of trees.
    pub tree: usize,
    pub hook: Hook,
    /// Its index in the workers.
    pub worker: Option<usize>,
    pub queued: Duration,
    pub accepted: Option<Duration>,
    pub finished: Duration,
    pub timing: Timing,
    pub error: Option<ErrorKind>,
}

/// A worker.
#[derive(Clone, Debug)]
pub struct WorkerRecord {
    /// The number that log messages use.
    pub number: u64,
    /// The line in the chart.
    pub slot: usize,
    /// The one for which it was started. It may have been moved to others.
    pub tree: usize,
    pub generation: u64,
    pub start_method: StartMethod,
    pub pid: Option<u32>,
    pub start: Duration,
    pub ready: Option<Duration>,
    pub end: Option<Duration>,
    /// Why it ended.
    pub reason: Option<String>,
}

/// A template.
#[derive(Clone, Debug)]
pub struct TemplateRecord {
    pub number: u64,
    pub slot: usize,
    pub backend: Option<String>,
    pub start: Duration,
    pub ready: Option<Duration>,
    pub end: Option<Duration>,
    /// When it had imported more modules, and their number.
    pub learned: Vec<(Duration, usize)>,
    pub reason: Option<String>,
}

/// Anything else that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub lane: String,
    pub name: String,
    pub start: Duration,
    pub end: Duration,
}

/// The number of a request, worker or template, and that of its supervisor.
pub type Key = (u32, u64);

/// The records of things that live for a while: workers or templates.
#[derive(Debug)]
pub struct Lives<Record> {
    pub records: Vec<Record>,
    /// The indices of those that are alive.
    alive: HashMap<Key, usize>,
    /// The lines of the chart. A line is used again after the end of its owner.
    slots: HashMap<Key, usize>,
    free_slots: BTreeSet<usize>,
}

impl<Record> Default for Lives<Record> {
    fn default() -> Self {
        Self { records: Vec::new(), alive: HashMap::new(), slots: HashMap::new(), free_slots: BTreeSet::new() }
    }
}

impl<Record> Lives<Record> {
    /// Adds the record that `record` makes for a line of the chart, the first free one.
    pub fn begin(&mut self, key: Key, record: impl FnOnce(usize) -> Record) {
        let slot = self.free_slots.pop_first().unwrap_or(self.slots.len());
        self.slots.insert(key, slot);
        self.alive.insert(key, self.records.len());
        self.records.push(record(slot));
    }

    /// The index of a record, while its owner is alive.
    pub fn index_of(&self, key: Key) -> Option<usize> {
        self.alive.get(&key).copied()
    }

    /// Changes a record, while its owner is alive.
    pub fn change(&mut self, key: Key, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.index_of(key).and_then(|index| self.records.get_mut(index)) {
            change(record);
        }
    }

    /// Changes a record for the last time.
    pub fn end(&mut self, key: Key, change: impl FnOnce(&mut Record)) {
        self.change(key, change);
        self.alive.remove(&key);
        self.free_slots.extend(self.slots.remove(&key));
    }
}

/// Names, each stored once.
#[derive(Debug, Default)]
pub struct Names {
    indices: HashMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    /// The index of the [`printable`] name of a path.
    pub fn index_of(&mut self, path: &Path) -> usize {
        self.add(printable(&path.to_string_lossy()))
    }

    /// The index of a printable name.
    pub fn add(&mut self, name: String) -> usize {
        *self.indices.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }

    pub fn all(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_line_is_used() {
        let mut lives = Lives::default();
        let begin = |lives: &mut Lives<usize>, numbers: [u64; 3]| {
            numbers.map(|number| {
                lives.begin((0, number), |slot| slot);
                *lives.records.last().unwrap()
            })
        };
        assert_eq!(begin(&mut lives, [1, 2, 3]), [0, 1, 2]);
        for number in [2, 1, 7] {
            lives.end((0, number), |_| ());
        }
        assert_eq!(begin(&mut lives, [4, 5, 6]), [0, 1, 3]);
    }

    #[test]
    fn a_name_is_stored_once_and_is_printable() {
        let mut names = Names::default();
        let indices = ["/a", "/b\u{202e}\n", "/a"].map(|path| names.index_of(Path::new(path)));
        assert_eq!(indices, [0, 1, 0]);
        assert_eq!(names.all(), ["/a", r"/b\u{202e}\n"]);
    }
}
