//! The arguments of the commands for those who run a service.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use hookpool_supervisor::QueueSize;

use super::CacheArguments;
use super::values::{count, count_or_zero, duration_or_zero, queue_size, size};

/// Where the service listens.
#[derive(Debug, Args)]
pub struct SocketArguments {
    /// Where the service listens [default: `hookpool/hookpool.sock` in $XDG_RUNTIME_DIR,
    /// else `service/hookpool.sock` in the cache folder].
    #[arg(long, value_name = "PATH", env = "HOOKPOOL_SOCKET")]
    pub socket: Option<PathBuf>,

    #[command(flatten)]
    pub cache: CacheArguments,
}

/// Shows what a service has and does
///
/// Its requests, workers, templates and build environments, and the source trees whose
/// workers failed too often, with the reason.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it was shown, 2 wrong usage, 3 no service answers.")]
pub struct StatusArguments {
    /// The format: a page for a person, or the JSON of /v1/status.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: StatusFormat,

    #[command(flatten)]
    pub place: SocketArguments,
}

/// The format of the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// A page.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// Shows what a service does, live, in the terminal
///
/// Keys: ↑ and ↓ select a request, x cancels it; s changes the order, / filters by tree,
/// hook, phase or caller; d admits no new work, or admits it again; + and - change the
/// number of jobs; q quits.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 quit, 2 wrong usage, or not in a terminal, 3 no service answers.")]
pub struct TopArguments {
    #[command(flatten)]
    pub place: SocketArguments,
}

/// Controls a service
///
/// No command loses a request, except for `cancel`, whose request is answered with an
/// error.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 the service refused it, 2 wrong usage, 3 no service answers.")]
pub struct ControlArguments {
    #[command(subcommand)]
    pub command: ControlCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Admits no new work; what was admitted is finished.
    Drain(DrainArguments),
    /// Admits new work again.
    Resume(SocketArguments),
    /// Changes limits. Hooks beyond a lower limit run to their end.
    Resize(ResizeArguments),
    /// Replaces workers and templates: idle ones now, others after their hook.
    Restart(RestartArguments),
    /// Cancels requests. Their hooks are ended.
    Cancel(CancelArguments),
    /// Writes what the hook of a request has written so far.
    Log(LogOfRequestArguments),
}

/// The arguments of `hookpool ctl drain`.
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// End the service when its work is done, however long that takes.
    #[arg(long)]
    pub exit: bool,

    #[command(flatten)]
    pub place: SocketArguments,
}

/// The arguments of `hookpool ctl resize`. They have no variables: those are for the
/// start of a pool.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("limits").required(true).multiple(true).args([
    "jobs", "max_workers", "workers_per_tree", "max_templates", "queue_size", "idle_timeout", "max_requests",
    "max_lifetime", "hook_memory_limit", "hook_timeout", "grace_period",
])))]
pub struct ResizeArguments {
    /// The most hooks that run at the same time; at most the number of workers.
    #[arg(short, long, value_name = "N", value_parser = count)]
    pub jobs: Option<NonZeroUsize>,

    /// The most workers of all source trees together.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_workers: Option<NonZeroUsize>,

    /// The most workers of one source tree.
    #[arg(long, value_name = "N", value_parser = count)]
    pub workers_per_tree: Option<NonZeroUsize>,

    /// The most templates.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_templates: Option<NonZeroUsize>,

    /// The most open requests.
    #[arg(long, value_name = "N", value_parser = queue_size)]
    pub queue_size: Option<QueueSize>,

    /// How long a worker may be idle before it is ended; 0: no limit.
    #[arg(long, value_name = "DURATION", value_parser = duration_or_zero)]
    pub idle_timeout: Option<Duration>,

    /// After how many requests a worker is replaced; 0: never.
    #[arg(long, value_name = "N", value_parser = count_or_zero)]
    pub max_requests: Option<u32>,

    /// The age at which a worker is replaced; 0: never.
    #[arg(long, value_name = "DURATION", value_parser = duration_or_zero)]
    pub max_lifetime: Option<Duration>,

    /// The memory of a hook that starts from now on, with its descendants; 0: no limit.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub hook_memory_limit: Option<u64>,

    /// How long a hook that starts from now on may run; 0: no limit.
    #[arg(long, value_name = "DURATION", value_parser = duration_or_zero)]
    pub hook_timeout: Option<Duration>,

    /// How long a hook that starts from now on may take to end after SIGTERM; 0: it is
    /// killed at once.
    #[arg(long, value_name = "DURATION", value_parser = duration_or_zero)]
    pub grace_period: Option<Duration>,

    #[command(flatten)]
    pub place: SocketArguments,
}

/// The arguments of `hookpool ctl restart`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("selection").args(["tree", "environment", "template"])))]
pub struct RestartArguments {
    /// Only the workers of this source tree.
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,

    /// Only the templates and workers of the environment of this interpreter, as the status
    /// names it.
    #[arg(long, value_name = "PYTHON")]
    pub environment: Option<String>,

    /// Only the template of this number, and its workers.
    #[arg(long, value_name = "N")]
    pub template: Option<u64>,

    #[command(flatten)]
    pub place: SocketArguments,
}

/// The arguments of `hookpool ctl cancel`.
#[derive(Debug, Args)]
pub struct CancelArguments {
    /// The numbers of the requests, as the status has them.
    #[arg(value_name = "REQUEST", required = true)]
    pub requests: Vec<u64>,

    #[command(flatten)]
    pub place: SocketArguments,
}

/// The arguments of `hookpool ctl log`.
#[derive(Debug, Args)]
pub struct LogOfRequestArguments {
    /// The number of the request, as the status has it.
    #[arg(value_name = "REQUEST")]
    pub request: u64,

    /// Write more of it as it comes, until the request is answered.
    #[arg(short, long)]
    pub follow: bool,

    #[command(flatten)]
    pub place: SocketArguments,
}
