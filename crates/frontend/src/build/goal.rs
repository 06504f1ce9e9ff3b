//! What is wanted of a source, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use hookpool_supervisor::{CapturedOutput, ErrorKind, Hook, HookError, Timing, WorkerInfo};

use super::warning::BuildWarning;
use crate::extensions::Extension;
use crate::metadata::{CoreMetadata, NotStatic};
use crate::output::{OutputFile, OutputFolder};

/// What is wanted of a source.
#[derive(Clone, Debug)]
pub enum Goal {
    /// Its core metadata.
    Metadata,
    /// A wheel (PEP 427).
    Wheel {
        /// Where it goes.
        into: Arc<OutputFolder>,
        /// Whether a source tree is first made into a source distribution, and
        /// the wheel built from that, as it would be for whoever downloads it.
        via_sdist: bool,
    },
    /// A source distribution (PEP 625).
    Sdist {
        /// Where it goes.
        into: Arc<OutputFolder>,
    },
    /// An editable wheel (PEP 660), which points at the source tree.
    Editable {
        /// Where it goes.
        into: Arc<OutputFolder>,
    },
}

/// What was wanted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Product {
    /// Core metadata, and where they come from.
    Metadata(Box<CoreMetadata>, Origin),
    /// A wheel or source distribution.
    File(OutputFile),
    /// The backend says that it cannot make a source distribution of this tree
    /// now (`UnsupportedOperation`, PEP 517): an answer, not a failure.
    SdistUnsupported,
}

/// Where metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source's own `PKG-INFO`; no hook ran.
    Static,
    /// The hook `prepare_metadata_for_build_wheel`.
    PrepareMetadata,
    /// A wheel that was built because the backend does not have that hook.
    BuiltWheel,
    /// The wheel that was named as the source.
    Wheel,
}

impl Origin {
    /// The word for it in output for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::PrepareMetadata => "prepare_metadata",
            Self::BuiltWheel => "built_wheel",
            Self::Wheel => "wheel",
        }
    }
}

/// Everything that is to be told of a source that is done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// What was wanted, or why there is none.
    pub outcome: Result<Product, HookError>,
    /// The hooks that ran, in their order.
    pub hooks: Vec<HookRun>,
    /// Why the metadata could not be taken from `PKG-INFO`, where they were
    /// wanted and hooks ran.
    pub not_static: Option<NotStatic>,
    /// The environment of the last hook; none without build isolation.
    pub environment: Option<EnvironmentUse>,
    /// A wheel that was built on the way to metadata and was asked to be kept.
    pub kept_wheel: Option<OutputFile>,
    /// The extensions that the metadata declare, where they come from a wheel
    /// or from hooks.
    pub extensions: Option<Vec<DeclaredExtension>>,
    /// That a source stood in for the wheel that was named.
    pub fallback: Option<Fallback>,
    /// What may not be as it was meant.
    pub warnings: Vec<BuildWarning>,
}

/// An extension that metadata declare.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredExtension {
    /// What is declared.
    pub extension: Extension,
    /// Whether whoever asked for the metadata supports it.
    pub supported: bool,
}

/// Why a source was built where a wheel was named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fallback {
    /// The wheel.
    pub wheel: PathBuf,
    /// The source that was built.
    pub source: PathBuf,
    /// What the wheel requires and is not supported.
    pub extensions: Vec<String>,
}

/// A hook that ran.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HookRun {
    /// Which.
    pub hook: Hook,
    /// How it failed, if it did. For optional hooks `UnsupportedHook` is no
    /// failure.
    pub error: Option<ErrorKind>,
    /// Who ran it.
    pub worker: Option<WorkerInfo>,
    /// Where the time went.
    pub timing: Timing,
    /// The end of what it wrote to standard output.
    pub stdout: CapturedOutput,
    /// The end of what it wrote to standard error.
    pub stderr: CapturedOutput,
    /// Where everything that it wrote is kept.
    pub log: Option<PathBuf>,
}

/// A build environment that was used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnvironmentUse {
    /// Its interpreter.
    pub python: PathBuf,
    /// Stands for what is installed.
    pub id: String,
    /// Whether it was made in this run.
    pub made: bool,
    /// Files in it that were changed, added or removed while the source was
    /// built: the environment is not used again.
    pub modified: Vec<PathBuf>,
    /// Whether the editable wheel names paths in it: what is installed from that
    /// works as long as the environment is there.
    pub needed: bool,
}
