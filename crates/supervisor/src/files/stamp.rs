//! Whether a file is the same as before, without reading it.
//!
//! The rule is that of git for its index ("racy git"): a file counts as unchanged
//! if size, times, mode and inode are the same, unless it was changed so shortly
//! before it was read that a later change could have the same times.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// No file system's times are coarser than this: a file that was changed longer ago has
/// another time after its next change.
pub const COARSEST_TIMES: Duration = Duration::from_secs(2);

/// A time, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(i128);

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_nanos().try_into().unwrap_or(i128::MAX))
    }
}

/// The state of a file, as the system tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    mode: u32,
    size: u64,
    modified: i128,
    changed: i128,
    inode: u64,
    device: u64,
}

impl FileStamp {
    /// The state in metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            mode: metadata.mode(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether a file with this state, whose bytes were read at a moment, still has
    /// those bytes, now that its state is `now`.
    #[must_use]
    pub fn still_holds(&self, now: &Self, read_at: Moment) -> bool {
        self == now && self.is_settled(read_at)
    }

    /// Whether a change after `read_at` would give it other times.
    #[must_use]
    pub fn is_settled(&self, read_at: Moment) -> bool {
        self.modified.max(self.changed).saturating_add(COARSEST_TIMES.as_nanos().cast_signed()) < read_at.0
    }

    /// Its bytes, for a digest: all of it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 60] {
        let Self { mode, size, modified, changed, inode, device } = self;
        let mut bytes = [0; 60];
        bytes[..4].copy_from_slice(&mode.to_le_bytes());
        bytes[4..20].copy_from_slice(&modified.to_le_bytes());
        bytes[20..36].copy_from_slice(&changed.to_le_bytes());
        for (place, number) in bytes[36..].chunks_exact_mut(8).zip([size, inode, device]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Device and inode.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// What changes with what is in the file: not the time of the last change of its mode or its names.
    #[must_use]
    pub fn of_content(&self) -> (u64, i128, u64) {
        (self.size, self.modified, self.inode)
    }

    /// The bits that decide about reading, writing and executing.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_was_old_when_it_was_read_is_believed() {
        let second = 1_000_000_000;
        let file =
            FileStamp { mode: 0o100_644, size: 3, modified: 10 * second, changed: 11 * second, inode: 1, device: 1 };
        let read = |at: i128| Moment(at * second);
        for (now, read_at, expected) in [
            (file, read(20), true),
            (file, read(13), false),
            (file, read(12), false),
            (FileStamp { size: 4, ..file }, read(20), false),
            (FileStamp { changed: 12 * second, ..file }, read(20), false),
            (FileStamp { mode: 0o100_755, ..file }, read(20), false),
            (FileStamp { inode: 2, ..file }, read(20), false),
        ] {
            assert_eq!(file.still_holds(&now, read_at), expected, "{now:?} {read_at:?}");
        }
    }
}
