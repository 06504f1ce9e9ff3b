//! The flags of the pool, the same in every command that has one.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use hookpool_supervisor::{QueueSize, Timeout};

use super::values::{count, count_or_zero, duration, duration_or_zero, file, folder, patience, queue_size, size};
use super::{CacheArguments, InterpreterArguments};

/// The pool.
///
/// Durations are written `250ms`, `10s`, `5m`, `1h`; sizes `512M`, `2G`, in
/// powers of 1024.
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
    pub environment: EnvironmentArguments,
    #[command(flatten)]
    pub report: ReportArguments,
}

/// How much at once.
#[derive(Debug, Args)]
#[command(next_help_heading = "How much at once")]
pub struct CapacityArguments {
    /// Hooks that run at once [default: the processors that this process may
    /// use].
    #[arg(short, long, value_name = "N", value_parser = count, env = "HOOKPOOL_JOBS")]
    pub jobs: Option<NonZeroUsize>,

    /// Workers that live at once, over all source trees. The idle worker of
    /// the tree that was least recently used makes room [default: 4 times
    /// --jobs].
    #[arg(long, value_name = "N", value_parser = count, env = "HOOKPOOL_MAX_WORKERS")]
    pub max_workers: Option<NonZeroUsize>,

    /// Workers, and so hooks at once, of one source tree. More than one is for
    /// backends that are known to bear it: setuptools and pdm-backend do not.
    #[arg(
        long,
        value_name = "N",
        value_parser = count,
        default_value = "1",
        env = "HOOKPOOL_WORKERS_PER_TREE"
    )]
    pub workers_per_tree: NonZeroUsize,

    /// Whether the compilers and the like that hooks start share the
    /// processors: make, ninja and cargo then start as many jobs as --jobs
    /// leaves room for, all hooks together.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, env = "HOOKPOOL_JOBSERVER")]
    pub jobserver: JobserverName,

    /// Requests that may be unanswered at once. Beyond it standard input is
    /// not read.
    #[arg(long, value_name = "N", value_parser = queue_size, default_value = "4096", env = "HOOKPOOL_QUEUE_SIZE")]
    pub queue_size: QueueSize,
}

/// When hooks get a jobserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum JobserverName {
    /// Unless the make on PATH cannot use it: GNU make older than 4.4 would
    /// stop with an error.
    #[default]
    Auto,
    /// Always; where the make on PATH cannot use it, that is an error.
    On,
    /// Never.
    Off,
}

/// What hooks may do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hooks")]
pub struct HookArguments {
    /// How long a hook may run, the import of its backend included, waiting
    /// excluded; 0 means without limit. A request's own `timeout` goes first.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "0",
        env = "HOOKPOOL_HOOK_TIMEOUT"
    )]
    pub hook_timeout: Duration,

    /// How long a hook may take to end after SIGTERM; 0 means that it is killed
    /// at once.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "10s",
        env = "HOOKPOOL_GRACE_PERIOD"
    )]
    pub grace_period: Duration,

    /// The memory that a hook and its descendants may use together, looked at
    /// every 200ms, so that a short peak may pass; 0 means without limit. Linux
    /// only.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", env = "HOOKPOOL_HOOK_MEMORY_LIMIT")]
    pub hook_memory_limit: u64,

    /// Kill what a hook detached into a session of its own when the hook ends,
    /// instead of when hookpool ends.
    #[arg(long, env = "HOOKPOOL_KILL_DETACHED", value_parser = BoolishValueParser::new())]
    pub kill_detached: bool,

    /// What separates one hook from the next.
    #[arg(long, value_enum, value_name = "ISOLATION", default_value_t, env = "HOOKPOOL_ISOLATION")]
    pub isolation: IsolationName,
}

/// What separates one hook from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationName {
    /// Each hook runs in a process of its own.
    #[default]
    Hook,
    /// Hooks run in the worker itself and see what earlier ones left: wrong
    /// with backends that keep global state, such as setuptools.
    None,
}

/// The life of workers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workers")]
pub struct WorkerArguments {
    /// How workers are started.
    #[arg(long, value_enum, value_name = "METHOD", default_value_t, env = "HOOKPOOL_START_METHOD")]
    pub start_method: StartMethodName,

    /// Templates that are kept ready; beyond it the least recently used is
    /// ended.
    #[arg(long, value_name = "N", value_parser = count, default_value = "16", env = "HOOKPOOL_MAX_TEMPLATES")]
    pub max_templates: NonZeroUsize,

    /// Do not look, before each hook, whether the backend or its environment
    /// has changed. Changes are seen after SIGHUP only.
    #[arg(long, env = "HOOKPOOL_NO_FRESHNESS_CHECK", value_parser = BoolishValueParser::new())]
    pub no_freshness_check: bool,

    /// How long a worker may take until it is ready, and a file system to
    /// answer; at least 100ms.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = patience,
        default_value = "60s",
        env = "HOOKPOOL_STARTUP_TIMEOUT"
    )]
    pub startup_timeout: Timeout,

    /// How long another process may keep a source tree locked before a request
    /// that waits for it fails; 0 means for ever.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "1h",
        env = "HOOKPOOL_LOCK_TIMEOUT"
    )]
    pub lock_timeout: Duration,

    /// After how long without a request a worker is ended.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", env = "HOOKPOOL_IDLE_TIMEOUT")]
    pub idle_timeout: Timeout,

    /// After how many requests, up to 10 % fewer, a worker is replaced; 0
    /// means never.
    #[arg(long, value_name = "N", value_parser = count_or_zero, default_value = "0", env = "HOOKPOOL_MAX_REQUESTS")]
    pub max_requests: u32,

    /// After how long a worker is replaced, once its hook has ended; 0 means
    /// never.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "0",
        env = "HOOKPOOL_MAX_LIFETIME"
    )]
    pub max_lifetime: Duration,

    /// How often an idle worker is asked for a sign of life.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "30s",
        env = "HOOKPOOL_HEALTH_INTERVAL"
    )]
    pub health_interval: Timeout,

    /// How long that sign may take, at least 100ms; a worker without one is
    /// killed and replaced.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = patience,
        default_value = "10s",
        env = "HOOKPOOL_HEALTH_TIMEOUT"
    )]
    pub health_timeout: Timeout,

    /// How many workers of a source tree may fail within --restart-window.
    /// Beyond it the tree's requests fail at once, for as long as the window
    /// is.
    #[arg(long, value_name = "N", value_parser = count_or_zero, default_value = "5", env = "HOOKPOOL_MAX_RESTARTS")]
    pub max_restarts: u32,

    /// The time in which --max-restarts counts.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "10s",
        env = "HOOKPOOL_RESTART_WINDOW"
    )]
    pub restart_window: Timeout,
}

/// How workers come to life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StartMethodName {
    /// A worker is forked from a template, a process that has imported the
    /// backend already; where that is not safe, it is spawned.
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
    /// What makes build environments.
    #[arg(long, value_enum, value_name = "INSTALLER", default_value_t, env = "HOOKPOOL_INSTALLER")]
    pub installer: InstallerName,

    /// How long an installer may take for a build environment; 0 means as long as
    /// it wants.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "1h",
        env = "HOOKPOOL_INSTALLER_TIMEOUT"
    )]
    pub installer_timeout: Duration,

    /// Ask the package index anew what requirements resolve to. Otherwise the
    /// last answer is believed for 24 hours.
    #[arg(long, env = "HOOKPOOL_REFRESH", value_parser = BoolishValueParser::new())]
    pub refresh: bool,

    /// Use no network: environments that were made before, however long ago,
    /// and what the installer has in its own cache.
    #[arg(long, env = "HOOKPOOL_OFFLINE", value_parser = BoolishValueParser::new())]
    pub offline: bool,

    /// Constraints for what is installed into build environments, in the form
    /// of pip's constraints files. May be given more than once.
    #[arg(long, value_name = "FILE", env = "HOOKPOOL_BUILD_CONSTRAINT")]
    pub build_constraint: Vec<PathBuf>,

    /// The package index. The installer's own variables and configuration
    /// files are obeyed, too.
    #[arg(long, value_name = "URL", env = "HOOKPOOL_INDEX_URL")]
    pub index_url: Option<String>,

    /// A folder or page with distributions, beside the index. May be given
    /// more than once.
    #[arg(long, value_name = "PATH_OR_URL", env = "HOOKPOOL_FIND_LINKS")]
    pub find_links: Vec<String>,

    /// Ask no package index; look in --find-links only.
    #[arg(long, env = "HOOKPOOL_NO_INDEX", value_parser = BoolishValueParser::new())]
    pub no_index: bool,
}

/// What makes build environments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InstallerName {
    /// uv where it is found, unless only pip was told (by `pip.conf` or
    /// variables) where distributions are; else pip.
    #[default]
    Auto,
    /// uv.
    Uv,
    /// The interpreter's own venv and pip.
    Pip,
}

/// Where hooks run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Interpreter and folders")]
pub struct EnvironmentArguments {
    #[command(flatten)]
    pub interpreter: InterpreterArguments,

    /// Run hooks in the environment of --python as it is, instead of one made
    /// from the source tree's `build-system.requires`: the backends must be
    /// installed there.
    #[arg(long, env = "HOOKPOOL_NO_BUILD_ISOLATION", value_parser = BoolishValueParser::new())]
    pub no_build_isolation: bool,

    #[command(flatten)]
    pub cache: CacheArguments,

    /// Where hooks' output lies while they run, in a private folder that is
    /// removed at the end [default: the system's temporary folder].
    #[arg(long, value_name = "DIR", value_parser = folder(), env = "HOOKPOOL_CAPTURE_DIR")]
    pub capture_dir: Option<PathBuf>,
}

/// What is told of the run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Report")]
pub struct ReportArguments {
    /// Write a page that shows where the time went: what each worker did when,
    /// how many hooks ran at once, and what each hook cost. An HTML file that
    /// needs no others, written at the end.
    #[arg(long, value_name = "FILE", value_parser = file(), env = "HOOKPOOL_TIMINGS")]
    pub timings: Option<PathBuf>,
}
