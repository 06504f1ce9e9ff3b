//! The limit of open files (getrlimit(2), `RLIMIT_NOFILE`).
//!
//! A supervisor needs four descriptors for each worker; the usual soft limit
//! of 1,024 is there for programs that use `select(2)`, which Python programs
//! may. So the supervisor raises its own and gives its children the old one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFilesLimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// How many workers fit into this process's soft limit of open files, with so
/// many hooks at once: four descriptors for each worker (three pipes and a
/// pidfd), one for each tree's lock, and some for everything else.
pub(crate) fn workers_that_fit(jobs: usize) -> io::Result<(usize, u64)> {
    const REST: u64 = 28;
    const PER_WORKER: u64 = 4;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let room = soft.saturating_sub(REST).saturating_sub(jobs as u64);
    let workers = usize::try_from(room / PER_WORKER).unwrap_or(usize::MAX);
    Ok((workers.max(1), soft))
}

/// Raises this process's soft limit of open files to the hard one and answers
/// with what it was, for [`Builder::children_open_files`](crate::Builder::children_open_files).
///
/// # Errors
/// What the system says; nothing is changed then.
pub fn raise_open_files_limit() -> io::Result<OpenFilesLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(OpenFilesLimit { soft, hard })
}
