//! The arguments of `hookpool check`.

use std::path::PathBuf;

use clap::Args;

use super::pool::PoolArguments;

/// Compares hooks in fresh processes with hooks in warm ones
///
/// Runs the hooks that give requirements and metadata of each source tree: first
/// each in a new interpreter, twice, then in processes forked from a template that
/// other projects have used before, twice. Tells every difference in results,
/// files or output, and every preloaded module that a hook would have found
/// elsewhere by its own sys.path. Run it before you trust hookpool with a build
/// backend of your own.
///
/// Hooks write into their source trees, as they do in every build. Archives are unpacked
/// first.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "PYTHONHASHSEED is the same for all runs: yours, or 0.

Exit codes: 0 no difference, 1 some difference, 2 wrong usage, 3 the pool itself could not
work, 128+N ended by signal N."
)]
pub struct CheckArguments {
    /// Source trees, and source distributions (.tar.gz, .zip).
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<PathBuf>,

    #[command(flatten)]
    pub pool: PoolArguments,
}
