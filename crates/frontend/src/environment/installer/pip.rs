//! pip: not in the environment itself, where hooks would find it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::hashes::{self, Hashes};
use super::installation::Files;
use super::own_pip::{OwnPip, release};
use super::requirements_file::is_address;
use super::{Making, is_offline, refusal, variables};
use crate::environment::error::EnvironmentError;

/// In the folder of temporary files.
const LOG: &str = "pip.log";
const REPORT: &str = "report.json";

/// The first version that says what it has installed.
const REPORTS: (u32, u32) = (22, 2);

/// The pip that is run. Both a folder of packages and a wheel can be run from:
/// by the folder `pip` in it, which has what is beside it (a keyring) found too.
struct Pip<'a> {
    place: &'a Path,
    version: &'a str,
    has_keyring: bool,
}

impl<'a> Pip<'a> {
    /// That of the user, if that is new enough; else the one that comes with
    /// Python, as a `wheel`; else whatever there is.
    fn choose(own: Option<&'a OwnPip>, wheel: Option<&'a Path>) -> Option<Self> {
        let own = own.map(|own| {
            let pip = Self { place: &own.folder, version: &own.version, has_keyring: own.has_keyring };
            (pip, own.is_new_enough())
        });
        let of_wheel = |place: &'a Path| {
            let version = place.file_name().and_then(OsStr::to_str).and_then(|name| name.split('-').nth(1));
            Self { place, version: version.unwrap_or_default(), has_keyring: false }
        };
        match (own, wheel) {
            (Some((own, true)), _) | (Some((own, false)), None) => Some(own),
            (_, wheel) => wheel.map(of_wheel),
        }
    }
}

pub(super) fn install(
    making: &Making<'_>,
    own: Option<&OwnPip>,
    wheel: Option<&Path>,
    files: &Files,
    temporary: &Path,
) -> Result<Command, EnvironmentError> {
    let Some(pip) = Pip::choose(own, wheel) else {
        let reason =
            format!("{} has no pip: neither its own nor that of ensurepip", making.interpreter.executable.display());
        return Err(EnvironmentError::NoInstaller { reason });
    };
    let mut command = Command::new(making.python());
    command.arg("-I").arg(pip.place.join("pip"));
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
    for place in index.find_links.iter().filter(|place| !is_address(place)) {
        command.arg("--find-links").arg(place);
    }
    if files.hashes.is_some() {
        if release(pip.version) < REPORTS {
            let reason = format!(
                "build constraints have hashes, which takes uv or pip 22.2 or newer; the pip of {} is {}",
                making.interpreter.executable.display(),
                pip.version
            );
            return Err(EnvironmentError::NoInstaller { reason });
        }
        // What is built runs code, before anything can be compared.
        command.args(["--only-binary", ":all:", "--report"]).arg(temporary.join(REPORT));
    }
    for file in &files.constraints {
        command.arg("--constraint").arg(file);
    }
    command.arg("--requirement").arg(&files.requirements);
    variables::clean(&mut command);
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    // Without a person to ask, pip asks a keyring only if it is told to.
    if pip.has_keyring && !making.installation.pip_was_told("keyring-provider") {
        command.env("PIP_KEYRING_PROVIDER", "import");
    }
    constrain_builds(&mut command, &files.constraints, pip.version);
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

/// What of the installed has other hashes than it is to have. Reads the report.
pub(super) fn mismatches(temporary: &Path, hashes: &Hashes) -> Vec<String> {
    let report = std::fs::read_to_string(temporary.join(REPORT)).unwrap_or_default();
    let unreadable = |error| vec![format!("the report of pip cannot be read: {error}")];
    hashes::mismatches(&report, hashes).unwrap_or_else(unreadable)
}

/// What the log of a pip says of indexes that refused to answer. Reads it.
pub(super) fn refusals(temporary: &Path) -> Vec<String> {
    let log = std::fs::read(temporary.join(LOG)).unwrap_or_default();
    refusal::refusals(&String::from_utf8_lossy(&log))
}

/// Whether a pip of this version has what `PIP_CONSTRAINT` names hold for
/// builds, too.
pub(super) fn obeys_run_time_constraints(version: &str) -> bool {
    release(version) < (26, 2)
}

/// The constraints hold for what building a requirement takes in turn too. That
/// reads a variable; since pip 25.3 another one.
fn constrain_builds(command: &mut Command, constraints: &[PathBuf], version: &str) {
    let mut names: Vec<String> = constraints.iter().map(|file| file.display().to_string()).collect();
    // A name with a space cannot be said there.
    names.retain(|name| !name.contains(char::is_whitespace));
    if !names.is_empty() {
        command.env("PIP_BUILD_CONSTRAINT", names.join(" "));
    }
    if obeys_run_time_constraints(version) {
        if !names.is_empty() {
            names.extend(std::env::var("PIP_CONSTRAINT").ok());
            command.env("PIP_CONSTRAINT", names.join(" "));
        }
    } else {
        // A variable counts more than a file of configuration, if it is not empty.
        command.env("PIP_CONSTRAINT", "/dev/null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_is_taken_if_it_is_new_enough() {
        let own = |version: &str| OwnPip { folder: "/own".into(), version: version.into(), has_keyring: true };
        let wheel = Path::new("/bundled/pip-23.2.1-py3-none-any.whl");
        let (new, old) = (own("26.3"), own("20.0"));
        let chosen = |own, wheel| Pip::choose(own, wheel).map(|pip| (pip.place.to_owned(), pip.version.to_owned()));
        let expected = |place: &Path, version: &str| Some((place.to_owned(), version.to_owned()));
        assert_eq!(chosen(Some(&new), Some(wheel)), expected(&new.folder, "26.3"));
        assert_eq!(chosen(Some(&old), Some(wheel)), expected(wheel, "23.2.1"));
        assert_eq!(chosen(Some(&old), None), expected(&old.folder, "20.0"));
        assert_eq!(chosen(None, Some(wheel)), expected(wheel, "23.2.1"));
        assert_eq!(chosen(None, None), None);
    }

    #[test]
    fn run_time_constraints_hold_for_older_ones_only() {
        let environment = |constraints: &[&str], version: &str| {
            let mut command = Command::new("pip");
            let files: Vec<PathBuf> = constraints.iter().map(PathBuf::from).collect();
            constrain_builds(&mut command, &files, version);
            let variables = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)));
            variables
                .map(|(name, value)| format!("{}={}", name.display(), value.unwrap().display()))
                .collect::<Vec<_>>()
        };
        assert_eq!(environment(&[], "26.1.2"), Vec::<String>::new());
        assert_eq!(environment(&[], "26.2"), ["PIP_CONSTRAINT=/dev/null"]);
        assert_eq!(
            environment(&["/a", "/with space"], "26.3"),
            ["PIP_BUILD_CONSTRAINT=/a", "PIP_CONSTRAINT=/dev/null"]
        );
        assert_eq!(environment(&["/a", "/b"], "23.2.1"), ["PIP_BUILD_CONSTRAINT=/a /b", "PIP_CONSTRAINT=/a /b"]);
    }
}
