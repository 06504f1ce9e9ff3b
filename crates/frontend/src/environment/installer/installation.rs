//! What installs into the environments of an interpreter, and all that its
//! answers depend on.

use hookpool_supervisor::Interpreter;

use super::configuration::Configuration;
use super::constraints::Constraints;
use super::deciding::is_read_by_builds;
use super::told::{Told, in_index_options};
use super::{Installer, InstallerKind, is_offline, variables};
use crate::environment::contents::digest;
use crate::environment::error::EnvironmentError;
use crate::environment::redact::redact;
use crate::environment::settings::EnvironmentSettings;

/// An installer, and what it was told when it was first asked for.
#[derive(Clone, Debug)]
pub(in crate::environment) struct Installation {
    pub installer: Installer,
    configuration: Configuration,
    pub(super) constraints: Constraints,
    /// A digest of what [`deciding`](super::deciding) lists.
    fingerprint: String,
}

impl Installation {
    /// Looks for the installer that the settings ask for, and reads what it is
    /// told. Blocks, as looking at files does.
    pub fn find(settings: &EnvironmentSettings, interpreter: &Interpreter) -> Result<Self, EnvironmentError> {
        let configuration = Configuration::read(&interpreter.prefix);
        let installer = Installer::find(settings, interpreter, &configuration)?;
        let constraints = Constraints::find(settings, &configuration, installer.kind())?;
        let fingerprint = fingerprint(settings, &installer, &configuration, &constraints);
        Ok(Self { installer, configuration, constraints, fingerprint })
    }

    /// Whether the user gave pip a setting.
    pub(super) fn pip_was_told(&self, name: &str) -> bool {
        self.configuration.of(InstallerKind::Pip).iter().any(|told| told.name == name)
    }

    /// What belongs to every question that it answers.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Whether answers are believed whatever their age: nobody can be asked.
pub(in crate::environment) fn believes_any_age(settings: &EnvironmentSettings) -> bool {
    is_offline(settings) || settings.index.no_index || variables::says_yes("PIP_NO_INDEX")
}

fn fingerprint(
    settings: &EnvironmentSettings,
    installer: &Installer,
    configuration: &Configuration,
    constraints: &Constraints,
) -> String {
    let mut texts = installer.question();
    texts.push("settings".into());
    let folder = std::env::current_dir().unwrap_or_default();
    texts.extend(in_index_options(&settings.index, &folder).iter().flat_map(Told::question));
    texts.push("constraints".into());
    texts.extend_from_slice(constraints.question());
    texts.push("configuration".into());
    texts.extend(configuration.of(installer.kind()).iter().flat_map(Told::question));
    texts.push("variables".into());
    texts.extend(build_variables());
    digest(texts.iter().map(String::as_str))
}

/// The variables that builds of requirements read, in order.
fn build_variables() -> Vec<String> {
    let mut variables: Vec<String> = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(is_read_by_builds))
        .map(|(name, value)| format!("{}={}", name.display(), redact(&value.to_string_lossy())))
        .collect();
    variables.sort_unstable();
    variables
}
