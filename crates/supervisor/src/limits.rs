//! The limits of a supervisor, as types that cannot hold an invalid value.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::process::open_files::Capacity;
use crate::response::Isolation;

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
    /// The default of `max_workers`: with isolation `hook` an idle worker serves any
    /// tree with the same environment, so few are enough; with `none` it serves its
    /// own tree only.
    #[must_use]
    pub fn default_max_workers(jobs: NonZeroUsize, isolation: Isolation) -> NonZeroUsize {
        const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
        const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();
        jobs.saturating_mul(match isolation {
            Isolation::Hook => TWO,
            Isolation::None => FOUR,
        })
    }

    /// The default limits for this number of jobs, with isolation `hook`.
    #[must_use]
    pub fn for_jobs(jobs: NonZeroUsize) -> Self {
        const SIXTEEN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
        Self {
            jobs,
            max_workers: Self::default_max_workers(jobs, Isolation::default()),
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

/// A change of limits while a supervisor runs, by
/// [`Supervisor::change_limits`](crate::Supervisor::change_limits).
///
/// `None` leaves a limit as it is, and `Some(None)` removes it.
///
/// The other limits cannot change: `startup_timeout`, `lock_timeout`,
/// `health_interval` and `health_timeout` are those of waits that have begun, in
/// every part of the supervisor, and `max_restarts` and `restart_window` those that
/// failures were counted by. They depend on the machine, not on the load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// Running hooks end first; waiting requests start at once. At most
    /// `max_workers`.
    pub jobs: Option<NonZeroUsize>,
    /// Idle workers are ended now, others after their hook. If it is less than
    /// `jobs`, that becomes the same.
    pub max_workers: Option<NonZeroUsize>,
    /// Running hooks end first.
    pub workers_per_tree: Option<NonZeroUsize>,
    /// The least recently used templates are ended, after their workers.
    pub max_templates: Option<NonZeroUsize>,
    /// Admitted requests stay.
    pub queue_size: Option<QueueSize>,
    /// Of all workers.
    pub idle_timeout: Option<Option<Timeout>>,
    /// Of all workers.
    pub max_requests: Option<Option<NonZeroU32>>,
    /// Of all workers.
    pub max_lifetime: Option<Option<Timeout>>,
    /// Of hooks that start from now on.
    pub hook_memory_limit: Option<Option<NonZeroU64>>,
    /// Of hooks that start from now on.
    pub hook_timeout: Option<Option<Timeout>>,
    /// Of hooks and programs that start from now on.
    pub grace_period: Option<Option<Timeout>>,
}

/// Why limits were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// Each running hook needs a worker.
    #[error("{jobs} jobs need {jobs} workers, and at most {max_workers} may live: expected 1 to {max_workers} jobs")]
    TooManyJobs {
        /// The number that was wanted.
        jobs: usize,
        /// [`Limits::max_workers`].
        max_workers: usize,
    },
    /// The limit of open files is too low.
    #[error(
        "{max_workers} workers need more files than the {open_files} that may be open: expected 1 to {most} workers"
    )]
    TooManyWorkers {
        /// The number that was wanted.
        max_workers: usize,
        /// The number that is possible, with these jobs and templates.
        most: usize,
        /// The limit of open files.
        open_files: u64,
    },
    /// The limit of open files is too low.
    #[error(
        "{max_templates} templates need more files than the {open_files} that may be open: expected 1 to {most} \
         templates"
    )]
    TooManyTemplates {
        /// The number that was wanted.
        max_templates: usize,
        /// The number that is possible.
        most: usize,
        /// The limit of open files.
        open_files: u64,
    },
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
}

impl Limits {
    /// The limits after a change. `capacity` is asked only if the number of
    /// processes may grow.
    pub(crate) fn changed(
        &self,
        change: &LimitsChange,
        capacity: impl FnOnce(&Self) -> Option<Capacity>,
    ) -> Result<Self, LimitsError> {
        let mut limits = self.clone();
        let LimitsChange { jobs, max_workers, workers_per_tree, max_templates, queue_size, .. } = *change;
        limits.jobs = jobs.unwrap_or(limits.jobs);
        limits.max_workers = max_workers.unwrap_or(limits.max_workers);
        limits.workers_per_tree = workers_per_tree.unwrap_or(limits.workers_per_tree);
        limits.max_templates = max_templates.unwrap_or(limits.max_templates);
        limits.queue_size = queue_size.unwrap_or(limits.queue_size);
        let LimitsChange { idle_timeout, max_requests, max_lifetime, .. } = *change;
        limits.idle_timeout = idle_timeout.unwrap_or(limits.idle_timeout);
        limits.max_requests = max_requests.unwrap_or(limits.max_requests);
        limits.max_lifetime = max_lifetime.unwrap_or(limits.max_lifetime);
        let LimitsChange { hook_memory_limit, hook_timeout, grace_period, .. } = *change;
        limits.hook_memory_limit = hook_memory_limit.unwrap_or(limits.hook_memory_limit);
        limits.hook_timeout = hook_timeout.unwrap_or(limits.hook_timeout);
        limits.grace_period = grace_period.unwrap_or(limits.grace_period);
        if jobs.is_some_and(|jobs| jobs > limits.max_workers) {
            let (jobs, max_workers) = (limits.jobs.get(), limits.max_workers.get());
            return Err(LimitsError::TooManyJobs { jobs, max_workers });
        }
        limits.jobs = limits.jobs.min(limits.max_workers);
        let grows = limits.jobs > self.jobs
            || limits.max_workers > self.max_workers
            || limits.max_templates > self.max_templates;
        if let Some(Capacity { templates, workers, open_files }) = grows.then(|| capacity(&limits)).flatten() {
            let (max_templates, max_workers) = (limits.max_templates.get(), limits.max_workers.get());
            if templates < max_templates {
                return Err(LimitsError::TooManyTemplates { max_templates, most: templates, open_files });
            }
            if workers < max_workers {
                return Err(LimitsError::TooManyWorkers { max_workers, most: workers, open_files });
            }
        }
        Ok(limits)
    }
}

impl Default for Limits {
    /// One job for each processor that control groups and affinity allow this
    /// process to use.
    fn default() -> Self {
        Self::for_jobs(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: usize) -> Option<NonZeroUsize> {
        Some(NonZeroUsize::new(number).unwrap())
    }

    #[test]
    fn a_change_is_possible_or_says_why_not() {
        let limits = Limits { max_workers: number(8).unwrap(), ..Limits::for_jobs(number(4).unwrap()) };
        let nothing = LimitsChange::default;
        let capacity = |_: &Limits| Some(Capacity { templates: 20, workers: 10, open_files: 1024 });
        let too_many_workers = LimitsError::TooManyWorkers { max_workers: 11, most: 10, open_files: 1024 };
        let cases = [
            (nothing(), Ok((4, 8))),
            (LimitsChange { jobs: number(8), ..nothing() }, Ok((8, 8))),
            (LimitsChange { jobs: number(1), ..nothing() }, Ok((1, 8))),
            (LimitsChange { max_workers: number(2), ..nothing() }, Ok((2, 2))),
            (LimitsChange { max_workers: number(10), ..nothing() }, Ok((4, 10))),
            (LimitsChange { jobs: number(10), max_workers: number(10), ..nothing() }, Ok((10, 10))),
            (LimitsChange { jobs: number(9), ..nothing() }, Err(LimitsError::TooManyJobs { jobs: 9, max_workers: 8 })),
            (
                LimitsChange { jobs: number(3), max_workers: number(2), ..nothing() },
                Err(LimitsError::TooManyJobs { jobs: 3, max_workers: 2 }),
            ),
            (LimitsChange { max_workers: number(11), ..nothing() }, Err(too_many_workers)),
            (
                LimitsChange { max_templates: number(21), ..nothing() },
                Err(LimitsError::TooManyTemplates { max_templates: 21, most: 20, open_files: 1024 }),
            ),
        ];
        for (change, expected) in cases {
            let found = limits.changed(&change, capacity);
            let found = found.map(|limits| (limits.jobs.get(), limits.max_workers.get()));
            assert_eq!(found, expected, "{change:?}");
        }
    }

    #[test]
    fn what_is_not_named_stays_and_no_limit_can_be_set() {
        let limits = Limits { hook_timeout: Some(Timeout::from_secs(5)), ..Limits::default() };
        let none = |_: &Limits| None;
        assert_eq!(limits.changed(&LimitsChange::default(), none), Ok(limits.clone()));
        let change = LimitsChange { hook_timeout: Some(None), ..LimitsChange::default() };
        let expected = Limits { hook_timeout: None, ..limits.clone() };
        assert_eq!(limits.changed(&change, none), Ok(expected));
        let memory = NonZeroU64::new(1 << 30);
        let change =
            LimitsChange { hook_memory_limit: Some(memory), grace_period: Some(None), ..LimitsChange::default() };
        let expected = Limits { hook_memory_limit: memory, grace_period: None, ..limits.clone() };
        assert_eq!(limits.changed(&change, none), Ok(expected));
    }
}
