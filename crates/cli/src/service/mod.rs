//! `hookpool serve`: a supervisor behind HTTP on a Unix socket, and
//! over TCP if that is wanted.
//!
//! A connection ([`connections`]) carries requests to the handlers ([`api`]), which
//! share a [`Service`]. New work is admitted ([`admission`]) or refused with a
//! [`problem`].

pub mod activation;
mod admission;
mod api;
mod body;
pub mod builds;
pub mod client;
pub mod connections;
pub mod identity;
mod metrics;
mod monitor;
pub mod notify;
mod problem;
pub mod socket;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hookpool_wire::Version;
use tokio::sync::watch;

pub use self::admission::{Admissions, Draining};
pub use self::api::router;
pub use self::monitor::Monitor;
use crate::hooks::Hooks;
use crate::signals::Ending;

/// What all requests share.
#[derive(Debug)]
pub struct Service {
    pub hooks: Hooks,
    pub admissions: Admissions,
    /// The cache folder.
    pub cache: PathBuf,
    pub monitor: Arc<Monitor>,
    pub started_at: Instant,
    pub version: Version,
    /// Whether what is open is being ended.
    pub ending: watch::Receiver<Ending>,
}

/// The state of the handlers.
pub type Shared = Arc<Service>;

/// This program, as clients compare it with themselves. Blocks.
pub fn version(cache: &Path) -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: hookpool_wire::API_VERSION,
        build: build(),
        pid: std::process::id(),
        cache: cache.to_string_lossy().into_owned(),
    }
}

/// The identity of the executable file, which stays known after another one was
/// installed in its place. Without the device: containers of one image have one each.
fn build() -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{}:{}:{}.{:09}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()),
        // Equal to no other one.
        Err(_) => format!("process {}", std::process::id()),
    }
}
