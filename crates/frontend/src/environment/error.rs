//! What happens with build environments, and why one cannot be had.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookpool_supervisor::files::{FolderError, is_refusal};
use hookpool_supervisor::{ErrorKind, HookError, InterpreterError, Setting};

use super::settings::InstallerKind;

/// Something that happened to a build environment. Nothing in it contains credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
pub enum EnvironmentEvent {
    /// Another process makes an environment for these requirements; this one waits.
    Awaited { requirements: Vec<String> },
    /// pip is used and not uv, which would be faster, because this variable or file tells only
    /// pip where distributions are. Happens once.
    PipInPlaceOfUv { told_by: String },
    /// An environment is being made.
    Making { requirements: Vec<String>, installer: InstallerKind },
    /// An environment was made.
    Made { folder: PathBuf, requirements: Vec<String>, after: Duration },
    /// The requirements were resolved, and this environment has exactly what they lead to. If
    /// that was known only after another was made, that was removed again.
    Matched { folder: PathBuf, requirements: Vec<String>, after: Duration },
    /// An existing environment is used.
    Reused { folder: PathBuf, requirements: Vec<String> },
    /// An environment is not used any more.
    Discarded { folder: PathBuf, reason: String },
    /// The installer failed, so a resolution was used that is older than a day.
    StaleResolutionUsed { folder: PathBuf, requirements: Vec<String>, reason: String },
    /// Environments that earlier runs have not completed were removed.
    LeftoversRemoved { count: usize },
}

/// Why there is no build environment. Nothing in it contains credentials.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// A text is not a requirement (PEP 508).
    #[error("{requirement:?} is not a requirement: {reason}")]
    InvalidRequirement {
        /// The text.
        requirement: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The interpreter cannot be used.
    #[error("{0}")]
    Interpreter(Arc<InterpreterError>),
    /// There is no installer.
    #[error("{reason}")]
    NoInstaller {
        /// What was searched, and where.
        reason: String,
    },
    /// The interpreter could not make an environment.
    #[error("{python} could not make a virtual environment: {words}")]
    NotMade {
        /// The interpreter.
        python: PathBuf,
        /// The end of its output.
        words: String,
    },
    /// The installer failed.
    #[error("{installer} could not install {}: {words}", Listed(.requirements))]
    Installer {
        /// The installer.
        installer: InstallerKind,
        /// The requirements.
        requirements: Vec<String>,
        /// The end of its output.
        words: String,
        /// Whether it was not allowed to use the network.
        offline: bool,
    },
    /// What was installed has other hashes than the constraints allow.
    #[error("the installed distributions are not the expected ones: {}", .mismatches.join("; "))]
    OtherHashes {
        /// For each distribution, the hashes that were found and expected.
        mismatches: Vec<String>,
    },
    /// A program that makes an environment exceeded its time limit.
    #[error("{program} did not make an environment with {} within {limit:?} and was killed: {words}", Listed(.requirements))]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The requirements.
        requirements: Vec<String>,
        /// The time limit.
        limit: Duration,
        /// The end of its output until then.
        words: String,
    },
    /// A folder cannot be used, or is not safe to use.
    #[error("{0}")]
    Folder(Arc<FolderError>),
    /// A file of constraints cannot be read.
    #[error("cannot read the constraints in {path}: {source}")]
    Constraints {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// An operation on a file or folder failed.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// The operation.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The supervisor is being ended.
    #[error("the supervisor was ended while the environment was made")]
    Interrupted,
}

impl EnvironmentError {
    pub(super) fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System { action, path, source: Arc::new(source) }
    }

    /// What may help; it is not part of the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InvalidRequirement { .. } => {
                Some("write requirements as in PEP 508, for example `setuptools>=61`".into())
            }
            Self::Installer { offline: true, .. } => Some(
                "without the network, distributions have to be in the installer's cache or in a folder of wheels"
                    .into(),
            ),
            Self::Installer { words, .. } if tells_of_refusal(words) => Some(
                "an index rejects the credentials: give others in its address, in netrc or in a keyring, as the \
                 installer documents it"
                    .into(),
            ),
            Self::Installer { words, .. } if tells_of_no_network(words) => {
                Some("the index cannot be reached: environments that were made before need no network".into())
            }
            Self::TimedOut { .. } => Some("allow it more time".into()),
            Self::NoInstaller { .. } => Some("install uv, or pip for the interpreter".into()),
            Self::NotMade { words, .. } if words.contains("No module named") => {
                Some("the interpreter needs the module `venv` of the standard library".into())
            }
            Self::Folder(_) | Self::System { .. } => {
                Some("use another cache folder, or set TMPDIR to another folder for temporary files".into())
            }
            Self::Interpreter(_)
            | Self::NotMade { .. }
            | Self::NotStarted { .. }
            | Self::Installer { .. }
            | Self::Constraints { .. }
            | Self::OtherHashes { .. }
            | Self::Interrupted => None,
        }
    }

    /// The setting that the hint mentions.
    #[must_use]
    pub fn setting(&self) -> Option<Setting> {
        match self {
            Self::Installer { offline: true, .. } => Some(Setting::FindLinks),
            Self::Installer { words, .. } if tells_of_no_network(words) => Some(Setting::Offline),
            Self::TimedOut { .. } => Some(Setting::InstallerTimeout),
            Self::NoInstaller { .. } => Some(Setting::Interpreter),
            Self::Folder(_) | Self::System { .. } => Some(Setting::CacheFolder),
            _ => None,
        }
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::System { source, .. } | Self::NotStarted { source, .. } | Self::Constraints { source, .. } => {
                is_refusal(source)
            }
            Self::Folder(error) => matches!(&**error, FolderError::System { source, .. } if is_refusal(source)),
            Self::Interpreter(error) => match &**error {
                InterpreterError::NotStarted { source, .. } => is_refusal(source),
                InterpreterError::Unresponsive { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// The error for a request that needs the environment.
    #[must_use]
    pub fn to_hook_error(&self) -> HookError {
        let kind = match self {
            Self::InvalidRequirement { .. } => ErrorKind::InvalidPyproject,
            Self::Interrupted => ErrorKind::Interrupted,
            _ if self.is_refusal() => ErrorKind::SystemRefused,
            _ => ErrorKind::EnvironmentFailed,
        };
        let mut error = HookError::new(kind, self.to_string());
        (error.hint, error.setting) = (self.hint(), self.setting());
        error
    }
}

impl From<EnvironmentError> for HookError {
    fn from(error: EnvironmentError) -> Self {
        error.to_hook_error()
    }
}

impl From<FolderError> for EnvironmentError {
    fn from(error: FolderError) -> Self {
        Self::Folder(Arc::new(error))
    }
}

/// Whether the output of pip or uv says that an index could not be reached.
fn tells_of_no_network(words: &str) -> bool {
    const SIGNS: [&str; 7] = [
        "Failed to establish a new connection",
        "Temporary failure in name resolution",
        "Name or service not known",
        "Network is unreachable",
        "Connection refused",
        "dns error",
        "error sending request",
    ];
    SIGNS.iter().any(|sign| words.contains(sign))
}

/// Whether the output says that an index demands other credentials.
fn tells_of_refusal(words: &str) -> bool {
    ["401 Unauthorized", "403 Forbidden"].iter().any(|sign| words.contains(sign))
}

/// Requirements for a sentence.
struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("nothing");
        }
        for (number, requirement) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(formatter, "{separator}`{requirement}`")?;
        }
        Ok(())
    }
}
