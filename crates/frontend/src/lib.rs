//! What a person wants from a source tree: its metadata, a wheel, a source
//! distribution. On top of [`hookpool_supervisor`], which runs single hooks.
#![forbid(unsafe_code)]

mod archive;
mod build;
mod environment;
mod extensions;
pub mod jobserver;
mod metadata;
mod output;
mod run_folder;
mod source;

pub use archive::{ArchiveError, ArchiveProblem, UnpackLimits, read_pkg_info, unpack};
pub use build::{
    BuildEvent, BuildObserver, DeclaredExtension, EnvironmentUse, Fallback, Frontend, FrontendSettings, Goal, HookRun,
    JobId, KeptLogs, LogFolder, Origin, Product, Report, Step,
};
pub use environment::{
    Distribution, Environment, EnvironmentError, EnvironmentEvent, EnvironmentSettings, Environments, IndexOptions,
    InstallerChoice, InstallerKind, redact,
};
pub use extensions::{
    EXTENSION_FILES, Extension, ExtensionPattern, ExtensionPolicy, InvalidExtensionPattern, MalformedExtensions,
    SourceForError, WhenRequired,
};
pub use metadata::{
    CoreMetadata, FolderMetadataError, MetadataError, NotStatic, WheelError, WheelProblem, folder_extensions,
    folder_metadata, static_metadata, tree_pkg_info, wheel_extensions, wheel_metadata,
};
pub use output::{Before, OutputError, OutputFile, OutputFolder};
pub use run_folder::{RunFolder, RunFolderError};
pub use source::{
    InvalidSdistName, InvalidWheelName, ListError, SdistName, Source, SourceError, SourceId, WheelName, read_list,
};
