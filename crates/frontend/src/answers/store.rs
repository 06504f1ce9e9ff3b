//! The store of answers in the cache folder. Everything here blocks, as files do.
//!
//! ```text
//! answers/1/
//!   lock                   shared while something is written, exclusive while pruning removes
//!   entries/ab/KEY.json    an answer, or the variables that count besides those in the key
//!   files/ab/SHA256        the content of a file that a hook made
//!   sources/ab/SHA256.json what was read of an archive with this digest
//!   archives/ab/KEY.json   the digest of the archive at a path
//!   trees/ab/KEY.json      the state of the tree at a path
//!   tree-files/ab/KEY.json the digests of its files
//!   originals/ab/KEY.json  the state of a tree that hooks have made this one from
//!   verdicts/ab/KEY.json   what became of the answers about a source
//!   statistics.json        hits and misses of all runs
//!   statistics.lock        held while a run adds its own
//! ```
//!
//! A file gets its name when it is complete, and a reader compares it with a digest:
//! nothing is synchronised to the disk, since a file that a crash of the machine has
//! torn does not match its digest. An entry is written after the files that it names.
//!
//! Whatever fails here costs a run of the hook, and never an answer.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::files::{FolderError, LockFile, kept};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Entry, Files, KeptFile, Outcome, Output, Variables, key_of};
use super::digest::Digest;
use super::files::{FileStore, MadeFile, NotCopied, for_each_file, invalid};
use super::guard::NotKept;
use super::records::{Damaged, Records};
use super::remote::{Remote, RemoteAnswers, Upload, Uploads};
use super::statistics::AnswerStatistics;

/// The version of the layout and of the files' formats.
const FORMAT: &str = "1";

/// In bytes; of the digests of a tree's files. Some 250 000 files have fewer.
const LARGEST_TREE: u64 = 64 << 20;

/// After this time no further request is made for an answer.
const FETCH: Duration = Duration::from_secs(30);

/// How long the end of a run waits for the remote store.
const UPLOADS: Duration = Duration::from_secs(30);

/// The folder of the answers in a cache folder.
pub(super) fn root_in(cache_folder: &Path) -> PathBuf {
    cache_folder.join("answers").join(FORMAT)
}

/// The answers in a cache folder, for all threads of a run.
#[derive(Debug)]
pub(crate) struct AnswerStore {
    pub(super) root: PathBuf,
    pub(super) entries: Records,
    pub(super) sources: Records,
    pub(super) archives: Records,
    pub(super) trees: Records,
    pub(super) tree_files: Records,
    pub(super) originals: Records,
    pub(super) verdicts: Records,
    pub(super) files: FileStore,
    /// Whether only this user can have written what is there.
    is_safe: bool,
    remote: Option<Shared>,
    /// Of this run, since they were saved last.
    statistics: Mutex<AnswerStatistics>,
    warned: Once,
}

/// The remote store.
#[derive(Debug)]
struct Shared {
    remote: Arc<Remote>,
    uploads: Mutex<Uploads>,
}

/// What is known of sources, so that they need not be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// What was read of an archive, under the archive's digest.
    Source,
    /// The digest of an archive, under a digest of its path.
    Archive,
    /// The state of a tree, under a digest of its path.
    Tree,
    /// The digests of its files, under the same digest.
    TreeFiles,
    /// The state that hooks have made another one from, under the digest of that.
    Original,
    /// What became of the answers of a source's hooks, under a digest of the source.
    Verdict,
}

/// An answer that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The key at which it lies.
    at: Digest,
    pub answer: Answer,
}

/// What a hook answered, to be kept.
#[derive(Debug)]
pub(crate) struct NewAnswer {
    pub outcome: Outcome,
    /// The files and folders that it made. Each is kept with its own name.
    pub made: Vec<PathBuf>,
    pub stdout: Output,
    pub stderr: Output,
    /// How long the hook ran.
    pub hook_time: Duration,
    /// The folders of this machine that the hook was told of. An answer that names one of
    /// them is not shared, nor one that names the home folder or the cache folder.
    pub folders: Vec<PathBuf>,
}

/// Why the files of an answer are not in their place: the hook has to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRestored {
    /// The answer was removed.
    #[error("the kept answer cannot be used: {0}")]
    Damaged(String),
    /// The folder cannot be written to. The hook will tell.
    #[error("cannot write {path}: {source}", path = .path.display())]
    System { path: PathBuf, source: io::Error },
}

impl AnswerStore {
    /// The answers in a cache folder. If that cannot be written to, nothing is kept; if
    /// others can write to it, nothing in it is used.
    pub fn open(cache_folder: &Path) -> Self {
        let mut answers = Self::new(cache_folder);
        if let Err(error) = answers.make_folders() {
            tracing::warn!("no answers are kept: {error}");
            answers.is_safe = false;
        }
        answers
    }

    /// The same, without a look at the disk.
    pub(super) fn new(cache_folder: &Path) -> Self {
        let root = root_in(cache_folder);
        Self {
            entries: Records::new(&root, "entries"),
            sources: Records::new(&root, "sources"),
            archives: Records::new(&root, "archives"),
            trees: Records::new(&root, "trees"),
            tree_files: Records::of_size(&root, "tree-files", LARGEST_TREE),
            originals: Records::new(&root, "originals"),
            verdicts: Records::new(&root, "verdicts"),
            files: FileStore::new(&root),
            is_safe: true,
            remote: None,
            statistics: Mutex::default(),
            warned: Once::new(),
            root,
        }
    }

    fn make_folders(&self) -> Result<(), FolderError> {
        kept::folder(self.root.parent().unwrap_or(&self.root))?;
        kept::folder(&self.root)
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Shares answers with other machines. Those that are not here are looked for there,
    /// and what is kept here is stored there, in the background.
    #[must_use]
    pub fn shared_with(self, settings: RemoteAnswers) -> Self {
        self.shared_with_remote(Remote::new(settings))
    }

    pub(super) fn shared_with_remote(mut self, remote: Remote) -> Self {
        let remote = Arc::new(remote);
        let uploads = Mutex::new(Uploads::new(remote.clone(), self.entries.clone(), self.files.clone()));
        self.remote = Some(Shared { remote, uploads });
        self
    }

    /// The answer under a key, for the current values of variables that count besides
    /// those in the key, if it is kept here.
    pub fn find(&self, key: Digest, variable: impl Fn(&OsStr) -> Option<OsString>) -> Option<Found> {
        look_up(key, &variable, |key| self.entry(key)).map(|(found, _)| found)
    }

    /// The same, if it is kept in the remote store; from now on it is kept here, too. May
    /// take a minute.
    pub fn fetch(&self, key: Digest, variable: impl Fn(&OsStr) -> Option<OsString>) -> Option<Found> {
        let remote = &self.remote.as_ref()?.remote;
        let end = Instant::now() + FETCH;
        let entry = |key| (Instant::now() < end).then(|| remote.entry(&self.entries, key)).flatten();
        let (found, variables) = look_up(key, &variable, |key| remote.reads().then(|| entry(key)).flatten())?;
        self.take_over(remote, key, &variables, &found, end)?;
        Some(found)
    }

    /// Whether answers that are not here may be [fetched](Self::fetch).
    pub fn can_fetch(&self) -> bool {
        self.remote.as_ref().is_some_and(|shared| shared.remote.reads())
    }

    /// Keeps an answer of the remote store, if all its files are there and right.
    fn take_over(
        &self,
        remote: &Remote,
        key: Digest,
        variables: &Variables,
        found: &Found,
        end: Instant,
    ) -> Option<()> {
        let mut drafts = Vec::new();
        for file in found.answer.files.iter().filter(|file| !self.files.has(file)) {
            if Instant::now() >= end {
                tracing::debug!("the answer {key} of the remote store is not fetched: it takes too long");
                return None;
            }
            drafts.push((remote.file(&self.files, file)?, file.sha256));
        }
        let keep = || {
            // Not before: nothing can be pruned meanwhile.
            let _lock = self.lock_shared()?;
            drafts.into_iter().try_for_each(|(draft, sha256)| self.files.persist(draft, sha256))?;
            self.put(key, variables, found.answer.clone())
        };
        if let Err(error) = keep() {
            tracing::debug!("the answer {key} of the remote store is not kept: {error}");
            return None;
        }
        self.count(|statistics| statistics.remote_hits += 1);
        Some(())
    }

    fn entry(&self, key: Digest) -> Option<Entry> {
        self.get(&self.entries, key)
    }

    fn get<T: DeserializeOwned>(&self, records: &Records, key: Digest) -> Option<T> {
        if !self.is_safe {
            return None;
        }
        records.get(key).unwrap_or_else(|Damaged| {
            self.count(|statistics| statistics.damaged += 1);
            None
        })
    }

    /// Puts the wanted files of an answer into a folder, by their paths in it. After
    /// an error there is none of them.
    ///
    /// # Errors
    /// [`NotRestored`]: the hook has to run.
    pub fn restore(&self, found: &Found, into: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<(), NotRestored> {
        if found.answer.files.is_empty() {
            return Ok(());
        }
        self.copy(&found.answer.files, into, is_wanted).map_err(|error| match error {
            NotCopied::System { path, source } => NotRestored::System { path, source },
            NotCopied::Missing(sha256) | NotCopied::Damaged(sha256) => {
                // If its entry is gone, too, it was pruned meanwhile.
                if self.entries.path(found.at).exists() {
                    tracing::warn!("{error}, and so is its answer: the hook runs");
                    self.count(|statistics| statistics.damaged += 1);
                }
                self.entries.remove(found.at);
                self.files.remove(sha256);
                NotRestored::Damaged(error.to_string())
            }
        })
    }

    fn copy(&self, files: &Files, into: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<(), NotCopied> {
        let mut tops = BTreeSet::new();
        let copied = self.copy_each(files.iter().filter(|file| is_wanted(Path::new(&file.path))), into, &mut tops);
        if copied.is_err() {
            for top in tops {
                let _ = kept::remove(&into.join(top));
            }
        }
        copied
    }

    /// `tops`: what it made in the folder itself.
    fn copy_each<'a>(
        &self,
        files: impl Iterator<Item = &'a KeptFile>,
        into: &Path,
        tops: &mut BTreeSet<&'a OsStr>,
    ) -> Result<(), NotCopied> {
        let mut folders = HashSet::from([into.to_owned()]);
        for file in files {
            let path = Path::new(&file.path);
            let to = into.join(path);
            let system = |source| NotCopied::System { path: to.clone(), source };
            let Some(top) = path.iter().next() else { continue };
            if !tops.contains(top) {
                if into.join(top).symlink_metadata().is_ok() {
                    return Err(system(io::ErrorKind::AlreadyExists.into()));
                }
                tops.insert(top);
            }
            if let Some(parent) = to.parent()
                && !folders.contains(parent)
            {
                std::fs::create_dir_all(parent).map_err(system)?;
                folders.insert(parent.to_owned());
            }
            self.files.copy(file, &to)?;
        }
        Ok(())
    }

    /// Keeps the answer of a hook that read these variables besides those in the key, and
    /// if `is_shared`, stores it in the remote store, which nobody waits for but
    /// [`Self::finish`]. Returns the key at which it is kept.
    pub fn keep(&self, key: Digest, variables: &Variables, new: NewAnswer, is_shared: bool) -> Result<Digest, NotKept> {
        let folders = [new.folders.as_slice(), &self.own_folders()].concat();
        let answer = self.try_keep(key, variables, new).map_err(|error| match error.kind() {
            // Nothing is wrong with the disk.
            io::ErrorKind::InvalidData => NotKept::Files(error.to_string()),
            io::ErrorKind::WouldBlock => NotKept::Pruning,
            _ => {
                self.warned.call_once(|| tracing::warn!("answers are not kept: {error}"));
                NotKept::Store(error.to_string())
            }
        })?;
        self.count(|statistics| statistics.kept += 1);
        if let Some(shared) = self.remote.as_ref().filter(|_| is_shared) {
            let upload = Upload { key, variables: variables.clone(), answer, folders };
            shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).add(upload);
        }
        Ok(key_of(key, variables))
    }

    fn try_keep(&self, key: Digest, variables: &Variables, new: NewAnswer) -> io::Result<Answer> {
        let _lock = self.lock_shared()?;
        let mut files = Vec::new();
        for_each_file(&new.made, |MadeFile { path, file, executable }| {
            let (sha256, size) = self.files.add(file)?;
            files.push(KeptFile { path, executable, sha256, size });
            Ok(())
        })?;
        let answer = Answer {
            outcome: new.outcome,
            files: Files::try_from(files).map_err(invalid)?,
            stdout: new.stdout,
            stderr: new.stderr,
            hook_time: new.hook_time,
            made_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        self.put(key, variables, answer.clone())?;
        Ok(answer)
    }

    /// Removes an answer that was wrong.
    pub fn remove(&self, found: &Found) {
        self.entries.remove(found.at);
    }

    fn own_folders(&self) -> Vec<PathBuf> {
        let cache = self.root.ancestors().nth(2).map(Path::to_owned);
        cache.into_iter().chain(std::env::home_dir()).collect()
    }

    /// To be called with the lock, shared.
    fn put(&self, key: Digest, variables: &Variables, answer: Answer) -> io::Result<()> {
        if variables.is_empty() {
            return self.entries.put(key, &Entry::Answer(answer));
        }
        self.entries.put(key_of(key, variables), &Entry::Answer(answer))?;
        // If another process does the same at once, the set of one is lost, and so is
        // its answer.
        match Entry::with_variables(self.entry(key), variables.keys().cloned().collect()) {
            Some(entry) => self.entries.put(key, &entry),
            None => Ok(()),
        }
    }

    /// Keeps pruning away while something is written.
    fn lock_shared(&self) -> io::Result<LockFile> {
        if !self.is_safe {
            return Err(io::Error::other("others can write to the folder"));
        }
        let path = self.lock_path();
        if !path.exists() {
            // Nothing was ever kept, or somebody has removed the whole folder.
            self.make_folders().map_err(io::Error::other)?;
            drop(LockFile::shared(&path)?);
        }
        let lock = LockFile::try_shared(&path)?;
        lock.ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "another process prunes the cache"))
    }

    /// All kinds of small files.
    pub(super) fn all_records(&self) -> [&Records; 7] {
        let Self { entries, sources, archives, trees, tree_files, originals, verdicts, .. } = self;
        [entries, sources, archives, trees, tree_files, originals, verdicts]
    }

    /// What was noted under a digest.
    pub fn recall<T: DeserializeOwned>(&self, fact: Fact, key: Digest) -> Option<T> {
        self.get(self.records(fact), key)
    }

    /// Notes something, if it is not too long.
    pub fn note<T: Serialize>(&self, fact: Fact, key: Digest, value: &T) {
        let noted = self.lock_shared().and_then(|_lock| self.records(fact).put(key, value));
        if let Err(error) = noted {
            tracing::debug!("{:?} {key} is not noted: {error}", fact);
        }
    }

    fn records(&self, fact: Fact) -> &Records {
        match fact {
            Fact::Source => &self.sources,
            Fact::Archive => &self.archives,
            Fact::Tree => &self.trees,
            Fact::TreeFiles => &self.tree_files,
            Fact::Original => &self.originals,
            Fact::Verdict => &self.verdicts,
        }
    }

    /// Counts an answer that was not kept. There are few different reasons.
    pub fn count_not_kept(&self, reason: &NotKept) {
        self.count(|statistics| *statistics.not_kept.entry(reason.kind().to_owned()).or_default() += 1);
    }

    /// Counts something of this run.
    pub fn count(&self, count: impl FnOnce(&mut AnswerStatistics)) {
        count(&mut self.counted());
    }

    /// Ends a run: waits for answers on their way to other machines, half a minute at
    /// most, and adds what was counted to what all runs have counted.
    pub fn finish(&self) {
        if let Some(shared) = &self.remote {
            let stored = shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).finish(UPLOADS);
            self.count(|statistics| statistics.uploaded += stored);
        }
        self.save_statistics();
    }

    /// Adds what was counted since the last time to what all runs have counted.
    pub fn save_statistics(&self) {
        let of_this_run = std::mem::take(&mut *self.counted());
        let saved = match of_this_run.is_empty() {
            true => Ok(()),
            false => self.lock_shared().and_then(|_lock| of_this_run.save(&self.root)),
        };
        if let Err(error) = saved {
            tracing::debug!("the statistics of answers are not saved: {error}");
        }
    }

    /// What was counted since it was saved last.
    pub fn statistics(&self) -> AnswerStatistics {
        self.counted().clone()
    }

    fn counted(&self) -> MutexGuard<'_, AnswerStatistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer under a key, and the variables that its hook read.
fn look_up(
    key: Digest,
    variable: &impl Fn(&OsStr) -> Option<OsString>,
    entry: impl Fn(Digest) -> Option<Entry>,
) -> Option<(Found, Variables)> {
    let sets = match entry(key)? {
        Entry::Answer(answer) => return Some((Found { at: key, answer }, Variables::new())),
        Entry::Variables(sets) => sets,
    };
    sets.into_iter().find_map(|names| {
        let variables = names.into_iter().map(|name| (name.clone(), variable(name.as_ref()))).collect();
        let at = key_of(key, &variables);
        match entry(at)? {
            Entry::Answer(answer) => Some((Found { at, answer }, variables)),
            Entry::Variables(_) => None,
        }
    })
}
