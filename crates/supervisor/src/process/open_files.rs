//! The limit of open files (getrlimit(2), `RLIMIT_NOFILE`).
//!
//! A supervisor needs four descriptors for each worker. The usual soft limit of
//! 1,024 is for programs that use `select(2)`, as Python programs may. So the
//! supervisor raises its own limit, and gives its children the old one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFilesLimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The number of templates and workers that a limit of open files allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub templates: usize,
    pub workers: usize,
    /// That limit.
    pub open_files: u64,
}

impl Capacity {
    /// For this process's soft limit and this number of jobs.
    pub fn of_this_process(jobs: usize, max_templates: usize) -> io::Result<Self> {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Self::of(soft, jobs, max_templates))
    }

    fn of(open_files: u64, jobs: usize, max_templates: usize) -> Self {
        /// Standard streams, the runtime's descriptors, the capture folder, and
        /// those of the rest of the program.
        const REST: u64 = 28;
        /// Three pipes and a pidfd.
        const PER_WORKER: u64 = 4;
        /// A socket, two pipes, a pidfd.
        const PER_TEMPLATE: u64 = 4;
        /// The tree's lock, and the other ends of the pipes at a start.
        const PER_JOB: u64 = 4;
        let room = open_files.saturating_sub(REST);
        let templates = (room / (4 * PER_TEMPLATE)).clamp(1, max_templates as u64);
        let room = room.saturating_sub(templates * PER_TEMPLATE);
        // First as many workers as jobs, then idle ones.
        let busy = (room / (PER_WORKER + PER_JOB)).min(jobs as u64);
        let idle = room.saturating_sub(busy * (PER_WORKER + PER_JOB)) / PER_WORKER;
        let as_count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { templates: as_count(templates), workers: as_count(busy + idle).max(1), open_files }
    }
}

/// Raises this process's soft limit of open files to the hard limit. Returns the
/// old limits, for [`Builder::children_open_files`](crate::Builder::children_open_files).
///
/// # Errors
/// The system refuses, and nothing is changed.
pub fn raise_open_files_limit() -> io::Result<OpenFilesLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(OpenFilesLimit { soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_allows_little() {
        let capacity = |open_files, jobs| {
            let capacity = Capacity::of(open_files, jobs, 16);
            (capacity.templates, capacity.workers)
        };
        assert_eq!(capacity(10, 8), (1, 1));
        assert_eq!(capacity(64, 8), (2, 4));
        assert_eq!(capacity(1024, 2), (16, 231));
        assert_eq!(capacity(1024, 200), (16, 117));
    }
}
