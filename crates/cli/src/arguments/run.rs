//! The arguments of `hookpool run`.

use clap::Args;

use super::pool::PoolArguments;

/// Runs the hooks that are asked for on standard input, a JSON object a line
///
/// A request names a source tree and a hook, and has an id of your choice:
///
///   {"id": 1, "tree": "src/flask", "hook": "build_wheel", "wheel_directory": "out"}
///
/// The responses are JSON objects on standard output, a line each, in the order
/// in which the hooks end: "ok", "result" or "error", and the hook's output.
/// {"cancel": 1} cancels the requests of that id. At end of input everything is
/// answered, then the program ends.
///
/// Hooks are programs of the source tree and of its build backend: they run as
/// you and can do whatever you can. Run those that you trust.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "Signals: SIGINT and SIGTERM end the hooks that run and answer all requests, a second one
kills at once; SIGHUP replaces all workers and loses no request; SIGTSTP stops the hooks
too, and their time limits, until SIGCONT.

Durations are written 250ms, 10s, 5m, 1h; sizes 512M, 2G, in powers of 1024. A flag goes
before its environment variable; a variable that is empty counts as unset.

Exit codes: 0 every request succeeded, 1 some failed, 2 wrong usage, 3 the pool itself could
not work, 128+N ended by signal N (141: nobody reads standard output any more)."
)]
pub struct RunArguments {
    #[command(flatten)]
    pub pool: PoolArguments,
}
