//! What a person wants from a source tree: its metadata, a wheel, a source
//! distribution. On top of [`hookpool_supervisor`], which runs single hooks.
#![forbid(unsafe_code)]

mod archive;
mod metadata;
mod source;

pub use archive::{ArchiveError, ArchiveProblem, UnpackLimits, read_pkg_info, unpack};
pub use metadata::{
    CoreMetadata, FolderMetadataError, MetadataError, NotStatic, WheelError, WheelProblem, folder_metadata,
    static_metadata, tree_pkg_info, wheel_metadata,
};
pub use source::{
    InvalidSdistName, InvalidWheelName, ListError, SdistName, Source, SourceError, SourceId, WheelName, read_list,
};
