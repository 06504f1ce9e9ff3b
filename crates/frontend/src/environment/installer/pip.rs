//! pip: not in the environment itself, where hooks would find it.

use std::path::PathBuf;
use std::process::Command;

use super::{Making, Pips, is_offline, variables};
use crate::environment::error::EnvironmentError;

pub(super) fn install(making: &Making<'_>, pips: &Pips) -> Result<Command, EnvironmentError> {
    let mut command = match pips {
        // A wheel can be run as it is: from the folder `pip` in it.
        Pips { wheel: Some(wheel), .. } => {
            let mut command = Command::new(making.python());
            command.arg("-I").arg(wheel.join("pip"));
            command
        }
        Pips { own: true, .. } => {
            let mut command = Command::new(&making.interpreter.executable);
            command.args(["-I", "-m", "pip", "--python"]).arg(making.python());
            command
        }
        Pips { .. } => {
            let reason = format!(
                "{} has no pip: neither its own nor that of ensurepip",
                making.interpreter.executable.display()
            );
            return Err(EnvironmentError::NoInstaller { reason });
        }
    };
    command.args(["install", "--ignore-installed", "--compile", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-color", "--progress-bar", "off", "--no-warn-script-location", "--no-user"]);
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
