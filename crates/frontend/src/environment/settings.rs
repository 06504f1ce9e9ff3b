//! What environments are made from, and where.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use hookpool_supervisor::Timeout;

/// Which program installs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstallerChoice {
    /// uv where it is found, else pip.
    #[default]
    Auto,
    /// uv: what the variable `UV` names, or the first on PATH.
    Uv,
    /// pip: the one that comes with the interpreter.
    Pip,
}

/// Where distributions are looked for. What is not set here is as the
/// installer's own variables and configuration files say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IndexOptions {
    /// The index to ask in place of PyPI.
    pub index_url: Option<String>,
    /// Indexes to ask beside it.
    pub extra_index_urls: Vec<String>,
    /// Folders, or pages of links, to look in as well.
    pub find_links: Vec<String>,
    /// Whether no index is asked at all.
    pub no_index: bool,
}

impl std::fmt::Debug for IndexOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let redacted = |texts: &[String]| texts.iter().map(|text| super::redact(text).into_owned()).collect::<Vec<_>>();
        formatter
            .debug_struct("IndexOptions")
            .field("index_url", &self.index_url.as_deref().map(super::redact))
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
    /// They are kept in its folder `environments`.
    pub cache_folder: PathBuf,
    /// What installs.
    pub installer: InstallerChoice,
    /// How long it may run for an environment.
    pub installer_timeout: Option<Timeout>,
    /// Where distributions come from.
    pub index: IndexOptions,
    /// Files of constraints on what is installed.
    pub build_constraints: Vec<PathBuf>,
    /// Whether what a list resolves to is asked anew, once for each list.
    pub refresh: bool,
    /// Whether the network is not used.
    pub offline: bool,
    /// How many installers run at once.
    pub jobs: NonZeroUsize,
}

impl EnvironmentSettings {
    /// Requirements may have to be compiled, which takes its time.
    const INSTALLER_TIMEOUT: Timeout = Timeout::from_secs(60 * 60);

    /// Everything else as it is by default; one installer at a time, for an hour
    /// at most.
    #[must_use]
    pub fn new(cache_folder: impl Into<PathBuf>) -> Self {
        Self {
            cache_folder: cache_folder.into(),
            installer: InstallerChoice::default(),
            installer_timeout: Some(Self::INSTALLER_TIMEOUT),
            index: IndexOptions::default(),
            build_constraints: Vec::new(),
            refresh: false,
            offline: false,
            jobs: NonZeroUsize::MIN,
        }
    }
}
