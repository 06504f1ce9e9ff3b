//! Files and folders that others could interfere with, for programs built on
//! this library: what is opened is a regular file, what is written to belongs
//! to this user, what another process uses is locked.
//!
//! All of it blocks, but for [`unblock`], which runs it off the event loop.

mod folder;
pub mod kept;
mod regular;
mod stamp;

pub use folder::{FolderError, private_folder, refuse_foreign_links, temporary_folder};
pub(crate) use regular::read_all;
pub use regular::{Links, open_regular_file, read_regular_file};
pub use stamp::{COARSEST_TIMES, FileStamp, Moment};

pub use crate::blocking::unblock;
pub use crate::error::is_refusal;
pub use crate::lock::LockFile;
