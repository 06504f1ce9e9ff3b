//! File access on a few threads, each piece of work with a time limit.
//!
//! A system call on a network mount that does not respond may block for ever. So
//! the event loop never accesses files, and a mount can block a few threads
//! only.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::error::{ErrorKind, HookError};

/// Why work has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unresponsive {
    /// The file system of this path has not responded in time.
    #[error("{path}: its file system has not responded for {:.1} s", after.as_secs_f64())]
    FileSystem { path: PathBuf, after: Duration },
    /// No thread could be started for work on this path.
    #[error("{path} cannot be read: no thread could be started: {reason}")]
    NoThread { path: PathBuf, reason: String },
}

impl Unresponsive {
    pub fn path(&self) -> &Path {
        match self {
            Self::FileSystem { path, .. } | Self::NoThread { path, .. } => path,
        }
    }
}

impl From<Unresponsive> for HookError {
    fn from(error: Unresponsive) -> Self {
        Self::new(ErrorKind::SystemRefused, error.to_string())
    }
}

/// The place that a piece of work has reached, which is blamed if it takes too
/// long.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicUsize);

impl Progress {
    /// The work accesses the place of this index from now on.
    pub fn enter(&self, place: usize) {
        self.0.store(place, Ordering::Relaxed);
    }
}

/// A pool of threads for file access. Cheap to clone.
///
/// It has [`THREADS`] for quick work, as all work is where the disk responds, and
/// up to [`SLOW_PER_MOUNT`] more for each mount that does not respond,
/// [`MOST_SLOW`] together. tokio's own pool takes twice the time to wake a
/// thread, which matters because every request comes through here.
///
/// [`THREADS`]: BlockingPool::THREADS
/// [`SLOW_PER_MOUNT`]: BlockingPool::SLOW_PER_MOUNT
/// [`MOST_SLOW`]: BlockingPool::MOST_SLOW
#[derive(Clone)]
pub(crate) struct BlockingPool {
    shared: Arc<PoolState>,
}

struct PoolState {
    limit: Duration,
    /// One permit for each thread of quick work.
    permits: Arc<Semaphore>,
    jobs: Arc<Jobs>,
    /// The mutex is held for a look-up only.
    slow: Mutex<Vec<Slow>>,
    /// The mounts that were probed. The mutex is held for a look-up only.
    probes: Mutex<HashMap<PathBuf, Probe>>,
    /// Notified when slow work has ended or a mount has responded.
    changed: Notify,
}

/// A system call that every mount that works responds to at once.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Asked,
    Answered(Instant),
}

/// Work that takes long, perhaps for ever.
#[derive(Debug)]
struct Slow {
    piece: usize,
    place: PathBuf,
    mount: PathBuf,
    since: Instant,
    is_overdue: bool,
}

type Job = Box<dyn FnOnce() + Send>;

/// The state of the threads. They are notified after it is unlocked, so that
/// they do not wait a second time.
#[derive(Default)]
struct Jobs {
    state: Mutex<JobState>,
    told: Condvar,
}

#[derive(Default)]
struct JobState {
    waiting: VecDeque<Job>,
    /// The number of threads that wait for a job.
    idle: usize,
    /// The pool was dropped.
    is_closed: bool,
}

/// A piece of work that a thread runs. Dropped when both the thread and the
/// caller have finished with it.
struct Piece {
    shared: Arc<PoolState>,
    progress: Progress,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// Counts work whose caller is dropped as slow, so that it takes no permit from
/// quick work.
struct Watched<'a> {
    piece: Option<Arc<Piece>>,
    places: &'a [&'a Path],
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let (Some(piece), Ok(runtime)) = (self.piece.take(), tokio::runtime::Handle::try_current()) else { return };
        let places: Vec<PathBuf> = self.places.iter().map(|place| (*place).to_owned()).collect();
        runtime.spawn(async move {
            let places: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
            piece.note_slow(&places).await;
        });
    }
}

impl std::fmt::Debug for BlockingPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BlockingPool").field("limit", &self.shared.limit).finish_non_exhaustive()
    }
}

impl BlockingPool {
    const THREADS: usize = 4;
    const SLOW_PER_MOUNT: usize = 8;
    const MOST_SLOW: usize = 64;
    /// How long the response of a mount counts.
    const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
    /// In bytes; enough for the parsers that run on these threads.
    const STACK: usize = 1 << 20;
    /// Work that takes longer returns its permit.
    const SLOW: Duration = Duration::from_millis(100);

    /// `limit` is the time limit of a piece of work.
    pub fn new(limit: Duration) -> Self {
        let shared = PoolState {
            limit,
            permits: Arc::new(Semaphore::new(Self::THREADS)),
            jobs: Arc::default(),
            slow: Mutex::default(),
            probes: Mutex::default(),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `work` on a thread. It accesses `places`, beginning with the first,
    /// and reports its progress.
    ///
    /// If the future is dropped, work that has begun goes on.
    ///
    /// # Errors
    /// [`Unresponsive`], after the time limit, or at once where earlier work at
    /// one of the places has exceeded it and still runs.
    pub async fn run<T: Send + 'static>(
        &self,
        places: &[&Path],
        work: impl FnOnce(&Progress) -> T + Send + 'static,
    ) -> Result<T, Unresponsive> {
        let began = Instant::now();
        let mut over = std::pin::pin!(running_time(self.shared.limit));
        let unresponsive = |place: usize| {
            let path = places.get(place).or(places.first()).map_or_else(PathBuf::new, |path| (*path).to_owned());
            Unresponsive::FileSystem { path, after: began.elapsed() }
        };
        self.admit(places, over.as_mut()).await?;
        let permit = tokio::select! {
            biased;
            permit = self.shared.permits.clone().acquire_owned() => permit.expect("the permits are never closed"),
            () = &mut over => return Err(unresponsive(0)),
        };
        let piece = Arc::new(Piece {
            shared: self.shared.clone(),
            progress: Progress::default(),
            permit: Mutex::new(Some(permit)),
        });
        let (reply, mut answer) = oneshot::channel();
        let mut watched = Watched { piece: Some(piece.clone()), places };
        let of_thread = piece.clone();
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&of_thread.progress)));
            drop(of_thread);
            let _ = reply.send(result);
        };
        self.give_to_thread(Box::new(job)).map_err(|error| {
            let path = places.first().map_or_else(PathBuf::new, |path| (*path).to_owned());
            Unresponsive::NoThread { path, reason: error.to_string() }
        })?;
        let result = match tokio::time::timeout(Self::SLOW, &mut answer).await {
            Ok(result) => result,
            Err(_) => {
                piece.note_slow(places).await;
                watched.piece = None;
                tokio::select! {
                    biased;
                    result = &mut answer => result,
                    () = &mut over => {
                        piece.note_overdue();
                        return Err(unresponsive(piece.progress.0.load(Ordering::Relaxed)));
                    }
                }
            }
        };
        watched.piece = None;
        match result {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => unreachable!("a thread always answers"),
        }
    }

    /// Whether all work is quick at present.
    pub fn is_responsive(&self) -> bool {
        self.shared.slow().is_empty()
    }

    fn give_to_thread(&self, job: Job) -> io::Result<()> {
        let jobs = &self.shared.jobs;
        {
            let mut state = jobs.state();
            if state.idle > state.waiting.len() {
                state.waiting.push_back(job);
                drop(state);
                jobs.told.notify_one();
                return Ok(());
            }
        }
        let jobs = jobs.clone();
        let thread = std::thread::Builder::new().name("hookpool-files".into()).stack_size(Self::STACK);
        thread.spawn(move || jobs.work(job)).map(drop)
    }

    /// Waits while the mounts of the places block as many threads as they may.
    async fn admit(&self, places: &[&Path], mut over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Unresponsive> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let slow = self.shared.slow();
                if slow.is_empty() {
                    return Ok(());
                }
                let overdue = slow.iter().find(|slow| slow.is_overdue && places.contains(&slow.place.as_path()));
                if let Some(overdue) = overdue {
                    let (path, after) = (overdue.place.clone(), overdue.since.elapsed());
                    return Err(Unresponsive::FileSystem { path, after });
                }
            }
            let mounts = mounts_of(places).await;
            let Some(mount) = mounts.into_iter().find(|mount| self.is_crowded(mount)) else { return Ok(()) };
            let began = Instant::now();
            tokio::select! {
                () = changed => {}
                () = &mut over => return Err(Unresponsive::FileSystem { path: mount, after: began.elapsed() }),
            }
        }
    }

    /// Whether no more work may begin at a mount. The mount is that of the path
    /// of the place, and a link may lead to another one; so a mount that
    /// responds is never crowded.
    fn is_crowded(&self, mount: &Path) -> bool {
        let (all, of_mount) = {
            let slow = self.shared.slow();
            (slow.len(), slow.iter().filter(|slow| slow.mount == *mount).count())
        };
        all >= Self::MOST_SLOW || (of_mount >= Self::SLOW_PER_MOUNT && !self.answers(mount))
    }

    /// Whether a mount has responded recently. If that is not known it is
    /// probed, by one thread at a time.
    fn answers(&self, mount: &Path) -> bool {
        let mut probes = self.shared.probes();
        match probes.get(mount) {
            Some(Probe::Answered(at)) if at.elapsed() < Self::SIGN_OF_LIFE => return true,
            Some(Probe::Asked) => return false,
            Some(Probe::Answered(_)) | None => {}
        }
        probes.insert(mount.to_owned(), Probe::Asked);
        drop(probes);
        let (of_thread, shared) = (mount.to_owned(), self.shared.clone());
        let ask = move || {
            // Unlike stat(2), statfs(2) is not answered from a cache of a network
            // mount. An error is a response too.
            let _ = nix::sys::statfs::statfs(&of_thread);
            shared.probes().insert(of_thread, Probe::Answered(Instant::now()));
            shared.changed.notify_waiters();
        };
        if self.give_to_thread(Box::new(ask)).is_err() {
            self.shared.probes().remove(mount);
        }
        false
    }
}

impl Jobs {
    /// Runs jobs on this thread, until enough other threads are idle, or the
    /// pool is dropped.
    fn work(&self, first: Job) {
        first();
        let mut state = self.state();
        loop {
            if state.is_closed || (state.waiting.is_empty() && state.idle >= BlockingPool::THREADS) {
                return;
            }
            state.idle += 1;
            while state.waiting.is_empty() && !state.is_closed {
                state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                job();
                state = self.state();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PoolState {
    fn drop(&mut self) {
        self.jobs.state().is_closed = true;
        self.jobs.told.notify_all();
    }
}

impl Piece {
    /// Returns its permit: its thread is no longer one for quick work.
    async fn note_slow(self: &Arc<Self>, places: &[&Path]) {
        let at = self.progress.0.load(Ordering::Relaxed);
        let place = places.get(at).or(places.first()).map_or(Path::new("/"), |place| place);
        let mount = mounts_of(&[place]).await.pop().unwrap_or_default();
        let slow = Slow {
            piece: self.number(),
            place: place.to_owned(),
            mount,
            since: Instant::now().checked_sub(BlockingPool::SLOW).unwrap_or_else(Instant::now),
            is_overdue: false,
        };
        self.shared.slow().push(slow);
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn note_overdue(self: &Arc<Self>) {
        let number = self.number();
        self.shared.slow().iter_mut().filter(|slow| slow.piece == number).for_each(|slow| slow.is_overdue = true);
    }

    /// Unique among the pieces that exist.
    fn number(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let number = std::ptr::from_ref(self) as usize;
        let mut slow = self.shared.slow();
        let before = slow.len();
        slow.retain(|slow| slow.piece != number);
        if slow.len() < before {
            self.shared.changed.notify_waiters();
        }
    }
}

impl PoolState {
    fn slow(&self) -> MutexGuard<'_, Vec<Slow>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probes(&self) -> MutexGuard<'_, HashMap<PathBuf, Probe>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps in short parts, so that a stop of this process (Ctrl-Z) shortens the
/// sleep by one part at most.
async fn running_time(limit: Duration) {
    const PARTS: u32 = 20;
    for _ in 0..PARTS {
        tokio::time::sleep(limit / PARTS).await;
    }
}

/// The mount points of these paths, by their names alone: a system call on the
/// paths themselves might block for ever.
async fn mounts_of(places: &[&Path]) -> Vec<PathBuf> {
    let places: Vec<PathBuf> = places.iter().map(|place| (*place).to_owned()).collect();
    let look = move || {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let points = mount_points(&table);
        places.iter().map(|place| mount_of(place, &points)).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// The fifth field of each line of `/proc/PID/mountinfo` (proc(5)), with octal
/// escapes such as `\040` for a blank.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let point = |line: &[u8]| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        let mut path = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, after)) = rest.split_first() {
            let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
            match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                Some(byte) => {
                    path.push(byte);
                    rest = &after[3..];
                }
                None => {
                    path.push(*first);
                    rest = after;
                }
            }
        }
        Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
    };
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

fn mount_of(place: &Path, points: &[PathBuf]) -> PathBuf {
    let holds = |point: &&PathBuf| place.starts_with(point);
    points.iter().filter(holds).max_by_key(|point| point.components().count()).cloned().unwrap_or_default()
}

/// Runs `work` on one of the runtime's threads for blocking work. If the future
/// is dropped, the work goes on. A panic of the work is propagated.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Work that ends when its sender is dropped.
    fn hanging() -> (mpsc::Sender<()>, impl FnOnce(&Progress) + Send + 'static) {
        let (sender, receiver) = mpsc::channel::<()>();
        (sender, move |progress: &Progress| {
            progress.enter(1);
            let _ = receiver.recv();
        })
    }

    #[tokio::test]
    async fn work_that_hangs_costs_its_place_and_nobody_else() {
        let pool = BlockingPool::new(Duration::from_millis(400));
        let (tree, library) = (Path::new("/tree"), Path::new("/library"));
        let (senders, hangs): (Vec<_>, Vec<_>) = (0..2 * BlockingPool::THREADS).map(|_| hanging()).unzip();
        let all = hangs.into_iter().map(|work| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(&[tree, library], work).await })
        });
        let all: Vec<_> = all.collect();
        // They block more threads than the pool has for quick work.
        assert_eq!(pool.run(&[Path::new("/other")], |_| 7).await.unwrap(), 7);
        for hung in all {
            let error = hung.await.unwrap().unwrap_err();
            assert_eq!(error.path(), library);
        }
        // This place is known to hang, and fails at once.
        let before = Instant::now();
        let error = pool.run(&[library], |_| ()).await.unwrap_err();
        assert!(before.elapsed() < Duration::from_millis(300), "{error}");
        drop(senders);
        while !pool.shared.slow().is_empty() {
            tokio::task::yield_now().await;
        }
        pool.run(&[library], |_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_mount_that_answers_is_not_blamed_for_what_hangs_elsewhere() {
        let pool = BlockingPool::new(Duration::from_secs(10));
        let folder = tempfile::tempdir().unwrap();
        // These could be links into a mount that hangs.
        let links: Vec<PathBuf> =
            (0..2 * BlockingPool::SLOW_PER_MOUNT).map(|number| folder.path().join(number.to_string())).collect();
        let (senders, hangs): (Vec<_>, Vec<_>) = links.iter().map(|_| hanging()).unzip();
        let all = links.into_iter().zip(hangs).map(|(link, work)| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(&[&link], work).await })
        });
        let all: Vec<_> = all.collect();
        while pool.shared.slow().len() < all.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(pool.run(&[folder.path()], |_| 7).await.unwrap(), 7);
        drop(senders);
        for hung in all {
            hung.await.unwrap().unwrap();
        }
    }

    #[test]
    fn mount_points_are_those_of_the_longest_name() {
        let table = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n36 22 0:31 / /mnt/a\\040b rw - nfs x rw\n\
                      37 22 0:32 / /mnt rw - tmpfs x rw\n";
        let points = mount_points(table);
        assert_eq!(mount_of(Path::new("/mnt/a b/tree"), &points), Path::new("/mnt/a b"));
        assert_eq!(mount_of(Path::new("/mnt/a"), &points), Path::new("/mnt"));
        assert_eq!(mount_of(Path::new("/mntx"), &points), Path::new("/"));
    }
}
