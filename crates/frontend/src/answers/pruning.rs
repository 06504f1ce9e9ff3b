//! Removing answers that were not used for a long time, or that take too much space.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::Removed;
use hookpool_supervisor::files::{LockFile, kept};
use serde_json::Value;
use walkdir::WalkDir;

use super::answer::Entry;
use super::digest::Digest;
use super::files::DRAFT;
use super::records::Records;
use super::statistics::{self, AnswerStatistics};
use super::store::AnswerStore;
use crate::files::disk_space;

/// What the answers in a cache folder take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswersUsage {
    /// The number of answers, and of the lists of variables that lead to some of them.
    pub answers: usize,
    /// The number of files that hooks made.
    pub files: usize,
    /// The disk space of all that is kept with them.
    pub bytes: u64,
}

/// Looks at the answers in a cache folder. Blocks.
#[must_use]
pub fn answers_usage(cache_folder: &Path) -> AnswersUsage {
    let answers = AnswerStore::new(cache_folder);
    AnswersUsage {
        answers: named_by_digest(answers.entries.folder()).len(),
        files: named_by_digest(answers.files.folder()).len(),
        bytes: disk_space(&answers.root),
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrunedAnswers {
    /// Answers, with what else is kept of sources.
    pub answers: Removed,
    /// Files that no answer needs, incomplete ones among them.
    pub files: Removed,
}

/// A record on the disk.
struct Kept {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
    files: Vec<Digest>,
}

/// Removes the answers that were not used since, and then those that were used longest
/// ago, until the rest takes at most `max_size` bytes; and what no answer needs. Blocks.
pub(crate) fn prune_answers(
    cache_folder: &Path,
    unused_since: SystemTime,
    max_size: Option<u64>,
) -> io::Result<PrunedAnswers> {
    let answers = AnswerStore::new(cache_folder);
    let mut pruned = PrunedAnswers::default();
    if !answers.root.is_dir() {
        return Ok(pruned);
    }
    // Nobody writes meanwhile: every file that no entry names is needed by none.
    let _lock = LockFile::exclusive(&answers.lock_path())?;
    let mut stays = Vec::new();
    for records in answers.all_records() {
        for (key, path) in named_by_digest(records.folder()) {
            let Some(kept) = look_at(records, key, path.clone()) else {
                remove(&path, &mut pruned.answers)?;
                continue;
            };
            if kept.used < unused_since { remove(&path, &mut pruned.answers)? } else { stays.push(kept) }
        }
    }
    let sizes: HashMap<Digest, (PathBuf, u64)> = named_by_digest(answers.files.folder())
        .into_iter()
        .map(|(sha256, path)| {
            let bytes = disk_space(&path);
            (sha256, (path, bytes))
        })
        .collect();
    if let Some(max_size) = max_size {
        for kept in too_much(&mut stays, |file| sizes.get(&file).map_or(0, |(_, bytes)| *bytes), max_size) {
            remove(&kept.path, &mut pruned.answers)?;
        }
    }
    let needed: HashSet<Digest> = stays.iter().flat_map(|kept| kept.files.iter().copied()).collect();
    for (_, (path, _)) in sizes.iter().filter(|(sha256, _)| !needed.contains(sha256)) {
        remove(path, &mut pruned.files)?;
    }
    sweep(&answers.root, &mut pruned.files)?;
    let saved = statistics::file_in(&answers.root).symlink_metadata().and_then(|metadata| metadata.modified());
    if saved.is_ok_and(|saved| saved < unused_since) {
        AnswerStatistics::remove(&answers.root)?;
    }
    Ok(pruned)
}

/// `None`: it is damaged, or was removed.
fn look_at(records: &Records, key: Digest, path: PathBuf) -> Option<Kept> {
    let metadata = path.symlink_metadata().ok()?;
    let files = match records.name {
        "entries" => match records.inspect::<Entry>(key)? {
            Entry::Answer(answer) => answer.files.iter().map(|file| file.sha256).collect(),
            Entry::Variables(_) => Vec::new(),
        },
        _ => {
            records.inspect::<Value>(key)?;
            Vec::new()
        }
    };
    let used = not_in_the_future(metadata.modified().ok()?);
    Some(Kept { path, used, bytes: std::os::unix::fs::MetadataExt::blocks(&metadata) * 512, files })
}

/// A time from a clock that was wrong must not stay the latest forever.
fn not_in_the_future(time: SystemTime) -> SystemTime {
    const TOLERANCE: Duration = Duration::from_secs(24 * 60 * 60);
    if time > SystemTime::now() + TOLERANCE { UNIX_EPOCH } else { time }
}

/// Takes those out that were used longest ago, until the rest takes at most so many bytes.
/// A file counts once, however many answers have it.
fn too_much(stays: &mut Vec<Kept>, size: impl Fn(Digest) -> u64, max_size: u64) -> Vec<Kept> {
    stays.sort_by_key(|kept| Reverse(kept.used));
    let (mut total, mut counted) = (0, HashSet::new());
    let fits = stays.iter().take_while(|kept| {
        let files = kept.files.iter().filter(|file| counted.insert(**file)).map(|file| size(*file));
        total += kept.bytes + files.sum::<u64>();
        total <= max_size
    });
    let fits = fits.count();
    stays.split_off(fits)
}

fn remove(path: &Path, removed: &mut Removed) -> io::Result<()> {
    let bytes = disk_space(path);
    kept::remove(path)?;
    *removed += Removed { count: 1, bytes };
    Ok(())
}

/// The files with the name of a digest in the place where such a file belongs.
fn named_by_digest(folder: &Path) -> Vec<(Digest, PathBuf)> {
    let entries = WalkDir::new(folder).min_depth(2).max_depth(2).into_iter().flatten();
    entries
        .filter_map(|entry| {
            let digest: Digest = entry.path().file_stem()?.to_str()?.parse().ok()?;
            let shard = entry.path().parent()?.file_name()?;
            (OsStr::new(&digest.to_string()[..2]) == shard).then(|| (digest, entry.into_path()))
        })
        .collect()
}

/// Removes what a process left that was killed while it wrote, and empty folders.
fn sweep(folder: &Path, removed: &mut Removed) -> io::Result<()> {
    for entry in WalkDir::new(folder).max_depth(3).contents_first(true).into_iter().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
            remove(entry.path(), removed)?;
        } else if entry.file_type().is_dir() && (1..3).contains(&entry.depth()) {
            // It is refused if there is something in it.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    Ok(())
}
