//! Removing from the cache folder what was not used for a long time.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::files::{FolderError, private_folder};
use hookpool_supervisor::{Removed, prune_interpreters, prune_learned_modules, prune_worker_programs};

use crate::answers::{PrunedAnswers, prune_answers};
use crate::durations::Durations;
use crate::environment::{PrunedEnvironments, prune_environments};
use crate::frontend::LogFolder;
use crate::source_folder::{Sources, sweep};

/// What was removed from a cache folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Environments, including incomplete ones.
    pub environments: Removed,
    /// Distributions that no environment has.
    pub distributions: Removed,
    /// Resolutions whose environment is gone.
    pub resolutions: Removed,
    /// Answers of hooks, and what was read of sources.
    pub answers: Removed,
    /// Files that hooks made, and that no answer needs any more.
    pub files: Removed,
    /// Lists of modules to preload.
    pub learned: Removed,
    /// What interpreters have said of themselves.
    pub interpreters: Removed,
    /// Unpacked worker programs.
    pub programs: Removed,
    /// Logs of failed hooks.
    pub logs: Removed,
    /// Source distributions that were unpacked for builds.
    pub sources: Removed,
    /// The number of environments that stay because they are in use.
    pub in_use: usize,
    /// The number of other environments that stay.
    pub kept: usize,
}

impl Pruned {
    /// The disk space that was freed, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let environments = [self.environments, self.distributions, self.resolutions];
        let others =
            [self.answers, self.files, self.learned, self.interpreters, self.programs, self.logs, self.sources];
        environments.iter().chain(&others).map(|removed| removed.bytes).sum()
    }
}

/// Removes from a cache folder what was not used for `unused_for`, what is incomplete, and what
/// refers to something that is gone; nothing that a process uses. Of the rest, the answers that
/// were used longest ago go, until answers take at most `max_size` bytes. Blocks.
///
/// # Errors
/// The folder is not safe to use, or an operation failed after some things were removed.
pub fn prune(cache_folder: &Path, unused_for: Duration, max_size: Option<u64>) -> Result<Pruned, FolderError> {
    if !cache_folder.exists() {
        return Ok(Pruned::default());
    }
    private_folder(cache_folder)?;
    let unused_since = SystemTime::now().checked_sub(unused_for).unwrap_or(UNIX_EPOCH);
    let failed = |source| FolderError::System { path: cache_folder.to_owned(), source };
    let PrunedEnvironments { environments, distributions, resolutions, in_use, kept } =
        prune_environments(cache_folder, unused_since).map_err(failed)?;
    let PrunedAnswers { answers, files } = prune_answers(cache_folder, unused_since, max_size).map_err(failed)?;
    let learned = prune_learned_modules(cache_folder, unused_since).map_err(failed)?;
    let interpreters = prune_interpreters(cache_folder, unused_since).map_err(failed)?;
    let programs = prune_worker_programs(cache_folder, unused_since).map_err(failed)?;
    let logs = LogFolder::prune(cache_folder, unused_since).map_err(failed)?;
    let sources = sweep(Sources::in_cache(cache_folder).folder(), Some(unused_since)).map_err(failed)?;
    Durations::prune(cache_folder, unused_since).map_err(failed)?;
    Ok(Pruned {
        environments,
        distributions,
        resolutions,
        answers,
        files,
        learned,
        interpreters,
        programs,
        logs,
        sources,
        in_use,
        kept,
    })
}
