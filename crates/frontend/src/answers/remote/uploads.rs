//! Answers on their way to the remote store, which nobody waits for but the end of the run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookpool_supervisor::files::{Links, open_regular_file};

use super::client::{Item, Remote};
use super::portable::Foreign;
use crate::answers::answer::{Answer, Entry, Variables, key_of};
use crate::answers::digest::Digest;
use crate::answers::files::FileStore;
use crate::answers::records::Records;

/// Each waits for the server most of the time.
const THREADS: usize = 4;

/// Of more, some are not stored: then they come faster than the server takes them.
const MOST: usize = 1000;

/// An answer that is to be stored.
#[derive(Debug)]
pub(crate) struct Upload {
    pub key: Digest,
    pub variables: Variables,
    pub answer: Answer,
    /// The folders of this machine that it must not name.
    pub folders: Vec<PathBuf>,
}

/// Stores answers in the background.
#[derive(Debug)]
pub(crate) struct Uploads {
    /// `None`: they have ended.
    sender: Option<SyncSender<Upload>>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
    context: Arc<Context>,
}

#[derive(Debug)]
struct Context {
    remote: Arc<Remote>,
    entries: Records,
    files: FileStore,
    /// Those that were taken and have not come to an end.
    open: AtomicU64,
    stored: AtomicU64,
}

impl Uploads {
    pub fn new(remote: Arc<Remote>, entries: Records, files: FileStore) -> Self {
        let context = Context { remote, entries, files, open: AtomicU64::new(0), stored: AtomicU64::new(0) };
        let context = Arc::new(context);
        let (sender, receiver) = mpsc::sync_channel(MOST);
        let receiver = Arc::new(Mutex::new(receiver));
        let (ending, ended) = mpsc::channel();
        for _ in 0..THREADS {
            let (context, receiver, ending) = (context.clone(), receiver.clone(), ending.clone());
            let work = move || {
                let next = || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(upload) = next() {
                    context.store(upload);
                    context.open.fetch_sub(1, Ordering::Relaxed);
                }
                drop(ending);
            };
            // Without threads nothing is taken, and nothing stored.
            let started = std::thread::Builder::new().name("answers to remote".to_owned()).spawn(work);
            if let Err(error) = started {
                tracing::debug!("no thread for the remote store: {error}");
            }
        }
        Self { sender: Some(sender), ended, context }
    }

    /// Takes an answer, to store it later.
    pub fn add(&self, upload: Upload) {
        if !self.context.remote.writes() {
            return;
        }
        self.context.open.fetch_add(1, Ordering::Relaxed);
        let taken = self.sender.as_ref().is_some_and(|sender| sender.try_send(upload).is_ok());
        if !taken {
            self.context.open.fetch_sub(1, Ordering::Relaxed);
            tracing::debug!("an answer is not stored in the remote store: too many wait");
        }
    }

    /// Waits until all are stored, as long as `bound`. Returns the number that were
    /// stored. Blocks.
    pub fn finish(&mut self, bound: Duration) -> u64 {
        drop(self.sender.take());
        let end = Instant::now() + bound;
        while let Ok(()) | Err(RecvTimeoutError::Timeout) =
            self.ended.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if Instant::now() >= end {
                let open = self.context.open.load(Ordering::Relaxed);
                tracing::warn!("{open} answers are not stored in the remote store: it is too slow");
                break;
            }
        }
        self.context.stored.swap(0, Ordering::Relaxed)
    }
}

impl Context {
    fn store(&self, upload: Upload) {
        if !self.remote.writes() {
            return;
        }
        let Upload { key, variables, answer, folders } = upload;
        let foreign = Foreign::new(folders.iter().map(PathBuf::as_path));
        let Some(answer) = foreign.without(&answer, &self.files) else {
            tracing::debug!("the answer {key} stays on this machine, since it names its folders");
            return;
        };
        let files_are_there = answer.files.iter().all(|file| {
            let item = Item::File(file.sha256);
            if self.remote.has(item) {
                return true;
            }
            let kept = open_regular_file(&self.files.path(file.sha256), Links::Refuse);
            // Damage must not spread.
            self.files.has(file) && kept.is_ok_and(|kept| self.remote.put_file(file.sha256, &kept))
        });
        let at = key_of(key, &variables);
        let mut is_stored = files_are_there && self.put(at, &Entry::Answer(answer));
        if is_stored && at != key {
            let before = self.remote.entry(&self.entries, key);
            is_stored = match Entry::with_variables(before, variables.keys().cloned().collect()) {
                Some(entry) => self.put(key, &entry),
                None => true,
            };
        }
        self.stored.fetch_add(u64::from(is_stored), Ordering::Relaxed);
    }

    fn put(&self, key: Digest, entry: &Entry) -> bool {
        // What was kept here is not too large.
        self.entries.render(key, entry).is_ok_and(|bytes| self.remote.put_entry(key, &bytes))
    }
}
