//! Counts of what became of answers, added up over all runs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookpool_supervisor::files::{LockFile, kept};
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_json};

/// What became of answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AnswerStatistics {
    /// Hooks that did not run, since their answers were kept.
    pub hits: u64,
    /// Hits that came from the remote store.
    pub remote_hits: u64,
    /// How long these hooks ran when their answers were made.
    pub saved: Duration,
    /// Hooks that ran, since there was no answer of them.
    pub misses: u64,
    /// Answers that were kept.
    pub kept: u64,
    /// Answers that were not kept, by reason.
    pub not_kept: BTreeMap<String, u64>,
    /// Answers that could not be used, since a file of theirs was damaged.
    pub damaged: u64,
    /// Hits whose hooks ran nevertheless, to compare the answers.
    pub verified: u64,
    /// Those of them whose answer was another one.
    pub mismatches: u64,
    /// Answers that were stored in the remote store.
    pub uploaded: u64,
}

impl AnswerStatistics {
    /// Of all runs so far. Blocks.
    #[must_use]
    pub fn read(cache_folder: &Path) -> Self {
        read_json(&file_in(&super::store::root_in(cache_folder))).unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.remote_hits += other.remote_hits;
        self.saved += other.saved;
        self.misses += other.misses;
        self.kept += other.kept;
        for (reason, count) in other.not_kept {
            *self.not_kept.entry(reason).or_default() += count;
        }
        self.damaged += other.damaged;
        self.verified += other.verified;
        self.mismatches += other.mismatches;
        self.uploaded += other.uploaded;
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds these to those on the disk. To be called with the lock of the store, shared.
    /// Blocks.
    pub(super) fn save(self, root: &Path) -> io::Result<()> {
        // Held for milliseconds.
        let _lock = LockFile::exclusive(&root.join("statistics.lock"))?;
        let file = file_in(root);
        let mut all: Self = read_json(&file).unwrap_or_default();
        all.add(self);
        write_json(&file, &all)
    }

    /// Forgets all of them. Blocks.
    pub(super) fn remove(root: &Path) -> io::Result<()> {
        kept::remove(&file_in(root))
    }
}

pub(super) fn file_in(root: &Path) -> PathBuf {
    root.join("statistics.json")
}
