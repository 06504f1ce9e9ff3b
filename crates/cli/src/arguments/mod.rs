//! The command line, not checked as a whole yet. The doc comments of the fields are
//! the text of `--help`.

pub mod build;
pub mod pool;
pub mod service;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hookpool_supervisor::Timeout;

use self::pool::PoolArguments;
use self::values::{age, duration_or_zero, loopback, size};

pub use self::values::duration;

/// Runs Python build hooks through supervised pools of workers.
///
/// Python packages are built by hooks (PEP 517 and PEP 660), functions such as
/// `build_wheel` in a build backend. hookpool keeps workers for source trees,
/// runs many hooks at the same time, each in a process of its own, and answers
/// every request, whatever happens to the hooks.
#[derive(Debug, Parser)]
#[command(
    name = "hookpool",
    version,
    after_help = "Example: what does it take to build the wheel of a source tree?

  echo '{\"id\": 1, \"tree\": \"path/to/source\", \"hook\": \"get_requires_for_build_wheel\"}' |
    hookpool run --no-build-isolation --python path/to/environment/bin/python

Exit codes: 0 everything succeeded, 1 some request failed, 2 wrong usage,
3 hookpool itself could not work, 128+N ended by signal N."
)]
pub struct Arguments {
    #[command(flatten)]
    pub log: LogArguments,
    #[command(subcommand)]
    pub command: CommandArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CommandArguments {
    Run(Box<RunArguments>),
    Serve(Box<ServeArguments>),
    Status(service::StatusArguments),
    Top(service::TopArguments),
    Ctl(Box<service::ControlArguments>),
    Metadata(Box<build::MetadataArguments>),
    Wheel(Box<build::WheelArguments>),
    Sdist(Box<build::SdistArguments>),
    Editable(Box<build::EditableArguments>),
    Check(Box<CheckArguments>),
    Hookd(HookdArguments),
    Cache(CacheCommandArguments),
    Completions(CompletionsArguments),
}

/// Log messages, which go to standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log messages")]
pub struct LogArguments {
    /// The format of log messages.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, global = true, env = "HOOKPOOL_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// Log more: once for the pool, twice for each worker, three times for each request.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, env = "HOOKPOOL_VERBOSE")]
    pub verbose: u8,

    /// Log errors only; cancels one --verbose.
    #[arg(short, long, global = true, env = "HOOKPOOL_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
}

/// The format of log messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// JSON Lines.
    Json,
}

/// The interpreter.
#[derive(Debug, Args)]
pub struct InterpreterArguments {
    /// The Python interpreter: a path, or a name on PATH.
    #[arg(long, value_name = "PATH", default_value = "python3", env = "HOOKPOOL_PYTHON")]
    pub python: PathBuf,
}

/// The cache folder.
#[derive(Debug, Args)]
pub struct CacheArguments {
    /// The folder for what is kept between runs. It must belong to you and must not be
    /// writable by others; otherwise commands that run hooks use a private temporary folder
    /// [default: `hookpool` in your cache folder].
    #[arg(long, value_name = "DIR", env = "HOOKPOOL_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// Runs hooks: requests on standard input, responses on standard output, as JSON Lines
///
/// A request names a source tree and a hook, and has an id that you choose:
///
///   {"id": 1, "tree": "src/flask", "hook": "build_wheel", "wheel_directory": "out"}
///
/// The responses come in the order in which the hooks end, with "ok", "result" or
/// "error", and the output of the hook. {"cancel": 1} cancels the requests with that id.
/// At the end of the input the program answers all requests and exits.
///
/// Hooks are code of the source tree and of its build backend. They run as your user and
/// can do whatever you can. Run those that you trust.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "Signals: SIGINT and SIGTERM end the running hooks and answer all requests, a second one kills
at once; SIGHUP replaces all workers without losing a request; SIGTSTP also stops the hooks
and their time limits, until SIGCONT.

Durations are written like 250ms, 10s or 1h30m, sizes like 512M or 1.5G (powers of 1024). A
flag overrides its environment variable; an empty variable counts as unset.

Exit codes: 0 every request succeeded, 1 some failed, 2 wrong usage, 3 hookpool itself could
not work, 128+N ended by signal N (141: standard output was closed)."
)]
pub struct RunArguments {
    #[command(flatten)]
    pub pool: PoolArguments,
}

/// Keeps workers for other programs: requests and responses as HTTP on a Unix socket
///
/// It stays in the foreground and serves until it gets SIGTERM. Only programs of the
/// same user may connect. The interface describes itself at /v1/openapi.json:
///
///   curl --unix-socket $XDG_RUNTIME_DIR/hookpool/hookpool.sock http://hookpool/v1/version
///
/// Hooks are code of the source tree and of its build backend. They run as your user and
/// can do whatever you can. Run those that you trust.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "Signals: SIGTERM and SIGINT let open requests finish, for --drain-timeout, and refuse new ones
with status 503; a second one kills at once. SIGHUP replaces all workers without losing a
request.

Exit codes: 0 all open requests could finish, 1 --drain-timeout was over before, 2 wrong usage,
3 hookpool itself could not work, 128+N a second signal ended it at once (N is the first)."
)]
pub struct ServeArguments {
    /// Where to listen: a path in a folder that only you can change [default:
    /// `hookpool/hookpool.sock` in $XDG_RUNTIME_DIR, else `service/hookpool.sock` in the
    /// cache folder].
    #[arg(long, value_name = "PATH", env = "HOOKPOOL_SOCKET")]
    pub socket: Option<PathBuf>,

    /// Also listen at this address: `127.0.0.1:PORT` or `[::1]:PORT`, with port 0 for one that
    /// the system chooses.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback, requires = "token_file", env = "HOOKPOOL_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// The file with the token that clients at that address have to know. Only you may be
    /// able to read it.
    #[arg(long, value_name = "FILE", requires = "listen", env = "HOOKPOOL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Take the place of the service that listens there: it finishes its work, and ends.
    #[arg(long, env = "HOOKPOOL_TAKE_OVER", value_parser = BoolishValueParser::new())]
    pub take_over: bool,

    /// How long open requests may take to finish after the first signal. After a takeover or
    /// `hookpool ctl drain --exit` they may take as long as they need.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration_or_zero,
        default_value = "30s",
        env = "HOOKPOOL_DRAIN_TIMEOUT"
    )]
    pub drain_timeout: Duration,

    /// End when there was no work for this time. Meant for a socket of systemd, which
    /// starts the service again [default: stay].
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "HOOKPOOL_IDLE_EXIT")]
    pub idle_exit: Option<Timeout>,

    #[command(flatten)]
    pub pool: PoolArguments,
}

/// Compares hooks in fresh processes with hooks in warm ones
///
/// Runs the hooks for requirements and metadata of each source tree: twice in new
/// interpreters, then twice in processes that are forked from a template which other
/// projects have used before. Prints every difference in results, files or output, and
/// every preloaded module where the sys.path of the hook leads to another one. Run it
/// before you trust hookpool with a build backend of your own.
///
/// Hooks write into their source trees, as in every build. Archives are unpacked first.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "PYTHONHASHSEED is the same for all runs: yours, or 0.

Exit codes: 0 no difference, 1 some difference, 2 wrong usage, 3 hookpool itself could not
work, 128+N ended by signal N."
)]
pub struct CheckArguments {
    /// Source trees and source distributions (.tar.gz, .tgz, .zip).
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<PathBuf>,

    #[command(flatten)]
    pub pool: PoolArguments,
}

/// Runs the bare worker on standard input and output.
///
/// This is hookd, the program that hookpool runs for each source tree, for those who
/// speak its protocol themselves. The first argument that is not an option of hookpool,
/// and all that follow, go to hookd.
#[derive(Debug, Args)]
#[command(after_help = "The worker's own help: hookpool hookd -- --help")]
pub struct HookdArguments {
    #[command(flatten)]
    pub interpreter: InterpreterArguments,
    #[command(flatten)]
    pub cache: CacheArguments,

    /// The arguments of hookd: its options, then the source tree [default: the current
    /// folder].
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Shows and clears the folder for what is kept between runs.
///
/// It has build environments, answers of hooks, the unpacked worker, and lists of modules
/// to preload.
/// Everything in it is made again when it is missing.
#[derive(Debug, Args)]
pub struct CacheCommandArguments {
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Prints the path of the folder.
    Dir(CacheArguments),
    /// Shows how many answers of hooks are kept, their size, and what they have saved.
    Show(CacheArguments),
    /// Says for each hook of a source whether its answer is kept, and if not, why not.
    Why(WhyArguments),
    /// Removes what was not used for a long time, and what is incomplete. Keeps what is
    /// in use.
    Prune(PruneArguments),
    /// Removes everything that is not in use.
    Clean(CacheArguments),
}

/// The arguments of `hookpool cache why`.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// Source trees and source distributions.
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<PathBuf>,

    #[command(flatten)]
    pub cache: CacheArguments,
}

/// The arguments of `hookpool cache prune`.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Remove what was not used for this long.
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "30d", env = "HOOKPOOL_OLDER_THAN")]
    pub older_than: Duration,

    /// Then remove the answers that were used longest ago, until answers and their files
    /// take at most this much space.
    #[arg(long, value_name = "SIZE", value_parser = size, env = "HOOKPOOL_MAX_SIZE")]
    pub max_size: Option<u64>,

    #[command(flatten)]
    pub cache: CacheArguments,
}

/// Writes a shell's completion script to standard output.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A flag that the command line or the environment gives to the command, with its
/// values as they were written; none for one that is just switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFlag {
    pub name: String,
    pub values: Vec<OsString>,
    /// The environment variable that gives it, if it is not on the command line.
    pub variable: Option<String>,
}

impl GivenFlag {
    /// What its user has written.
    pub fn written(&self) -> String {
        self.variable.clone().unwrap_or_else(|| format!("--{}", self.name))
    }
}

impl Arguments {
    /// Reads the command line; exits if it asks for help or is wrong.
    pub fn from_environment() -> (Self, Vec<GivenFlag>) {
        let command = command();
        let matches = command.clone().get_matches();
        let given = given(&command, &matches);
        (Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()), given)
    }
}

/// The flags of the command, but for those that all commands have.
fn given(command: &Command, matches: &ArgMatches) -> Vec<GivenFlag> {
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let mut given = Vec::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
        let id = argument.get_id().as_str();
        let source = matches.value_source(id).filter(|source| *source != ValueSource::DefaultValue);
        let (Some(name), Some(source)) = (argument.get_long(), source) else { continue };
        let values = match argument.get_action() {
            ArgAction::SetTrue if matches.get_flag(id) => Vec::new(),
            ArgAction::SetTrue => continue,
            _ => matches.get_raw(id).into_iter().flatten().map(ToOwned::to_owned).collect(),
        };
        let variable = argument.get_env().filter(|_| source == ValueSource::EnvVariable);
        let variable = variable.map(|name| name.to_string_lossy().into_owned());
        given.push(GivenFlag { name: name.to_owned(), values, variable });
    }
    given
}

impl Arguments {
    /// The arguments of a client of a service: no environment variable of this process
    /// counts.
    pub fn of_a_client(line: &[String]) -> Result<Self, String> {
        let parsed = without_variables(Self::command()).try_get_matches_from(line);
        let parsed = parsed.and_then(|matches| Self::from_arg_matches(&matches));
        // The rest of the message is about usage.
        parsed.map_err(|error| error.to_string().lines().next().unwrap_or_default().replace("error: ", ""))
    }
}

fn without_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| argument.env(None::<&'static str>));
    command.mut_subcommands(without_variables)
}

/// The whole command line. An empty variable counts as unset: shells and service files
/// cannot always unset one.
pub fn command() -> Command {
    without_empty_variables(Arguments::command())
}

fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        match argument.get_env() {
            Some(name) if is_empty(name) => argument.env(None::<&'static str>),
            _ => argument.hide_env_values(true),
        }
    });
    command.mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_given_by_their_names_and_as_they_are_written() {
        let command = without_variables(Arguments::command());
        let line = ["hookpool", "wheel", "-C", "a=1", "-Cb=2", "--via-sdist", "-o", "x", "--offline", "-v", "s"];
        let matches = command.clone().get_matches_from(line);
        let flag = |name: &str, values: &[&str]| GivenFlag {
            name: name.to_owned(),
            values: values.iter().map(Into::into).collect(),
            variable: None,
        };
        let mut found = given(&command, &matches);
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let expected = [
            flag("config-setting", &["a=1", "b=2"]),
            flag("offline", &[]),
            flag("output-dir", &["x"]),
            flag("via-sdist", &[]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_follows_hookd_is_passed_on() {
        let line = ["hookpool", "hookd", "--python", "py", "--json", "--isolation", "hook", "--python", "tree"];
        let CommandArguments::Hookd(hookd) = Arguments::parse_from(line).command else { panic!("another command") };
        assert_eq!(hookd.interpreter.python, PathBuf::from("py"));
        assert_eq!(hookd.arguments, ["--json", "--isolation", "hook", "--python", "tree"]);
    }

    #[test]
    fn the_documentation_has_every_flag_and_variable() {
        let pages = include_str!("../../../../docs/src/reference/flags.md");
        let command = command();
        let commands = std::iter::once(&command).chain(command.get_subcommands());
        for argument in commands.flat_map(Command::get_arguments) {
            let flag = argument.get_long().filter(|name| !["help", "version"].contains(name));
            let is_there = flag.is_none_or(|name| pages.contains(&format!("--{name}")));
            assert!(is_there, "{flag:?}");
            let variable = argument.get_env().map(|name| name.to_str().unwrap());
            assert!(variable.is_none_or(|name| pages.contains(name)), "{flag:?}");
            let expected = flag.map(|name| format!("HOOKPOOL_{}", name.to_uppercase().replace('-', "_")));
            assert!(variable.is_none() || variable == expected.as_deref(), "{flag:?}");
        }
    }

    #[test]
    fn every_flag_of_the_pool_has_a_variable() {
        let pool = pool::PoolArguments::augment_args(LogArguments::augment_args(Command::new("pool")));
        for argument in pool.get_arguments() {
            assert!(argument.get_env().is_some(), "{}", argument.get_id());
        }
    }
}
