//! Waiting for a tree that another process has locked.
//!
//! Only a blocked thread can wait for `flock(2)`, and nothing can interrupt it.
//! So the lock is tried again whenever the locked file is closed, as its holder
//! does to release it (inotify(7)), and at growing intervals in any case, since
//! inotify does not see what other machines do on a network file system.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::holder::holder_of;
use super::tree::{OwnLocks, TreeLock, TryLock, stand_in, try_lock};
use crate::blocking::BlockingPool;
use crate::error::{ErrorKind, HookError, Setting};
use crate::event::Event;
use crate::limits::Timeout;
use crate::tree::{Tree, TreePath};

/// Waits for the locks of trees. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LockWaits {
    pool: BlockingPool,
    fallback_folder: Arc<PathBuf>,
    own: OwnLocks,
    closes: closes::Closes,
    /// The longest that a wait may take.
    limit: Option<Timeout>,
    /// Receives [`Event::TreeStillLocked`].
    notices: async_channel::Sender<Event>,
}

impl LockWaits {
    /// The first pause. inotify reports the close of a dying holder a moment
    /// before its lock is free.
    const SOON: Duration = Duration::from_millis(1);
    /// The longest pause after a close. Hooks close their tree's folder all the
    /// time, and so does each attempt.
    const OFTEN: Duration = Duration::from_millis(50);
    /// The longest pause without a close.
    const SELDOM: Duration = Duration::from_secs(1);

    /// The time after which subscribers are told who holds the lock.
    const LONG: Duration = Duration::from_secs(10);

    pub fn new(
        pool: BlockingPool,
        fallback_folder: Arc<PathBuf>,
        own: OwnLocks,
        limit: Option<Timeout>,
        notices: async_channel::Sender<Event>,
    ) -> Self {
        Self { pool, fallback_folder, own, closes: closes::Closes::new(), limit, notices }
    }

    /// Waits for the lock of the tree at this path. While it waits it holds
    /// neither a thread nor a descriptor; dropping it ends the wait.
    ///
    /// # Errors
    /// The tree is gone, its file system does not answer, or the time limit is
    /// exceeded.
    pub async fn wait(self, path: TreePath) -> Result<TreeLock, HookError> {
        let limit = self.limit.map(Timeout::get);
        let soon = limit.map_or(Self::LONG, |limit| limit.min(Self::LONG));
        let mut lock = std::pin::pin!(self.clone().lock(path.clone()));
        if let Ok(lock) = tokio::time::timeout(soon, &mut lock).await {
            return lock;
        }
        let rest = limit.map(|limit| limit - soon);
        if rest != Some(Duration::ZERO) {
            let holder = self.holder(&path).await;
            // The dispatcher receives it; it drops this wait before it ends.
            let _ = self.notices.send(Event::TreeStillLocked { tree: path.to_path_buf(), holder }).await;
        }
        let Some(rest) = rest else { return lock.await };
        match tokio::time::timeout(rest, lock).await {
            Ok(lock) => lock,
            Err(_) => Err(self.too_long(&path).await),
        }
    }

    async fn too_long(&self, path: &TreePath) -> HookError {
        let holder = self.holder(path).await.unwrap_or_else(|| "another process".into());
        let limit = self.limit.map_or(Duration::ZERO, Timeout::get);
        let message = format!("{}: {holder} has kept the tree locked for {} s", path.display(), limit.as_secs_f64());
        HookError::new(ErrorKind::SystemRefused, message).with_setting(Setting::LockTimeout)
    }

    async fn holder(&self, path: &TreePath) -> Option<String> {
        let (tree, fallback_folder) = (path.clone(), self.fallback_folder.clone());
        let look = move || {
            let stand_in = Tree::find(&tree).ok().map(|tree| stand_in(&tree, &fallback_folder));
            holder_of(&tree).or_else(|| holder_of(&stand_in?))
        };
        self.pool.run(&[path], move |_| look()).await.ok().flatten()
    }

    async fn lock(self, path: TreePath) -> Result<TreeLock, HookError> {
        let mut pause = Self::SOON;
        let mut rest = Self::SOON;
        let mut watch = None;
        loop {
            let (queue, own, fallback_folder) = (path.clone(), self.own.clone(), self.fallback_folder.clone());
            let attempt = move || try_lock(&Tree::find(&queue)?, &queue, &own, &fallback_folder);
            let locked = match self.pool.run(&[&path], move |_| attempt()).await? {
                Ok(TryLock::Locked(lock)) => return Ok(lock),
                Ok(TryLock::Busy(locked)) => locked,
                // Another path to the same tree was faster.
                Ok(TryLock::Ours(path)) => path.to_path_buf(),
                Err(error) => return Err(error),
            };
            if watch.is_none() {
                watch = self.closes.watch(&self.pool, &path, locked).await;
                if watch.is_some() {
                    // It may have been released before it was watched.
                    continue;
                }
            }
            let closed = async {
                match &mut watch {
                    Some(watch) => watch.closed().await,
                    None => std::future::pending().await,
                }
            };
            pause = match tokio::time::timeout(pause, closed).await {
                Ok(()) => {
                    tokio::time::sleep(rest).await;
                    rest = (2 * rest).min(Self::OFTEN);
                    pause
                }
                Err(_) => (2 * pause).min(Self::SELDOM),
            };
        }
    }
}

#[cfg(target_os = "linux")]
mod closes {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

    use futures_util::StreamExt;
    use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
    use tokio::sync::watch;
    use tokio::task::AbortHandle;

    use crate::blocking::BlockingPool;
    use crate::tree::TreePath;

    /// Reports when files are closed.
    #[derive(Clone)]
    pub(super) struct Closes {
        registry: Arc<Registry>,
    }

    struct Registry {
        /// With the task that reads events. `None`: inotify is not available,
        /// and locks are tried at intervals only.
        watches: OnceLock<Option<(Watches, AbortHandle)>>,
        /// Counts the events of each watch. Two paths of one folder share one.
        watched: Mutex<HashMap<WatchDescriptor, watch::Sender<u64>>>,
    }

    /// Watches a file until it is dropped.
    pub(super) struct Watch {
        registry: Arc<Registry>,
        descriptor: WatchDescriptor,
        told: watch::Receiver<u64>,
    }

    impl Closes {
        pub fn new() -> Self {
            Self { registry: Arc::new(Registry { watches: OnceLock::new(), watched: Mutex::default() }) }
        }

        /// Watches a file, where the system can.
        pub async fn watch(&self, pool: &BlockingPool, place: &TreePath, file: PathBuf) -> Option<Watch> {
            let (mut watches, _) = self.registry.watches.get_or_init(|| Registry::listen(&self.registry)).clone()?;
            // Adding a file again gives the same descriptor.
            let mut add = move || watches.add(&file, WatchMask::CLOSE).ok();
            let descriptor = pool.run(&[place], move |_| add()).await.ok()??;
            let told = self.registry.watched().entry(descriptor.clone()).or_default().subscribe();
            Some(Watch { registry: self.registry.clone(), descriptor, told })
        }
    }

    impl Registry {
        fn listen(registry: &Arc<Self>) -> Option<(Watches, AbortHandle)> {
            let inotify = Inotify::init().ok()?;
            let watches = inotify.watches();
            let mut events = inotify.into_event_stream([0; 4096]).ok()?;
            let registry = Arc::downgrade(registry);
            let task = tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    let (Ok(event), Some(registry)) = (event, registry.upgrade()) else { return };
                    if let Some(told) = registry.watched().get(&event.wd) {
                        told.send_modify(|count| *count += 1);
                    }
                }
            });
            Some((watches, task.abort_handle()))
        }

        fn watched(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, watch::Sender<u64>>> {
            self.watched.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Drop for Registry {
        fn drop(&mut self) {
            if let Some(Some((_, task))) = self.watches.get() {
                task.abort();
            }
        }
    }

    impl Watch {
        /// Waits until any process closes the file.
        pub async fn closed(&mut self) {
            // The sender lives as long as this watch.
            let _ = self.told.changed().await;
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            let mut watched = self.registry.watched();
            let is_last = watched.get(&self.descriptor).is_some_and(|told| told.receiver_count() <= 1);
            if is_last {
                watched.remove(&self.descriptor);
                if let Some(Some((watches, _))) = self.registry.watches.get() {
                    // The system has removed it already if the file was removed.
                    let _ = watches.clone().remove(self.descriptor.clone());
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod closes {
    use std::path::PathBuf;

    use crate::blocking::BlockingPool;
    use crate::tree::TreePath;

    #[derive(Clone)]
    pub(super) struct Closes;

    pub(super) struct Watch;

    impl Closes {
        pub fn new() -> Self {
            Self
        }

        #[expect(clippy::unused_async, reason = "as on Linux")]
        pub async fn watch(&self, _: &BlockingPool, _: &TreePath, _: PathBuf) -> Option<Watch> {
            None
        }
    }

    impl Watch {
        pub async fn closed(&mut self) {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree_path;

    fn waits(fallback_folder: PathBuf) -> LockWaits {
        limited(fallback_folder, None).0
    }

    fn limited(fallback_folder: PathBuf, limit: Option<Duration>) -> (LockWaits, async_channel::Receiver<Event>) {
        let (notices, told) = async_channel::bounded(8);
        let limit = limit.map(|limit| Timeout::new(limit).unwrap());
        let pool = BlockingPool::new(Duration::from_secs(10));
        (LockWaits::new(pool, Arc::new(fallback_folder), OwnLocks::default(), limit, notices), told)
    }

    /// Locks the tree as another process would.
    fn lock(path: &TreePath, fallback_folder: &std::path::Path) -> TreeLock {
        let tree = Tree::find(path).unwrap();
        match try_lock(&tree, path, &OwnLocks::default(), fallback_folder).unwrap() {
            TryLock::Locked(lock) => lock,
            TryLock::Ours(_) | TryLock::Busy(_) => panic!("the tree is free"),
        }
    }

    #[tokio::test]
    async fn a_waiter_gets_the_lock_when_the_holder_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let fallback = folder.path().join("locks");
        let path = tree_path(folder.path()).unwrap();
        let holder = lock(&path, &fallback);
        let id = holder.tree;
        let waits = waits(fallback);
        let [first, mut second] = [waits.clone(), waits.clone()].map(|waits| tokio::spawn(waits.wait(path.clone())));
        let given_up = tokio::spawn(waits.clone().wait(path));
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(!first.is_finished() && !second.is_finished());
        drop(holder);
        let lock = tokio::select! {
            lock = first => {
                drop(lock.unwrap().unwrap());
                second.await
            }
            lock = &mut second => lock,
        };
        assert_eq!(lock.unwrap().unwrap().tree, id);
    }

    #[tokio::test]
    async fn a_wait_that_takes_long_is_told_of_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let fallback = folder.path().join("locks");
        let path = tree_path(folder.path()).unwrap();
        let _holder = lock(&path, &fallback);
        let (waits, told) = limited(fallback.clone(), Some(Duration::from_millis(200)));
        let error = waits.wait(path.clone()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::SystemRefused);
        assert!(error.message.ends_with("has kept the tree locked for 0.2 s"), "{error:?}");
        assert!(told.is_empty());
        tokio::time::pause();
        let (waits, told) = limited(fallback, None);
        let waiter = tokio::spawn(waits.wait(path));
        let event = told.recv().await.unwrap();
        assert!(matches!(event, Event::TreeStillLocked { .. }), "{event:?}");
        waiter.abort();
    }

    #[tokio::test]
    async fn a_tree_that_is_gone_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fallback = crate::files::temporary_folder().join("unused");
        let path = tree_path(folder.path()).unwrap();
        let holder = lock(&path, &fallback);
        let waiter = tokio::spawn(waits(fallback).wait(path));
        tokio::task::yield_now().await;
        drop(folder);
        drop(holder);
        assert_eq!(waiter.await.unwrap().unwrap_err().kind, crate::error::ErrorKind::InvalidSource);
    }
}
