//! `hookpool cache` as it is written.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::CacheArguments;
use super::values::age;

/// Shows and clears the folder of what is kept from run to run.
///
/// That is build environments, the unpacked worker, and lists of modules to
/// import ahead. Nothing in it is needed: what is missing is made again.
#[derive(Debug, Args)]
pub struct CacheCommandArguments {
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with it.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Prints the folder's path.
    Dir(CacheArguments),
    /// Removes what was not used for long, and what was never completed. What
    /// is in use stays.
    Prune(PruneArguments),
    /// Removes everything that is not in use.
    Clean(CacheArguments),
}

/// What is not used for long.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// For how long it was not used.
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "30d", env = "HOOKPOOL_OLDER_THAN")]
    pub older_than: Duration,

    #[command(flatten)]
    pub cache: CacheArguments,
}
