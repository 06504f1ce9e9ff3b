//! The flags of the pool, the same in every command that has one.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum, value_parser};
use hookpool_supervisor::{QueueSize, Timeout};

use super::values::{count, count_or_zero, duration, duration_or_zero, file, folder, patience, queue_size, size};
use super::{CacheArguments, InterpreterArguments};

/// The pool.
///
/// Durations are written like `250ms`, `10s` or `1h30m`; sizes like `512M` or `1.5G`
/// (powers of 1024).
#[derive(Debug, Args)]
pub struct PoolArguments {
    #[command(flatten)]
    pub capacity: CapacityArguments,
    #[command(flatten)]
    pub hooks: HookArguments,
    #[command(flatten)]
    pub workers: WorkerArguments,
    #[command(flatten)]
    pub installer: InstallerArguments,
    #[command(flatten)]
    pub answers: AnswerArguments,
    #[command(flatten)]
    pub locations: LocationArguments,
    #[command(flatten)]
    pub report: ReportArguments,
}

/// The capacity of the pool.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capacity")]
pub struct CapacityArguments {
    /// The most hooks that run at the same time [default: the number of processors
    /// that this process may use].
    #[arg(short, long, value_name = "N", value_parser = count, env = "HOOKPOOL_JOBS")]
    pub jobs: Option<NonZeroUsize>,

    /// The most workers of all source trees together. At the limit, the idle worker
    /// of the least recently used tree is ended [default: 2 times --jobs, or
    /// 4 times with --isolation none].
    #[arg(long, value_name = "N", value_parser = count, env = "HOOKPOOL_MAX_WORKERS")]
    pub max_workers: Option<NonZeroUsize>,

    /// The most workers, and so concurrent hooks, of one source tree. Use more than one
    /// only with backends that support it: setuptools and pdm-backend do not.
    #[arg(
        long,
        value_name = "N",
        value_parser = count,
        default_value = "1",
        env = "HOOKPOOL_WORKERS_PER_TREE"
    )]
    pub workers_per_tree: NonZeroUsize,

    /// Whether hooks get a jobserver, with which the make, ninja and cargo of all hooks
    /// together start at most --jobs jobs.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, env = "HOOKPOOL_JOBSERVER")]
    pub jobserver: JobserverName,

    /// The most open requests. At the limit, standard input is not read.
    #[arg(long, value_name = "N", value_parser = queue_size, default_value = "4096", env = "HOOKPOOL_QUEUE_SIZE")]
    pub queue_size: QueueSize,
}

/// When hooks get a jobserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum JobserverName {
    /// Unless the make on PATH cannot use it: GNU make before 4.4 would stop with an
    /// error.
    #[default]
    Auto,
    /// Always; fail if the make on PATH cannot use it.
    On,
    /// Never.
    Off,
}

/// The limits of hooks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hooks")]
pub struct HookArguments {
    /// How long a hook may run, including the import of its backend but not the time in
    /// the queue; 0 means no limit. The `timeout` of a request overrides it.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "0",
        env = "HOOKPOOL_HOOK_TIMEOUT"
    )]
    pub hook_timeout: Duration,

    /// How long a hook may take to end after SIGTERM before it is killed; 0 kills it at
    /// once.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "10s",
        env = "HOOKPOOL_GRACE_PERIOD"
    )]
    pub grace_period: Duration,

    /// The memory that a hook and its descendants may use together; 0 means no limit. It
    /// is checked every 200ms, so a short peak may pass. Linux only.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", env = "HOOKPOOL_HOOK_MEMORY_LIMIT")]
    pub hook_memory_limit: u64,

    /// Kill processes that a hook has moved to a session of their own when the hook
    /// ends, not when hookpool ends.
    #[arg(long, env = "HOOKPOOL_KILL_DETACHED", value_parser = BoolishValueParser::new())]
    pub kill_detached: bool,

    /// How hooks are isolated from each other.
    #[arg(long, value_enum, value_name = "ISOLATION", default_value_t, env = "HOOKPOOL_ISOLATION")]
    pub isolation: IsolationName,
}

/// How hooks are isolated from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationName {
    /// Each hook runs in a process of its own.
    #[default]
    Hook,
    /// Hooks run in the worker itself and see the state that earlier hooks left. Gives
    /// wrong results with backends that keep global state, such as setuptools.
    None,
}

/// The life of workers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workers")]
pub struct WorkerArguments {
    /// How workers are started.
    #[arg(long, value_enum, value_name = "METHOD", default_value_t, env = "HOOKPOOL_START_METHOD")]
    pub start_method: StartMethodName,

    /// The most templates. At the limit, the least recently used one is ended.
    #[arg(long, value_name = "N", value_parser = count, default_value = "16", env = "HOOKPOOL_MAX_TEMPLATES")]
    pub max_templates: NonZeroUsize,

    /// Do not check before each hook whether the backend or its environment has changed.
    /// Changes take effect after SIGHUP only.
    #[arg(long, env = "HOOKPOOL_NO_FRESHNESS_CHECK", value_parser = BoolishValueParser::new())]
    pub no_freshness_check: bool,

    /// How long a worker may take to become ready, and a file system to respond; at
    /// least 100ms.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = patience,
        default_value = "60s",
        env = "HOOKPOOL_STARTUP_TIMEOUT"
    )]
    pub startup_timeout: Timeout,

    /// How long a request waits for a source tree that another process has locked; 0
    /// means forever.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "1h",
        env = "HOOKPOOL_LOCK_TIMEOUT"
    )]
    pub lock_timeout: Duration,

    /// How long a worker may be idle before it is ended.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", env = "HOOKPOOL_IDLE_TIMEOUT")]
    pub idle_timeout: Timeout,

    /// After how many requests a worker is replaced, up to 10 % earlier; 0 means never.
    #[arg(long, value_name = "N", value_parser = count_or_zero, default_value = "0", env = "HOOKPOOL_MAX_REQUESTS")]
    pub max_requests: u32,

    /// The age at which a worker is replaced, as soon as its hook has ended; 0 means
    /// never.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "0",
        env = "HOOKPOOL_MAX_LIFETIME"
    )]
    pub max_lifetime: Duration,

    /// How often the health of a worker is checked; with `--isolation none` only while it
    /// is idle.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "30s",
        env = "HOOKPOOL_HEALTH_INTERVAL"
    )]
    pub health_interval: Timeout,

    /// How long a worker may take to respond to the check, at least 100ms; one that does
    /// not is killed and replaced.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = patience,
        default_value = "10s",
        env = "HOOKPOOL_HEALTH_TIMEOUT"
    )]
    pub health_timeout: Timeout,

    /// How many workers of a source tree may fail within --restart-window. After that,
    /// requests for the tree fail immediately for as long as the window.
    #[arg(long, value_name = "N", value_parser = count_or_zero, default_value = "5", env = "HOOKPOOL_MAX_RESTARTS")]
    pub max_restarts: u32,

    /// The period in which --max-restarts applies.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "10s",
        env = "HOOKPOOL_RESTART_WINDOW"
    )]
    pub restart_window: Timeout,
}

/// How workers are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StartMethodName {
    /// A worker is forked from a template, a process that has already imported the
    /// backend; it is spawned if forking is not safe.
    #[cfg_attr(target_os = "linux", default)]
    Forkserver,
    /// A worker is a new interpreter.
    #[cfg_attr(not(target_os = "linux"), default)]
    Spawn,
}

/// How build environments are made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Build environments")]
pub struct InstallerArguments {
    /// The program that makes build environments.
    #[arg(long, value_enum, value_name = "INSTALLER", default_value_t, env = "HOOKPOOL_INSTALLER")]
    pub installer: InstallerName,

    /// How long an installer may take to make a build environment; 0 means no limit.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "1h",
        env = "HOOKPOOL_INSTALLER_TIMEOUT"
    )]
    pub installer_timeout: Duration,

    /// Resolve requirements with the package index again, and run all hooks again.
    /// Otherwise the last result for requirements is used for 24 hours, and answers are
    /// used as --answers says.
    #[arg(long, env = "HOOKPOOL_REFRESH", value_parser = BoolishValueParser::new())]
    pub refresh: bool,

    /// Use no network, only existing environments, however old, and the installer's own
    /// cache.
    #[arg(long, env = "HOOKPOOL_OFFLINE", value_parser = BoolishValueParser::new())]
    pub offline: bool,

    /// A constraints file, in pip's format, for the packages in build environments. May
    /// be given more than once.
    #[arg(long, value_name = "FILE", env = "HOOKPOOL_BUILD_CONSTRAINT")]
    pub build_constraint: Vec<PathBuf>,

    /// The package index. The installer's own variables and configuration files apply as
    /// well.
    #[arg(long, value_name = "URL", env = "HOOKPOOL_INDEX_URL")]
    pub index_url: Option<String>,

    /// A folder or page with distributions, in addition to the index. May be given more
    /// than once.
    #[arg(long, value_name = "PATH_OR_URL", env = "HOOKPOOL_FIND_LINKS")]
    pub find_links: Vec<String>,

    /// Use no package index, only --find-links.
    #[arg(long, env = "HOOKPOOL_NO_INDEX", value_parser = BoolishValueParser::new())]
    pub no_index: bool,
}

/// The program that makes build environments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InstallerName {
    /// uv if it is installed, unless only pip is configured (by `pip.conf` or variables)
    /// with sources of distributions; else pip.
    #[default]
    Auto,
    /// uv.
    Uv,
    /// The interpreter's own venv and pip.
    Pip,
}

/// Which answers of hooks are kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answers")]
pub struct AnswerArguments {
    /// Which answers of hooks are kept, and used again if nothing has changed that they
    /// depend on.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t, env = "HOOKPOOL_ANSWERS")]
    pub answers: AnswersName,

    /// The percentage of kept answers whose hooks run nevertheless, to compare the
    /// answers. A difference is a warning, and the new answer is used.
    #[arg(
        long,
        value_name = "PERCENT",
        value_parser = value_parser!(u8).range(0..=100),
        default_value = "0",
        env = "HOOKPOOL_VERIFY_ANSWERS"
    )]
    pub verify_answers: u8,

    /// A server that shares answers with other machines: bazel-remote, or one with WebDAV.
    /// It is not used with --offline, nor for single hooks (hookpool run): answers of source
    /// distributions are shared, and not those of trees.
    #[arg(long, value_name = "URL", env = "HOOKPOOL_ANSWERS_REMOTE")]
    pub answers_remote: Option<String>,

    /// What is done with the answers on that server. Whoever can write there decides what
    /// hooks return on the machines that read.
    #[arg(long, value_enum, value_name = "HOW", default_value_t, env = "HOOKPOOL_ANSWERS_REMOTE_ACCESS")]
    pub answers_remote_access: RemoteAccessName,

    /// A file with USER:PASSWORD or a bearer token for that server [default: what netrc has
    /// for its host].
    #[arg(long, value_name = "FILE", value_parser = file(), env = "HOOKPOOL_ANSWERS_REMOTE_CREDENTIALS")]
    pub answers_remote_credentials: Option<PathBuf>,

    /// Exit with code 1 if a kept answer was wrong (--verify-answers).
    #[arg(long, env = "HOOKPOOL_STRICT", value_parser = BoolishValueParser::new())]
    pub strict: bool,
}

/// What is done with the answers of a remote store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RemoteAccessName {
    /// They are used.
    #[default]
    Read,
    /// Those that are kept here are stored there.
    Write,
    /// Both.
    ReadWrite,
}

/// Which answers of hooks are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswersName {
    /// None.
    None,
    /// The metadata and the pure wheels of source distributions.
    #[default]
    Archives,
    /// Those of source trees, too.
    Trees,
    /// Wheels of source distributions with compiled code, too. They depend on headers and libraries of the
    /// system, whose changes are noticed only if its package manager made them.
    All,
}

/// The interpreter and the folders.
#[derive(Debug, Args)]
#[command(next_help_heading = "Interpreter and folders")]
pub struct LocationArguments {
    #[command(flatten)]
    pub interpreter: InterpreterArguments,

    /// Run hooks in the environment of --python, which must have the backends, and not
    /// in one made from the `build-system.requires` of the source tree.
    #[arg(long, env = "HOOKPOOL_NO_BUILD_ISOLATION", value_parser = BoolishValueParser::new())]
    pub no_build_isolation: bool,

    #[command(flatten)]
    pub cache: CacheArguments,

    /// The folder for the output of running hooks, which is kept in a private folder in
    /// it and removed at the end [default: the system's temporary folder].
    #[arg(long, value_name = "DIR", value_parser = folder(), env = "HOOKPOOL_CAPTURE_DIR")]
    pub capture_dir: Option<PathBuf>,
}

/// The report on the run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Report")]
pub struct ReportArguments {
    /// At the end, write an HTML page that shows where the time went: what each worker
    /// did when, how many hooks ran at the same time, and what each hook cost.
    #[arg(long, value_name = "FILE", value_parser = file(), env = "HOOKPOOL_TIMINGS")]
    pub timings: Option<PathBuf>,
}
