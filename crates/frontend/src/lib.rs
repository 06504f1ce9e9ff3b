//! What a person wants from a source tree: its metadata, a wheel, a source
//! distribution. On top of [`hookpool_supervisor`], which runs single hooks.
//!
//! The example `metadata` in the crate's `examples` asks many sources at once.
//!
//! # Theory of operation
//!
//! A [`Source`] is what a user names: a source tree, a source distribution, a
//! wheel. [`Frontend::build`] takes it to a [`Goal`], and always ends with a
//! [`Report`], which also tells what ran on the way:
//!
//! 1. Metadata that need no hook are taken from where they are: the wheel, or the
//!    `PKG-INFO` of an archive, if it says that it will do ([`static_metadata`],
//!    PEP 643).
//! 2. An archive is unpacked ([`unpack`]), without trust in what it says.
//! 3. The tree's `build-system.requires` lead to an [`Environment`]: one that is
//!    there already, or one that uv or pip makes. What the hook `get_requires`
//!    asks for in addition leads to a richer one ([`Environments::enrich`]).
//! 4. The hooks run, with the fallbacks of PEP 517 where the backend lacks one.
//! 5. What they made is moved to its place, under its name, when it is whole
//!    ([`OutputFolder`]).
//!
//! Each source is one future; whoever wants many at once polls many. How many
//! hooks run at once is the supervisor's business, how many installers the
//! [`Environments`]'.
//!
//! # What is promised
//!
//! - Dropping the future of a source ends what runs for it.
//! - No environment and no file is ever used, or seen under its name, before it
//!   is complete, whenever the program is killed.
//! - Nothing is written outside the folders that the caller named, and the
//!   folder for temporary files.
//! - Credentials in addresses are in no error and no event ([`redact`]).
#![forbid(unsafe_code)]

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
mod run_folder;
mod source;

pub use archive::{ArchiveError, ArchiveProblem, UnpackLimits, read_files, unpack};
pub use durations::Durations;
pub use environment::{
    Distribution, Environment, EnvironmentError, EnvironmentEvent, EnvironmentSettings, Environments, IndexOptions,
    InstallerChoice, InstallerKind, Pruned, prune, redact,
};
pub use extensions::{
    EXTENSION_FILES, Extension, ExtensionPattern, ExtensionPolicy, InvalidExtensionPattern, MalformedExtensions,
    SourceForError, WhenRequired,
};
pub use frontend::{
    BuildEvent, BuildWarning, DeclaredExtension, EnvironmentUse, Fallback, Frontend, FrontendSettings, Goal, HookRun,
    JobId, KeptLogs, LogFolder, NearMiss, Origin, Product, Report, Step,
};
pub use metadata::{
    CoreMetadata, FolderMetadataError, MetadataError, NotStatic, WheelError, WheelProblem, folder_extensions,
    folder_metadata, static_metadata, wheel_extensions, wheel_metadata,
};
pub use output::{Before, OutputError, OutputFile, OutputFolder};
pub use run_folder::{RunFolder, RunFolderError};
pub use source::{InvalidWheelName, ListError, SdistName, Source, SourceError, SourceId, WheelName, read_list};
