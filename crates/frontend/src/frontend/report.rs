//! What is wanted of a source, what happens on the way, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookpool_supervisor::{CapturedOutput, ErrorKind, Hook, HookError, RequestId, Timing, WorkerInfo};

use crate::answers::Keeping;
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
        /// The folder for the wheel.
        into: Arc<OutputFolder>,
        /// Whether a source tree is first made into a source distribution, and
        /// the wheel built from that, as it would be for whoever downloads it.
        via_sdist: bool,
    },
    /// A source distribution (PEP 625).
    Sdist {
        /// The folder for the source distribution.
        into: Arc<OutputFolder>,
    },
    /// An editable wheel (PEP 660), which points at the source tree.
    Editable {
        /// The folder for the wheel.
        into: Arc<OutputFolder>,
    },
}

/// What a build gave.
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

/// Where metadata come from.
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
    /// Its name in output for programs.
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

/// The result of a build, and how it came about.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The product, or why there is none.
    pub outcome: Result<Product, HookError>,
    /// The hooks that ran, in their order.
    pub hooks: Vec<HookRun>,
    /// Why the metadata could not be taken from `PKG-INFO`, if that was tried.
    pub not_static: Option<NotStatic>,
    /// The environment of the last hook; `None` without build isolation.
    pub environment: Option<EnvironmentUse>,
    /// The wheel that was built for its metadata, if such wheels are kept.
    pub kept_wheel: Option<OutputFile>,
    /// The extensions that the metadata declare, if they come from a wheel or
    /// from hooks.
    pub extensions: Option<Vec<DeclaredExtension>>,
    /// Set if a source was built in place of the wheel that was named.
    pub fallback: Option<Fallback>,
    /// What may be a mistake.
    pub warnings: Vec<BuildWarning>,
    /// How long it took, without the time in which it waited for its turn, and what was done
    /// before that.
    pub took: Duration,
}

impl Report {
    /// The report of a source that failed before any hook ran.
    #[must_use]
    pub fn failed(error: HookError) -> Self {
        Self {
            outcome: Err(error),
            hooks: Vec::new(),
            not_static: None,
            environment: None,
            kept_wheel: None,
            extensions: None,
            fallback: None,
            warnings: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// An extension that metadata declare.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredExtension {
    /// The extension.
    pub extension: Extension,
    /// Whether the [`ExtensionPolicy`](crate::ExtensionPolicy) supports it.
    pub supported: bool,
}

/// Why a source was built in place of a wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fallback {
    /// The wheel.
    pub wheel: PathBuf,
    /// The source that was built.
    pub source: PathBuf,
    /// The extensions that the wheel requires and that are not supported.
    pub extensions: Vec<String>,
}

/// A hook that ran, or whose answer was kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HookRun {
    /// The hook.
    pub hook: Hook,
    /// How it failed, if it did. `UnsupportedHook` is no failure of an optional
    /// hook.
    pub error: Option<ErrorKind>,
    /// The worker that ran it.
    pub worker: Option<WorkerInfo>,
    /// How long its stages took.
    pub timing: Timing,
    /// The end of its standard output.
    pub stdout: CapturedOutput,
    /// The end of its standard error.
    pub stderr: CapturedOutput,
    /// The file that keeps all of its output.
    pub log: Option<PathBuf>,
    /// What became of its answer.
    pub answer: AnswerUse,
}

/// What became of the answer of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerUse {
    /// Answers of such hooks are neither kept nor used.
    None,
    /// It was kept from an earlier run, and the hook did not run.
    Used {
        /// How long the hook ran then.
        saved: Duration,
    },
    /// The hook ran, and this became of its answer.
    New(Keeping),
}

/// A build environment that was used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnvironmentUse {
    /// Its interpreter.
    pub python: PathBuf,
    /// Its content id: the same for the same distributions and interpreter.
    pub id: String,
    /// Whether this process made it.
    pub made: bool,
    /// Files in it, and in the environments of earlier hooks, that were changed, added or
    /// removed while the source was built. These environments are not used again.
    pub modified: Vec<PathBuf>,
    /// Whether the editable wheel names paths in it: what is installed from the
    /// wheel then works only as long as the environment is there.
    pub needed: bool,
}

/// Something that may be a mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildWarning {
    /// The backend found no name for the project, and built it as `unknown`.
    #[error("the build backend found no name for it")]
    NoName,
    /// A name in `pyproject.toml` that nothing reads.
    #[error("pyproject.toml has {found}, which nothing reads: was {expected} meant?")]
    Misspelt {
        /// The name.
        found: String,
        /// A similar name that is missing.
        expected: String,
    },
    /// The `PKG-INFO` of an archive names another distribution than was built:
    /// the archive was changed after it was made.
    #[error("its PKG-INFO says that it is {} {}", .pkg_info.0, .pkg_info.1)]
    OtherPkgInfo {
        /// The name and the version in `PKG-INFO`.
        pkg_info: (String, String),
    },
    /// The answer of a hook that was kept from an earlier run.
    #[error("the kept answer of {hook} was wrong: {difference}")]
    WrongAnswer {
        /// The hook.
        hook: Hook,
        /// How it differs from what the hook answers now.
        difference: String,
    },
    /// The project does not support the Python that builds it.
    #[error("it requires Python {requires_python}, and is built with {}.{}.{}", .version.0, .version.1, .version.2)]
    UnsupportedPython {
        /// Its Requires-Python.
        requires_python: String,
        /// The interpreter's major, minor and micro version.
        version: (u32, u32, u32),
    },
}

/// The number of a source, unique within the caller's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub usize);

/// Something that happened while a source was built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildEvent {
    /// A step was begun.
    Step {
        /// The source.
        job: JobId,
        /// The step.
        step: Step,
    },
    /// A hook was submitted; the supervisor's events tell what happens to it.
    HookSubmitted {
        /// The source.
        job: JobId,
        /// The hook.
        hook: Hook,
        /// Its number in the supervisor's events.
        request: RequestId,
    },
    /// A hook has ended.
    HookAnswered {
        /// Its number in the supervisor's events.
        request: RequestId,
        /// The end of its standard output.
        stdout: CapturedOutput,
        /// The end of its standard error.
        stderr: CapturedOutput,
    },
}

/// What a source waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its archive is read or unpacked.
    Unpacking,
    /// A hook waits in the queue or for its build environment, or runs.
    Hook(Hook),
}
