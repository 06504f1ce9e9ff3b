//! Locks between processes: [`std::fs::File::lock`], which is `flock(2)` here. They
//! belong to an open file, so they end with the process that holds them,
//! however it ends.
//!
//! [`LockFile`] is a file that exists for its lock. A source tree is locked by
//! its own folder, and waited for without a thread.

mod file;
mod holder;
mod tree;
mod wait;

pub use file::LockFile;
pub(crate) use file::was_free;
pub(crate) use tree::{OwnLocks, TreeLock, TryLock, try_lock};
pub(crate) use wait::LockWaits;
