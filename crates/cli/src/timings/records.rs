//! What is kept of a run.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use hookpool_supervisor::{ErrorKind, Hook, StartMethod, Timing};

use crate::logging::printable;

/// A request that was answered. Times without a name of their own are from the
/// start of the run.
#[derive(Clone, Debug)]
pub struct HookRecord {
    /// Its place among the names of trees.
    pub tree: usize,
    pub hook: Hook,
    /// Its place among the workers.
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
    /// Its own number, as log messages have it.
    pub number: u64,
    /// The line of the chart.
    pub slot: usize,
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
    /// When it had learned, and how many modules it held then.
    pub learned: Vec<(Duration, usize)>,
    pub reason: Option<String>,
}

/// Something else that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub lane: String,
    pub name: String,
    pub start: Duration,
    pub end: Duration,
}

/// Names that are kept once.
#[derive(Debug, Default)]
pub struct Names {
    places: HashMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    /// The place of a path's name, as it can be shown: see [`printable`].
    pub fn place_of(&mut self, path: &Path) -> usize {
        let name = printable(&path.to_string_lossy());
        *self.places.entry(name).or_insert_with_key(|name| {
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
    fn a_name_is_kept_once_and_can_be_shown() {
        let mut names = Names::default();
        let places = ["/a", "/b\u{202e}\n", "/a"].map(|path| names.place_of(Path::new(path)));
        assert_eq!(places, [0, 1, 0]);
        assert_eq!(names.all(), ["/a", r"/b\u{202e}\n"]);
    }
}
