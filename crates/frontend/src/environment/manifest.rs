//! What is known of an environment that is complete.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookpool_supervisor::Interpreter;
use serde::{Deserialize, Serialize};

use super::contents::Distribution;
use super::installer::InstallerKind;
use super::seal::Seal;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Where it was made. A cache folder that was moved has environments whose
    /// scripts lead elsewhere.
    pub folder: PathBuf,
    pub content_id: String,
    pub installed: Vec<Distribution>,
    pub installer: InstallerKind,
    /// Nanoseconds since 1970.
    pub made_at: u64,
    /// Whether it is for the process that made it alone.
    pub private: bool,
    pub seal: Seal,
    /// What its interpreter says of itself; nothing where it did not say it in
    /// time.
    pub interpreter: Option<Interpreter>,
}

/// What a list of requirements resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The environment.
    pub name: String,
    /// Another environment with this content does as well.
    pub content_id: String,
    /// Nanoseconds since 1970.
    pub asked_at: u64,
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
