//! What happens with build environments, and why one cannot be had.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookpool_supervisor::files::{FolderError, is_refusal};
use hookpool_supervisor::{ErrorKind, HookError, InterpreterError, Setting};

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

/// Why there is no build environment. Nothing in it contains credentials.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// What is required is not a requirement of PEP 508.
    #[error("{requirement:?} is not a requirement: {reason}")]
    InvalidRequirement {
        /// As it was written.
        requirement: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The interpreter cannot be used.
    #[error("{0}")]
    Interpreter(Arc<InterpreterError>),
    /// There is nothing to install with.
    #[error("{reason}")]
    NoInstaller {
        /// What was looked for, and where.
        reason: String,
    },
    /// The interpreter could not make an environment.
    #[error("{python} could not make a virtual environment: {words}")]
    NotMade {
        /// The interpreter.
        python: PathBuf,
        /// Its own words.
        words: String,
    },
    /// The installer failed.
    #[error("{installer} could not install {}: {words}", Listed(.requirements))]
    Installer {
        /// Which one.
        installer: InstallerKind,
        /// What it was to install.
        requirements: Vec<String>,
        /// Its own words, or the end of them.
        words: String,
        /// Whether it was kept from the network.
        offline: bool,
    },
    /// What was installed is not what the constraints have hashes of.
    #[error("what was installed is not what is expected: {}", .mismatches.join("; "))]
    OtherHashes {
        /// Which hashes were found and expected, by distribution.
        mismatches: Vec<String>,
    },
    /// A program that makes an environment did not end.
    #[error("{program} did not make an environment with {} within {limit:?} and was ended: {words}", Listed(.requirements))]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// What the environment was to have.
        requirements: Vec<String>,
        /// How long it was given.
        limit: Duration,
        /// Its own words until then, or the end of them.
        words: String,
    },
    /// A folder cannot be trusted or used.
    #[error("{0}")]
    Folder(Arc<FolderError>),
    /// A file of constraints cannot be read.
    #[error("cannot read the constraints in {path}: {source}")]
    Constraints {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The system says no.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The system could not start a program that makes it.
    #[error("cannot start {program}: {source}")]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The supervisor ends.
    #[error("the supervisor was ended while the environment was made")]
    Interrupted,
}

impl EnvironmentError {
    pub(super) fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System { action, path, source: Arc::new(source) }
    }

    /// What might help. Never part of the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InvalidRequirement { .. } => {
                Some("requirements are written as PEP 508 says, for example `setuptools>=61`".into())
            }
            Self::Installer { offline: true, .. } => Some(
                "the network is not used: what is not in the installer's cache must be in a folder of wheels".into(),
            ),
            Self::Installer { words, .. } if tells_of_refusal(words) => Some(
                "an index asks for other credentials: in its address, in netrc, or by a keyring, as the installer \
                 documents it"
                    .into(),
            ),
            Self::Installer { words, .. } if tells_of_no_network(words) => {
                Some("the index cannot be reached: what was installed before does without the network".into())
            }
            Self::TimedOut { .. } => Some("it can be given more time".into()),
            Self::NoInstaller { .. } => Some("install uv, or pip for the interpreter".into()),
            Self::NotMade { words, .. } if words.contains("No module named") => {
                Some("the interpreter needs the module `venv` of the standard library".into())
            }
            Self::Folder(_) | Self::System { .. } => {
                Some("the cache folder can be another one; TMPDIR names the one for temporary files".into())
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

    /// The setting that the hint is about.
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

    /// As the answer to a request that needs the environment.
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

/// Whether an installer could not reach its index, as pip and uv say it.
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

/// Whether an index wanted other credentials, as uv and our own words say it.
fn tells_of_refusal(words: &str) -> bool {
    ["401 Unauthorized", "403 Forbidden"].iter().any(|sign| words.contains(sign))
}

/// Requirements in a sentence.
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
