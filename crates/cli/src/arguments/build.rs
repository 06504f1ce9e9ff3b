//! The arguments of the commands that build: metadata, wheel, sdist, editable.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, ValueEnum};
use hookpool_frontend::ExtensionPattern;

use super::pool::PoolArguments;
use super::values::{config_setting, folder, source_for};

/// Gets the core metadata of sources
///
/// From a source distribution's own PKG-INFO where the specification allows it,
/// which takes no hook; else from the hook prepare_metadata_for_build_wheel, or
/// from the wheel where the build backend lacks that hook.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = AFTER_HELP)]
pub struct MetadataArguments {
    #[command(flatten)]
    pub build: BuildArguments,

    /// Run hooks even where PKG-INFO would do.
    #[arg(long)]
    pub no_static: bool,

    /// Keep the wheels that had to be built for their metadata, in this folder.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub keep_wheels: Option<PathBuf>,

    #[command(flatten)]
    pub extensions: ExtensionArguments,
}

/// What becomes of metadata that declare extensions.
#[derive(Debug, Args)]
pub struct ExtensionArguments {
    /// An extension of metadata that is understood by whatever installs what
    /// is asked for; `NAME.*` stands for all whose names begin with `NAME.`.
    /// May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = ExtensionPattern::from_str)]
    pub supports_extension: Vec<ExtensionPattern>,

    /// What becomes of a wheel that requires an extension which is not
    /// supported.
    #[arg(long, value_enum, value_name = "ACTION", default_value_t)]
    pub on_required_extension: OnRequiredExtension,

    /// The source of a distribution, a source tree or source distribution, for
    /// `--on-required-extension source`. May be given more than once.
    #[arg(long, value_name = "NAME=TREE", value_parser = source_for)]
    pub source_for: Vec<(String, PathBuf)>,
}

/// What becomes of a wheel that requires an extension which is not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnRequiredExtension {
    /// An error.
    #[default]
    Fail,
    /// Its metadata are those of its source, if `--source-for` names one.
    Source,
}

/// Builds wheels
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = AFTER_HELP)]
pub struct WheelArguments {
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(flatten)]
    pub output: OutputArguments,

    /// Make a source distribution of each source tree first, and build the
    /// wheel from that: what is missing in it is missing in the wheel, too.
    #[arg(long)]
    pub via_sdist: bool,
}

/// Builds source distributions
///
/// A build backend that cannot make one of the tree as it is says so
/// (UnsupportedOperation in PEP 517); that is an answer, no failure.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = AFTER_HELP)]
pub struct SdistArguments {
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Builds editable wheels (PEP 660), which point at their source trees
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = AFTER_HELP)]
pub struct EditableArguments {
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(flatten)]
    pub output: EditableOutputArguments,
}

const AFTER_HELP: &str = "Sources are built at the same time, in no particular order: none waits for another.

Exit codes: 0 everything succeeded, 1 some source failed, 2 wrong usage, 3 the pool itself
could not work, 128+N ended by signal N.";

/// What the commands that build have in common.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Source trees, and source distributions (.tar.gz, .zip); for metadata
    /// wheels, too. `-` reads paths from standard input, one a line.
    #[arg(value_name = "SOURCE", required_unless_present = "from")]
    pub sources: Vec<PathBuf>,

    /// Read paths of sources from a file, one a line; `-` is standard input.
    /// Lines that are empty or begin with `#` are skipped.
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,

    /// A setting for the build backend. A key that is given more than once
    /// has a list of values.
    #[arg(short = 'C', long = "config-setting", value_name = "KEY=VALUE", value_parser = config_setting)]
    pub config_settings: Vec<(String, String)>,

    /// Fail for projects that do not support the version of the interpreter
    /// (Requires-Python). Otherwise they are built with a warning.
    #[arg(long)]
    pub check_requires_python: bool,

    /// The form of the results on standard output.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: OutputFormat,

    /// Keep everything that hooks write, in this folder, a file for each hook
    /// [default: the output of failed hooks only, in `logs` in the cache
    /// folder].
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub log_dir: Option<PathBuf>,

    /// Go on with the other sources when one fails. The default.
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "fail_fast")]
    pub keep_going: bool,

    /// End what runs, and begin nothing more, when a source fails.
    #[arg(long)]
    pub fail_fast: bool,

    #[command(flatten)]
    pub pool: PoolArguments,
}

/// Where files go.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// The folder for what is built; made if it is missing.
    #[arg(short, long, value_name = "DIR", value_parser = folder(), default_value = "dist")]
    pub output_dir: PathBuf,
}

/// Where editable wheels go: not to where others are, as both have one name.
#[derive(Debug, Args)]
pub struct EditableOutputArguments {
    /// The folder for what is built; made if it is missing.
    #[arg(short, long, value_name = "DIR", value_parser = folder(), default_value = "editable")]
    pub output_dir: PathBuf,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object for each source, a line each, as they complete.
    Json,
}
