//! The arguments of the build commands: metadata, wheel, sdist, editable.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, ValueEnum};
use hookpool_frontend::ExtensionPattern;

use super::pool::PoolArguments;
use super::values::{config_setting, folder, service, source_for};

/// Gets the core metadata of sources
///
/// Without a hook from the PKG-INFO of a source distribution, if the specification
/// allows it; else from the hook prepare_metadata_for_build_wheel, or from the wheel if
/// the build backend lacks that hook.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = AFTER_HELP)]
pub struct MetadataArguments {
    #[command(flatten)]
    pub build: BuildArguments,

    /// Run hooks even if PKG-INFO is sufficient.
    #[arg(long)]
    pub no_static: bool,

    /// Keep the wheels that are built for their metadata in this folder.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub keep_wheels: Option<PathBuf>,

    #[command(flatten)]
    pub extensions: ExtensionArguments,
}

/// How metadata that declare extensions are handled.
#[derive(Debug, Args)]
pub struct ExtensionArguments {
    /// A metadata extension that your installer supports; `NAME.*` stands for all
    /// extensions whose names begin with `NAME.`. May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = ExtensionPattern::from_str)]
    pub supports_extension: Vec<ExtensionPattern>,

    /// What to do with a wheel that requires an unsupported extension.
    #[arg(long, value_enum, value_name = "ACTION", default_value_t)]
    pub on_required_extension: OnRequiredExtension,

    /// The source of a distribution, a source tree or a source distribution, for
    /// `--on-required-extension source`. May be given more than once.
    #[arg(long, value_name = "NAME=TREE", value_parser = source_for)]
    pub source_for: Vec<(String, PathBuf)>,
}

/// What to do with a wheel that requires an unsupported extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnRequiredExtension {
    /// Fail.
    #[default]
    Fail,
    /// Use the metadata of its source, if `--source-for` names one.
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

    /// Make a source distribution of each source tree first, and build the wheel from
    /// that. This shows which files the source distribution lacks.
    #[arg(long)]
    pub via_sdist: bool,
}

/// Builds source distributions
///
/// A build backend may report that it cannot make one of a tree (UnsupportedOperation in
/// PEP 517); that is a result, not a failure.
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

const AFTER_HELP: &str = "Sources are built concurrently, in no particular order.

Exit codes: 0 everything succeeded, 1 some source failed, 2 wrong usage, 3 hookpool itself
could not work, 128+N ended by signal N.";

/// The arguments that all build commands have.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Source trees and source distributions (.tar.gz, .tgz, .zip); for `metadata` also
    /// wheels, for `editable` source trees only. `-` reads paths from standard input, one
    /// per line.
    #[arg(value_name = "SOURCE", required_unless_present = "from")]
    pub sources: Vec<PathBuf>,

    /// Read paths of sources from a file, one per line; `-` is standard input. Empty
    /// lines and lines that begin with `#` are skipped.
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,

    /// A setting for the build backend. The value of a repeated key is a list.
    #[arg(short = 'C', long = "config-setting", value_name = "KEY=VALUE", value_parser = config_setting)]
    pub config_settings: Vec<(String, String)>,

    /// Fail if a project does not support the version of the interpreter
    /// (Requires-Python). Without this flag it is built with a warning.
    #[arg(long)]
    pub check_requires_python: bool,

    /// The format of the results on standard output.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: OutputFormat,

    /// Keep the output of all hooks in this folder, one file per hook [default: the
    /// output of failed hooks only, in `logs` in the cache folder].
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub log_dir: Option<PathBuf>,

    /// Continue with the other sources when one fails. The default.
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "fail_fast")]
    pub keep_going: bool,

    /// When a source fails, end the running hooks and start no others.
    #[arg(long)]
    pub fail_fast: bool,

    /// Whether a service (`hookpool serve`) does the work. `auto`: if one of this program
    /// listens, and no flag asks for other workers; `never`: this process starts its own;
    /// `require`: fail if there is none; or the path of its socket.
    #[arg(
        long,
        value_name = "auto|never|require|PATH",
        default_value = "auto",
        value_parser = service,
        env = "HOOKPOOL_SERVICE"
    )]
    pub service: ServiceChoice,

    #[command(flatten)]
    pub pool: PoolArguments,
}

/// Whether a service does the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChoice {
    /// If there is one.
    Auto,
    /// No.
    Never,
    /// Yes, the one at this path; `None`: at the default one.
    Require(Option<PathBuf>),
}

/// The output folder.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// The output folder; created if it is missing.
    #[arg(short, long, value_name = "DIR", value_parser = folder(), default_value = "dist")]
    pub output_dir: PathBuf,
}

/// The output folder of editable wheels. It differs from that of other wheels, since
/// both kinds have the same name.
#[derive(Debug, Args)]
pub struct EditableOutputArguments {
    /// The output folder; created if it is missing.
    #[arg(short, long, value_name = "DIR", value_parser = folder(), default_value = "editable")]
    pub output_dir: PathBuf,
}

/// The format of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text.
    #[default]
    Text,
    /// JSON Lines: an object for each source, as it completes.
    Json,
}
