//! The settings of build environments.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use hookpool_supervisor::{CallerProcess, Timeout};
use serde::{Deserialize, Serialize};

use crate::redact::redact;

/// The choice of an installer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstallerChoice {
    /// uv where it is found, else pip.
    #[default]
    Auto,
    /// uv: the program that the variable `UV` names, or the first on PATH.
    Uv,
    /// pip: that of the interpreter.
    Pip,
}

/// A program that installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstallerKind {
    /// uv.
    Uv,
    /// pip.
    Pip,
}

impl fmt::Display for InstallerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Uv => "uv",
            Self::Pip => "pip",
        })
    }
}

/// Where installers look for distributions. Anything that is not set here is taken from the
/// installer's own variables and configuration files.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IndexOptions {
    /// The index in place of PyPI.
    pub index_url: Option<String>,
    /// More indexes.
    pub extra_index_urls: Vec<String>,
    /// Folders with distributions, or pages with links to them.
    pub find_links: Vec<String>,
    /// Whether no index is used.
    pub no_index: bool,
}

impl fmt::Debug for IndexOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = |texts: &[String]| texts.iter().map(|text| redact(text).into_owned()).collect::<Vec<_>>();
        formatter
            .debug_struct("IndexOptions")
            .field("index_url", &self.index_url.as_deref().map(redact))
            .field("extra_index_urls", &redacted(&self.extra_index_urls))
            .field("find_links", &redacted(&self.find_links))
            .field("no_index", &self.no_index)
            .finish()
    }
}

/// How environments are made and kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnvironmentSettings {
    /// The folder whose subfolder `environments` keeps them.
    pub cache_folder: PathBuf,
    /// The process whose variables, umask and limits installers have. `None`: this
    /// one.
    pub caller: Option<Arc<CallerProcess>>,
    /// The installer.
    pub installer: InstallerChoice,
    /// The time limit of each program that makes an environment.
    pub installer_timeout: Option<Timeout>,
    /// Where the installer looks for distributions.
    pub index: IndexOptions,
    /// Files with constraints on what is installed.
    pub build_constraints: Vec<PathBuf>,
    /// Whether resolutions from before this run are not used.
    pub refresh: bool,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The number of processes of pip that run at once, for those who bring no job slot. Of uv,
    /// twice as many do, for all.
    pub jobs: NonZeroUsize,
}

impl EnvironmentSettings {
    /// Long enough to compile requirements.
    const INSTALLER_TIMEOUT: Timeout = Timeout::from_secs(60 * 60);

    /// The default settings: one installer at a time, for an hour at most.
    #[must_use]
    pub fn new(cache_folder: impl Into<PathBuf>) -> Self {
        Self {
            cache_folder: cache_folder.into(),
            caller: None,
            installer: InstallerChoice::default(),
            installer_timeout: Some(Self::INSTALLER_TIMEOUT),
            index: IndexOptions::default(),
            build_constraints: Vec::new(),
            refresh: false,
            offline: false,
            jobs: NonZeroUsize::MIN,
        }
    }

    /// A variable of the installers.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        match &self.caller {
            Some(caller) => caller.variables.get(OsStr::new(name)).cloned(),
            None => std::env::var_os(name),
        }
    }

    /// The same, if it is UTF-8.
    pub(super) fn text_variable(&self, name: &str) -> Option<String> {
        self.variable(name)?.into_string().ok()
    }

    /// All variables of the installers.
    pub(super) fn variables(&self) -> BTreeMap<OsString, OsString> {
        match &self.caller {
            Some(caller) => caller.variables.clone(),
            None => std::env::vars_os().collect(),
        }
    }
}
