//! The arguments that say how build environments are made.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::values::duration_or_zero;

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
