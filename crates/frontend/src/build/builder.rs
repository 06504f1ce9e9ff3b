//! How a frontend is made.

use std::fmt;
use std::sync::Arc;

use hookpool_supervisor::Supervisor;
use serde_json::{Map, Value};

use super::event::{BuildEvent, BuildObserver};
use super::frontend::{Frontend, Shared};
use super::logs::LogFolder;
use crate::environment::Environments;
use crate::extensions::ExtensionPolicy;
use crate::output::OutputFolder;
use crate::run_folder::{RunFolder, RunFolderError};

/// What all sources of a frontend have in common.
#[derive(Clone, Debug)]
pub(crate) struct FrontendSettings {
    pub config_settings: Option<Map<String, Value>>,
    pub static_metadata: bool,
    pub keep_wheels: Option<Arc<OutputFolder>>,
    pub extensions: ExtensionPolicy,
    pub check_requires_python: bool,
}

/// Settings of a [`Frontend`].
#[must_use]
pub struct FrontendBuilder {
    supervisor: Supervisor,
    environments: Option<Environments>,
    settings: FrontendSettings,
    logs: Option<LogFolder>,
    observer: Box<dyn BuildObserver>,
}

impl fmt::Debug for FrontendBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FrontendBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl FrontendBuilder {
    pub(super) fn new(supervisor: Supervisor) -> Self {
        let settings = FrontendSettings {
            config_settings: None,
            static_metadata: true,
            keep_wheels: None,
            extensions: ExtensionPolicy::default(),
            check_requires_python: false,
        };
        Self { supervisor, environments: None, settings, logs: None, observer: Box::new(|_: &BuildEvent| {}) }
    }

    /// Where hooks run. Default: in the supervisor's interpreter as it is.
    pub fn environments(mut self, environments: Option<Environments>) -> Self {
        self.environments = environments;
        self
    }

    /// What hooks get as `config_settings` (PEP 517). Default: none.
    pub fn config_settings(mut self, settings: Option<Map<String, Value>>) -> Self {
        self.settings.config_settings = settings;
        self
    }

    /// Whether metadata are taken from the `PKG-INFO` of archives where the
    /// specification allows it (PEP 643). Default: yes.
    pub fn static_metadata(mut self, allowed: bool) -> Self {
        self.settings.static_metadata = allowed;
        self
    }

    /// Where wheels are kept that had to be built for their metadata. Default:
    /// nowhere.
    pub fn keep_wheels(mut self, folder: Option<Arc<OutputFolder>>) -> Self {
        self.settings.keep_wheels = folder;
        self
    }

    /// What becomes of metadata that declare extensions. Default: none is
    /// supported, and metadata that require one are an error.
    pub fn extensions(mut self, policy: ExtensionPolicy) -> Self {
        self.settings.extensions = policy;
        self
    }

    /// Whether it is an error to build a project with a Python that it does not
    /// support, and not only a warning. Default: no.
    pub fn check_requires_python(mut self, check: bool) -> Self {
        self.settings.check_requires_python = check;
        self
    }

    /// Where what hooks wrote is kept. Default: nowhere.
    pub fn logs(mut self, logs: LogFolder) -> Self {
        self.logs = Some(logs);
        self
    }

    /// Somebody who is told what happens.
    pub fn observer(mut self, observer: impl BuildObserver + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Makes the folder that archives are unpacked in, among the temporary
    /// files; it is removed with the last clone of the frontend.
    ///
    /// # Errors
    /// [`RunFolderError`]: there is no place for it.
    pub fn start(self) -> Result<Frontend, RunFolderError> {
        let Self { supervisor, environments, settings, logs, observer } = self;
        let work = RunFolder::temporary("work")?;
        Ok(Frontend { shared: Arc::new(Shared { supervisor, environments, settings, logs, work, observer }) })
    }
}
