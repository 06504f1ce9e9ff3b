//! The limits of a supervisor, as types that cannot hold an invalid value.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// A length of time after which something is given up: more than zero, at most
/// [`Timeout::MAX`].
///
/// "No limit" is `Option::<Timeout>::None`, never a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout(Duration);

/// A duration that is no [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no timeout: expected more than zero and at most {max} days", max = Timeout::MAX.as_secs() / 86_400)]
pub struct InvalidTimeout(pub Duration);

impl Timeout {
    /// The longest timeout, a year: points in time stay representable.
    pub const MAX: Duration = Duration::from_secs(365 * 86_400);

    /// Checks that `duration` is more than zero and at most [`Timeout::MAX`].
    ///
    /// # Errors
    /// [`InvalidTimeout`] with the duration otherwise.
    pub const fn new(duration: Duration) -> Result<Self, InvalidTimeout> {
        if duration.is_zero() || duration.as_nanos() > Self::MAX.as_nanos() {
            return Err(InvalidTimeout(duration));
        }
        Ok(Self(duration))
    }

    /// A timeout of whole seconds, for constants.
    ///
    /// # Panics
    /// When `seconds` is zero or more than [`Timeout::MAX`]; in a constant that
    /// is an error of the compiler.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        match Self::new(Duration::from_secs(seconds)) {
            Ok(timeout) => timeout,
            Err(_) => panic!("a timeout is more than zero and at most a year"),
        }
    }

    /// The time itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Timeout {
    type Error = InvalidTimeout;

    fn try_from(duration: Duration) -> Result<Self, InvalidTimeout> {
        Self::new(duration)
    }
}

/// How many requests may be unanswered at once: from 1 to [`QueueSize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSize(NonZeroUsize);

/// A number that is no [`QueueSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no queue size: expected 1 to {max}", max = QueueSize::MAX)]
pub struct InvalidQueueSize(pub usize);

impl QueueSize {
    /// The largest queue: its messages are allocated ahead.
    pub const MAX: usize = 1_000_000;

    /// Checks that `requests` is from 1 to [`QueueSize::MAX`].
    ///
    /// # Errors
    /// [`InvalidQueueSize`] with the number otherwise.
    pub const fn new(requests: usize) -> Result<Self, InvalidQueueSize> {
        match NonZeroUsize::new(requests) {
            Some(size) if requests <= Self::MAX => Ok(Self(size)),
            _ => Err(InvalidQueueSize(requests)),
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0.get()
    }
}

impl Default for QueueSize {
    fn default() -> Self {
        const DEFAULT: QueueSize = match QueueSize::new(4096) {
            Ok(size) => size,
            Err(_) => unreachable!(),
        };
        DEFAULT
    }
}

/// What a supervisor allows: how much at once, how long, how often.
///
/// Every field has a type that holds valid values only, so that a `Limits` is
/// right by construction. [`Limits::default`] fits the machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Hooks that run at once.
    pub jobs: NonZeroUsize,
    /// Live workers over all trees. Fewer than `jobs` bounds the hooks too.
    pub max_workers: NonZeroUsize,
    /// Workers, and so hooks at once, of one tree. More than one is for
    /// backends that are known to bear it: setuptools and pdm-backend do not.
    pub workers_per_tree: NonZeroUsize,
    /// Templates that fork; beyond it the least recently used is ended.
    pub max_templates: NonZeroUsize,
    /// Requests that are not answered yet.
    pub queue_size: QueueSize,
    /// After how long without a request a worker is recycled.
    pub idle_timeout: Option<Timeout>,
    /// After how many requests a worker is recycled, with 10 % jitter so that
    /// workers that started together are not replaced together.
    pub max_requests: Option<NonZeroU32>,
    /// After how long a worker is recycled, at the end of its hook.
    pub max_lifetime: Option<Timeout>,
    /// Bytes that a hook and its descendants may use, as the sum of their
    /// proportional set sizes (`smaps_rollup` in proc(5)). Linux only.
    pub hook_memory_limit: Option<NonZeroU64>,
    /// How long a hook may run, counted from its acceptance by the worker.
    pub hook_timeout: Option<Timeout>,
    /// How long a worker may take until it is ready, and a look at files of a
    /// source tree or an environment until it is done.
    pub startup_timeout: Timeout,
    /// How long another process may keep a tree locked while a request waits for
    /// it.
    pub lock_timeout: Option<Timeout>,
    /// How long a hook may take to end after the first signal; `None` means
    /// SIGKILL at once.
    pub grace_period: Option<Timeout>,
    /// How often an idle worker is asked for a sign of life.
    pub health_interval: Option<Timeout>,
    /// How long the answer may take.
    pub health_timeout: Timeout,
    /// How many workers of one pool may fail within `restart_window` before
    /// the pool is quarantined (restart intensity).
    pub max_restarts: u32,
    /// The time in which `max_restarts` counts, and the length of a quarantine.
    pub restart_window: Timeout,
}

impl Limits {
    /// The default limits for this number of hooks at once.
    #[must_use]
    pub fn for_jobs(jobs: NonZeroUsize) -> Self {
        const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();
        const SIXTEEN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
        Self {
            jobs,
            max_workers: jobs.saturating_mul(FOUR),
            workers_per_tree: NonZeroUsize::MIN,
            max_templates: SIXTEEN,
            queue_size: QueueSize::default(),
            idle_timeout: Some(Timeout::from_secs(60)),
            max_requests: None,
            max_lifetime: None,
            hook_memory_limit: None,
            hook_timeout: None,
            startup_timeout: Timeout::from_secs(60),
            lock_timeout: Some(Timeout::from_secs(60 * 60)),
            grace_period: Some(Timeout::from_secs(10)),
            health_interval: Some(Timeout::from_secs(30)),
            health_timeout: Timeout::from_secs(10),
            max_restarts: 5,
            restart_window: Timeout::from_secs(10),
        }
    }
}

impl Default for Limits {
    /// One hook at once for each processor that this process may use (control
    /// groups and affinity included).
    fn default() -> Self {
        Self::for_jobs(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}
