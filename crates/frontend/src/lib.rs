//! Builds metadata, wheels and source distributions from source trees, on top of
//! [`hookpool_supervisor`], which runs single hooks.
//!
//! The example `metadata` in the folder `examples` builds the metadata of many sources at
//! once.
//!
//! # How it works
//!
//! A [`Source`] is a source tree, a source distribution or a wheel. [`Frontend::build`] builds
//! it for a [`Goal`], and always returns a [`Report`], which also tells what ran:
//!
//! 1. Metadata that need no hook are read from the wheel, or from the `PKG-INFO` of an
//!    archive, if that is static ([`static_metadata`], PEP 643).
//! 2. An archive is unpacked. It is not trusted ([`unpack`]).
//! 3. The `build-system.requires` of the tree lead to an [`Environment`]: an existing one, or
//!    a new one, made with uv or pip. If the hook `get_requires` returns more requirements,
//!    they lead to another one ([`Environments::enrich`]).
//! 4. The hooks run, with the fallbacks of PEP 517 where the backend lacks one.
//! 5. The product is checked, and moved to its place when it is complete ([`OutputFolder`]).
//!
//! A build is one future; poll many of them to build many sources. The supervisor limits how
//! many hooks run at once, and the [`Environments`] how many installers.
//!
//! # Guarantees
//!
//! - Dropping the future of a build ends everything that runs for it.
//! - No environment is used, and no file gets its name, before it is complete, whenever the
//!   program is killed.
//! - Nothing is written outside the folders that the caller names and the folder for temporary
//!   files.
//! - Errors and events never contain the credentials in addresses ([`redact`]).
#![forbid(unsafe_code)]

mod answers;
mod archive;
mod dependency_specifier;
mod durations;
mod environment;
mod extensions;
mod files;
mod frontend;
pub mod jobserver;
mod metadata;
mod output;
mod pruning;
mod redact;
mod run_folder;
mod source;
mod source_folder;

pub use answers::{
    AnswerPolicy, AnswerSettings, AnswerStatistics, Answers, AnswersUsage, InvalidRemote, Keeping, Lookup, NotKept,
    RemoteAnswers, Settled, Verdict, answers_usage, settle, verdicts,
};
pub use archive::{ArchiveError, ArchiveProblem, UnpackLimits, read_files, unpack};
pub use durations::Durations;
pub use environment::{
    Distribution, Environment, EnvironmentError, EnvironmentEvent, EnvironmentSettings, Environments, IndexOptions,
    InstallerChoice, InstallerKind,
};
pub use extensions::{
    EXTENSION_FILES, Extension, ExtensionPattern, ExtensionPolicy, InvalidExtensionPattern, MalformedExtensions,
    SourceForError, WhenRequired,
};
pub use frontend::{
    AnswerUse, BuildEvent, BuildWarning, DeclaredExtension, EnvironmentUse, Fallback, Frontend, FrontendSettings, Goal,
    HookRun, JobId, KeptLogs, LogFolder, Origin, Product, Report, Step,
};
pub use metadata::{
    CoreMetadata, MetadataError, NotStatic, WheelError, WheelProblem, static_metadata, wheel_extensions, wheel_metadata,
};
pub use output::{Before, OutputError, OutputFile, OutputFolder};
pub use pruning::{Pruned, prune};
pub use redact::redact;
pub use run_folder::{RunFolder, RunFolderError};
pub use source::{InvalidWheelName, ListError, Source, SourceError, SourceId, read_list};
