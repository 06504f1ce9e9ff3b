//! The limits of a supervisor, as types that cannot hold an invalid value.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A time limit: more than zero, at most [`Timeout::MAX`].
///
/// "No limit" is `Option::<Timeout>::None`, never a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout(Duration);

/// A duration that is not valid as a [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid timeout: expected more than zero and at most {max} days", max = Timeout::MAX.as_secs() / 86_400)]
pub struct InvalidTimeout(pub Duration);

impl Timeout {
    /// The longest timeout, a year, so that points in time are representable.
    pub const MAX: Duration = Duration::from_secs(365 * 86_400);

    /// Checks that `duration` is more than zero and at most [`Timeout::MAX`].
    ///
    /// # Errors
    /// [`InvalidTimeout`].
    pub const fn new(duration: Duration) -> Result<Self, InvalidTimeout> {
        if duration.is_zero() || duration.as_nanos() > Self::MAX.as_nanos() {
            return Err(InvalidTimeout(duration));
        }
        Ok(Self(duration))
    }

    /// A timeout of whole seconds, for constants.
    ///
    /// # Panics
    /// When `seconds` is zero or more than [`Timeout::MAX`]. In a constant this
    /// is a compile-time error.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        match Self::new(Duration::from_secs(seconds)) {
            Ok(timeout) => timeout,
            Err(_) => panic!("a timeout is more than zero and at most a year"),
        }
    }

    /// The duration.
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

/// In milliseconds.
impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::json::milliseconds(&self.0, serializer)
    }
}

/// The number of requests that may be unanswered at once, from 1 to
/// [`QueueSize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QueueSize(NonZeroUsize);

/// A number that is not valid as a [`QueueSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a valid queue size: expected 1 to {max}", max = QueueSize::MAX)]
pub struct InvalidQueueSize(pub usize);

impl QueueSize {
    /// The largest queue. The dispatcher's channel has room for all of it.
    pub const MAX: usize = 1_000_000;

    /// Checks that `requests` is from 1 to [`QueueSize::MAX`].
    ///
    /// # Errors
    /// [`InvalidQueueSize`].
    pub const fn new(requests: usize) -> Result<Self, InvalidQueueSize> {
        match NonZeroUsize::new(requests) {
            Some(size) if requests <= Self::MAX => Ok(Self(size)),
            _ => Err(InvalidQueueSize(requests)),
        }
    }

    /// The number.
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

/// The limits of a supervisor: numbers, sizes and times.
///
/// The type of each field holds valid values only. [`Limits::default`] depends
/// on the number of processors.
///
/// They serialize with times as milliseconds (`idle_timeout_ms`), and null for no
/// limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The number of hooks that run at once.
    pub jobs: NonZeroUsize,
    /// The number of live workers of all trees. If it is less than `jobs`, it
    /// limits the hooks too.
    pub max_workers: NonZeroUsize,
    /// The number of workers of one tree, and so of hooks at once in it. More
    /// than one is for backends that support it; setuptools and pdm-backend do
    /// not.
    pub workers_per_tree: NonZeroUsize,
    /// The number of templates that fork. When another is needed, the least
    /// recently used one is ended.
    pub max_templates: NonZeroUsize,
    /// The number of requests without an answer.
    pub queue_size: QueueSize,
    /// A worker without a request is ended after this time.
    #[serde(rename = "idle_timeout_ms")]
    pub idle_timeout: Option<Timeout>,
    /// A worker is replaced after this number of requests, less up to 10 % of
    /// jitter, so that workers that started together are not replaced together.
    pub max_requests: Option<NonZeroU32>,
    /// A worker of this age is replaced at the end of its hook.
    #[serde(rename = "max_lifetime_ms")]
    pub max_lifetime: Option<Timeout>,
    /// The memory that a hook and its descendants may use, in bytes: the sum of
    /// their proportional set sizes (`smaps_rollup` in proc(5)). Linux only.
    pub hook_memory_limit: Option<NonZeroU64>,
    /// How long a hook may run after the worker has accepted it.
    #[serde(rename = "hook_timeout_ms")]
    pub hook_timeout: Option<Timeout>,
    /// How long the start of a worker may take, and each piece of work on the
    /// files of a source tree or an environment.
    #[serde(rename = "startup_timeout_ms")]
    pub startup_timeout: Timeout,
    /// How long a request waits for a tree that another process has locked.
    #[serde(rename = "lock_timeout_ms")]
    pub lock_timeout: Option<Timeout>,
    /// How long a hook may take to end after the first signal; `None` means
    /// SIGKILL at once.
    #[serde(rename = "grace_period_ms")]
    pub grace_period: Option<Timeout>,
    /// The interval between the health checks of a worker.
    #[serde(rename = "health_interval_ms")]
    pub health_interval: Option<Timeout>,
    /// How long a worker may take to answer a health check.
    #[serde(rename = "health_timeout_ms")]
    pub health_timeout: Timeout,
    /// The number of workers of one pool that may fail within `restart_window`
    /// before the pool is quarantined.
    pub max_restarts: u32,
    /// The period in which failures are counted, and the length of a
    /// quarantine.
    #[serde(rename = "restart_window_ms")]
    pub restart_window: Timeout,
}

impl Limits {
    /// The default limits for this number of jobs.
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
    /// One job for each processor that control groups and affinity allow this
    /// process to use.
    fn default() -> Self {
        Self::for_jobs(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}
