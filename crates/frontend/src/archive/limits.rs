//! Limits for what an archive unpacks to.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ArchiveProblem;

/// Limits for what an archive unpacks to. The defaults allow all known source
/// distributions, and stop a bomb before it does harm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnpackLimits {
    /// The total of bytes, with the headers and padding of a tar file. 4 GiB.
    pub total_bytes: u64,
    /// The ratio of the tree's size to the archive's. 200; source code has about 5,
    /// and gzip's maximum is 1032.
    pub ratio: u64,
    /// The number of bytes up to which the ratio is not limited. 256 MiB.
    pub ratio_floor: u64,
    /// The number of files and folders, including folders that are only part of other
    /// names. 200,000.
    pub members: u64,
    /// The length of a name, and of the target of a link, in bytes. 1024.
    pub name_bytes: usize,
    /// The depth of nested folders. 64.
    pub depth: usize,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { total_bytes: 4 << 30, ratio: 200, ratio_floor: 256 << 20, members: 200_000, name_bytes: 1024, depth: 64 }
    }
}

/// Counts what an archive unpacks to, against the limits.
pub(super) struct Budget<'a> {
    pub limits: &'a UnpackLimits,
    cancel: &'a AtomicBool,
    archive_bytes: u64,
    bytes: Cell<u64>,
    members: Cell<u64>,
}

impl<'a> Budget<'a> {
    pub fn new(limits: &'a UnpackLimits, archive_bytes: u64, cancel: &'a AtomicBool) -> Self {
        Self { limits, cancel, archive_bytes, bytes: Cell::new(0), members: Cell::new(0) }
    }

    pub fn check_cancelled(&self) -> Result<(), ArchiveProblem> {
        if self.cancel.load(Ordering::Relaxed) { Err(ArchiveProblem::Cancelled) } else { Ok(()) }
    }

    /// Counts a file or folder.
    pub fn count_member(&self) -> Result<(), ArchiveProblem> {
        self.check_cancelled()?;
        self.members.set(self.members.get() + 1);
        if self.members.get() > self.limits.members {
            return Err(ArchiveProblem::TooManyMembers { limit: self.limits.members });
        }
        Ok(())
    }

    /// Counts bytes.
    fn count_bytes(&self, bytes: usize) -> Result<(), ArchiveProblem> {
        self.check_cancelled()?;
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
        let by_ratio = self.archive_bytes.saturating_mul(self.limits.ratio).max(self.limits.ratio_floor);
        let limit = by_ratio.min(self.limits.total_bytes);
        if self.bytes.get() > limit {
            return Err(ArchiveProblem::TooManyBytes { limit, archive_bytes: self.archive_bytes });
        }
        Ok(())
    }

    /// A reader whose bytes are counted. Its [`io::Error`] contains an
    /// [`ArchiveProblem`] if a limit is exceeded.
    pub fn metered<R: Read>(&self, reader: R) -> Metered<'_, R> {
        Metered { reader, budget: self }
    }
}

pub(super) struct Metered<'a, R> {
    reader: R,
    budget: &'a Budget<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.budget.count_bytes(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(archive_bytes: u64, limits: &UnpackLimits, bytes: u64) -> io::Result<u64> {
        let cancel = AtomicBool::new(false);
        let budget = Budget::new(limits, archive_bytes, &cancel);
        io::copy(&mut budget.metered(io::repeat(0).take(bytes)), &mut io::sink())
    }

    #[test]
    fn the_ratio_counts_above_its_floor_and_the_total_always() {
        let limits = UnpackLimits { total_bytes: 1000, ratio: 10, ratio_floor: 100, ..UnpackLimits::default() };
        assert!(read(1, &limits, 100).is_ok());
        assert!(read(1, &limits, 101).is_err());
        assert!(read(50, &limits, 500).is_ok());
        let error = ArchiveProblem::reading(read(50, &limits, 501).unwrap_err());
        assert!(matches!(error, ArchiveProblem::TooManyBytes { limit: 500, archive_bytes: 50 }));
        assert!(read(u64::MAX, &limits, 1000).is_ok());
        assert!(read(u64::MAX, &limits, 1001).is_err());
    }
}
