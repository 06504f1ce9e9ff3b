//! How long sources took in earlier runs, so that the longest can start first.
//!
//! A source that takes five minutes and starts last keeps the whole machine waiting.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::files::kept;
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_json};
use crate::frontend::{AnswerUse, HookRun};
use crate::source::Source;

/// How long the hooks of sources took in earlier runs, kept in the cache folder.
///
/// Only the order of a run depends on it. So nothing is locked: of two processes that save at
/// the same moment, one may lose its durations.
#[derive(Debug)]
pub struct Durations {
    file: PathBuf,
    before: HashMap<String, Noted>,
    now: HashMap<String, Noted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    milliseconds: u64,
    /// Seconds since 1970.
    at: u64,
}

impl Durations {
    /// The number of sources that are remembered. Of more, the oldest are forgotten.
    const MOST: usize = 5000;

    /// Reads the durations in the cache folder. There are none if the file is missing or
    /// damaged. Blocks.
    #[must_use]
    pub fn open(cache_folder: &Path) -> Self {
        let file = file_in(cache_folder);
        Self { before: read(&file), file, now: HashMap::new() }
    }

    /// Sorts sources for a command, for example `wheel`: first the unknown ones, then those that
    /// took longest. Sources that took about as long keep their order.
    pub fn longest_first<T>(&self, command: &str, sources: &mut [T], source: impl Fn(&T) -> Option<&Source>) {
        let rank = |item: &T| {
            let noted = source(item).and_then(|source| self.before.get(&key(command, source)));
            noted.map_or(u32::MAX, |noted| magnitude(noted.milliseconds))
        };
        sources.sort_by_key(|item| Reverse(rank(item)));
    }

    /// Notes how long the hooks of a source ran, without the time that they waited.
    pub fn note(&mut self, command: &str, source: &Source, hooks: &[HookRun]) {
        if !hooks.is_empty() && hooks.iter().all(|run| matches!(run.answer, AnswerUse::Used { .. })) {
            // What was noted when they ran still holds.
            return;
        }
        let took: Duration = hooks.iter().filter_map(|run| run.timing.hook).sum();
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.now.insert(key(command, source), Noted { milliseconds, at: seconds(SystemTime::now()) });
    }

    /// Saves what was noted, together with what other processes have saved since. Blocks.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(self) -> io::Result<()> {
        if self.now.is_empty() {
            return Ok(());
        }
        let mut all = read(&self.file);
        all.extend(self.now);
        let mut all: Vec<(String, Noted)> = all.into_iter().collect();
        all.sort_by_key(|(_, noted)| Reverse(noted.at));
        all.truncate(Self::MOST);
        write_json(&self.file, &all.into_iter().collect::<HashMap<String, Noted>>())
    }

    /// Removes durations that were noted before `unused_since`.
    pub(crate) fn prune(cache_folder: &Path, unused_since: SystemTime) -> io::Result<()> {
        let file = file_in(cache_folder);
        let mut all = read(&file);
        let count = all.len();
        all.retain(|_, noted| noted.at >= seconds(unused_since));
        match all.len() {
            0 => kept::remove(&file),
            left if left == count => Ok(()),
            _ => write_json(&file, &all),
        }
    }
}

/// Empty if the file is missing or damaged.
fn read(file: &Path) -> HashMap<String, Noted> {
    let mut all: HashMap<String, Noted> = read_json(file).unwrap_or_default();
    // Times in the future, from a clock that was wrong, must not stay the newest forever.
    let now = seconds(SystemTime::now());
    all.values_mut().for_each(|noted| noted.at = noted.at.min(now));
    all
}

fn file_in(cache_folder: &Path) -> PathBuf {
    cache_folder.join("durations.json")
}

/// A tree is known by its path; an archive by its file name, which has the version, because
/// each download may go to another folder.
fn key(command: &str, source: &Source) -> String {
    let path = match source {
        Source::Tree(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        Source::SourceArchive(path) | Source::Wheel(path) => PathBuf::from(path.file_name().unwrap_or_default()),
    };
    format!("{command} {}", path.display())
}

/// The same for durations of about the same length.
fn magnitude(milliseconds: u64) -> u32 {
    u64::BITS - milliseconds.leading_zeros()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> Source {
        Source::Tree(PathBuf::from("/trees").join(name))
    }

    fn noted(milliseconds: u64, at: u64) -> Noted {
        Noted { milliseconds, at }
    }

    fn order(durations: &Durations, command: &str, mut sources: Vec<Source>) -> Vec<Source> {
        durations.longest_first(command, &mut sources, |source| Some(source));
        sources
    }

    #[test]
    fn unknown_sources_come_first_and_then_the_longest() {
        let folder = tempfile::tempdir().unwrap();
        let mut durations = Durations::open(folder.path());
        for (name, took) in [("short", 40), ("long", 9000), ("also-short", 50)] {
            durations.before.insert(key("wheel", &tree(name)), noted(took, 0));
        }
        let names = ["short", "also-short", "new", "long"];
        let sources = || names.map(tree).to_vec();
        assert_eq!(order(&durations, "wheel", sources()), ["new", "long", "short", "also-short"].map(tree));
        assert_eq!(order(&durations, "metadata", sources()), sources(), "nothing is known for another command");
    }

    #[test]
    fn durations_are_saved_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let archive = |folder: &str| Source::SourceArchive(PathBuf::from(folder).join("a-1.tar.gz"));
        let (mut one, mut other) = (Durations::open(folder.path()), Durations::open(folder.path()));
        one.now.insert(key("wheel", &archive("/downloads")), noted(100, 5000));
        one.save().unwrap();
        other.now.insert(key("wheel", &tree("b")), noted(1, 1000));
        other.save().unwrap();
        let sources = || vec![tree("b"), archive("/elsewhere")];
        let ordered = || order(&Durations::open(folder.path()), "wheel", sources());
        assert_eq!(ordered(), [archive("/elsewhere"), tree("b")]);
        Durations::prune(folder.path(), UNIX_EPOCH + Duration::from_secs(2000)).unwrap();
        assert_eq!(ordered(), sources(), "the tree is unknown again");
        Durations::prune(folder.path(), SystemTime::now()).unwrap();
        assert!(!file_in(folder.path()).exists());
    }

    #[test]
    fn a_damaged_file_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(file_in(folder.path()), "{\"wheel a\": ").unwrap();
        let mut durations = Durations::open(folder.path());
        assert_eq!(order(&durations, "wheel", vec![tree("a"), tree("b")]), [tree("a"), tree("b")]);
        durations.now.insert("wheel c".into(), noted(1, 1));
        durations.save().unwrap();
        assert_eq!(Durations::open(folder.path()).before.len(), 1);
    }
}
