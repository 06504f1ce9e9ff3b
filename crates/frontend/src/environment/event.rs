//! What happens with build environments, as values that observers see.

use std::path::PathBuf;
use std::time::Duration;

use super::installer::InstallerKind;

/// Something that happened. Nothing in it holds credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum EnvironmentEvent {
    /// Another process makes an environment for this list; it is waited for.
    Awaited { requirements: Vec<String> },
    /// Environments are made by pip and not by uv, which would be faster: only
    /// pip was told where distributions are, by this variable or file. Told once.
    PipInPlaceOfUv { told_by: String },
    /// An environment is being made.
    Making { requirements: Vec<String>, installer: InstallerKind },
    /// An environment was made.
    Made { folder: PathBuf, requirements: Vec<String>, after: Duration },
    /// One was made to find out what the list leads to, and thrown away: another
    /// with the same content, this one, was there, and is used.
    Matched { folder: PathBuf, requirements: Vec<String>, after: Duration },
    /// One that was there is used.
    Reused { folder: PathBuf, requirements: Vec<String> },
    /// An environment that was there is not used any more.
    Discarded { folder: PathBuf, reason: String },
    /// The installer failed, so that an earlier answer was used, older than a
    /// day as it is.
    StaleAnswerUsed { folder: PathBuf, requirements: Vec<String>, reason: String },
    /// What an earlier run has not completed was removed.
    LeftoversRemoved { count: usize },
}
