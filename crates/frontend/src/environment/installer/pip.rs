//! pip: not in the environment itself, where hooks would find it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::own_pip::OwnPip;
use super::{Making, is_offline, refusal, variables};
use crate::environment::error::EnvironmentError;

/// In the folder of temporary files.
const LOG: &str = "pip.log";

/// The pip of the user, if that is new enough; else the one that comes with
/// Python, as a `wheel`; else whatever there is.
pub(super) fn install(
    making: &Making<'_>,
    own: Option<&OwnPip>,
    wheel: Option<&Path>,
    temporary: &Path,
) -> Result<Command, EnvironmentError> {
    let own_folder = own.map(|own| own.folder.as_path());
    let newer = own.filter(|own| own.is_new_enough()).map(|own| own.folder.as_path());
    let Some(place) = newer.or(wheel).or(own_folder) else {
        let reason =
            format!("{} has no pip: neither its own nor that of ensurepip", making.interpreter.executable.display());
        return Err(EnvironmentError::NoInstaller { reason });
    };
    // Both a folder of packages and a wheel can be run from: by the folder `pip`
    // in it, which has what is beside it (a keyring) found as well.
    let mut command = Command::new(making.python());
    command.arg("-I").arg(place.join("pip"));
    command.args(["install", "--ignore-installed", "--compile", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-color", "--progress-bar", "off", "--no-warn-script-location", "--no-user"]);
    if !making.installation.pip_was_told("log") {
        command.arg("--log").arg(temporary.join(LOG));
    }
    let settings = making.settings;
    let index = &settings.index;
    // pip cannot be kept from the network in another way.
    if index.no_index || is_offline(settings) {
        command.arg("--no-index");
    }
    for place in &index.find_links {
        command.arg("--find-links").arg(place);
    }
    let constraints = &making.installation.constraints.files;
    for file in constraints {
        command.arg("--constraint").arg(file);
    }
    command.arg("--").args(making.requirements);
    variables::clean(&mut command);
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    // Without a person to ask, pip asks a keyring only if it is told to.
    if newer.is_some()
        && own.is_some_and(|own| own.has_keyring)
        && !making.installation.pip_was_told("keyring-provider")
    {
        command.env("PIP_KEYRING_PROVIDER", "import");
    }
    if !constraints.is_empty() {
        constrain_builds(&mut command, constraints);
    }
    // Not as arguments, which everybody on the machine can read.
    if let Some(url) = &index.index_url {
        command.env("PIP_INDEX_URL", url);
    }
    if !index.extra_index_urls.is_empty() {
        let inherited = std::env::var("PIP_EXTRA_INDEX_URL").ok();
        let urls: Vec<&str> = index.extra_index_urls.iter().map(String::as_str).chain(inherited.as_deref()).collect();
        command.env("PIP_EXTRA_INDEX_URL", urls.join(" "));
    }
    Ok(command)
}

/// What the log of a pip says of indexes that refused to answer. Reads it.
pub(super) fn refusals(temporary: &Path) -> Vec<String> {
    let log = std::fs::read(temporary.join(LOG)).unwrap_or_default();
    refusal::refusals(&String::from_utf8_lossy(&log))
}

/// The constraints hold for what building a requirement takes in turn too. That
/// reads a variable; since pip 25.3 another one.
fn constrain_builds(command: &mut Command, constraints: &[PathBuf]) {
    let mut names: Vec<String> = constraints.iter().map(|file| file.display().to_string()).collect();
    // A name with a space cannot be said there.
    names.retain(|name| !name.contains(char::is_whitespace));
    command.env("PIP_BUILD_CONSTRAINT", names.join(" "));
    names.extend(std::env::var("PIP_CONSTRAINT").ok());
    command.env("PIP_CONSTRAINT", names.join(" "));
}
