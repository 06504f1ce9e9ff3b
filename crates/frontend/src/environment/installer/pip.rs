//! pip. It is not installed into the environment, where hooks would find it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookpool_supervisor::Interpreter;
use hookpool_supervisor::files::{kept, unblock};

use super::hashes::{self, Hashes};
use super::requirements_file::is_address;
use super::{InstallTarget, Installation, Installer, InstallerFiles, is_offline, remove_variables};
use crate::environment::error::EnvironmentError;
use crate::redact::redact;

/// Files in the folder for temporary files.
const LOG: &str = "pip.log";
const REPORT: &str = "report.json";

/// The first version with `--report`.
const REPORTS: (u32, u32) = (22, 2);

/// The pip that runs, from a folder of packages or from a wheel: as the folder
/// `pip` in it, so that it can import what is beside it, such as a keyring.
struct Pip<'a> {
    place: &'a Path,
    version: &'a str,
    has_keyring: bool,
}

impl<'a> Pip<'a> {
    /// The user's pip, if it is new enough; else the `wheel` that comes with Python;
    /// else the user's old one.
    fn choose(own: Option<&'a UserPip>, wheel: Option<&'a Path>) -> Option<Self> {
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

/// The command that installs.
pub(super) fn install(
    installation: &Installation,
    target: &InstallTarget<'_>,
    own: Option<&UserPip>,
    wheel: Option<&Path>,
    files: &InstallerFiles,
    temporary: &Path,
) -> Result<Command, EnvironmentError> {
    let Some(pip) = Pip::choose(own, wheel) else {
        let reason = format!("{} has no pip, and no ensurepip", target.interpreter.executable.display());
        return Err(EnvironmentError::NoInstaller { reason });
    };
    let mut command = Command::new(target.python);
    command.arg("-I").arg(pip.place.join("pip"));
    command.args(["install", "--ignore-installed", "--no-compile", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-color", "--progress-bar", "off", "--no-warn-script-location", "--no-user"]);
    if !installation.pip_was_told("log") {
        command.arg("--log").arg(temporary.join(LOG));
    }
    let settings = target.settings;
    let index = &settings.index;
    // pip has no other way to be kept from the network.
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
                target.interpreter.executable.display(),
                pip.version
            );
            return Err(EnvironmentError::NoInstaller { reason });
        }
        // A build would run code before its hash is compared.
        command.args(["--only-binary", ":all:", "--report"]).arg(temporary.join(REPORT));
    }
    for file in &files.constraints {
        command.arg("--constraint").arg(file);
    }
    command.arg("--requirement").arg(&files.requirements);
    remove_variables(&mut command);
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    // With --no-input, pip asks a keyring only if it is told to.
    if pip.has_keyring && !installation.pip_was_told("keyring-provider") {
        command.env("PIP_KEYRING_PROVIDER", "import");
    }
    constrain_builds(&mut command, &files.constraints, pip.version, settings.text_variable("PIP_CONSTRAINT"));
    // Everybody on the machine can read arguments.
    if let Some(url) = &index.index_url {
        command.env("PIP_INDEX_URL", url);
    }
    if !index.extra_index_urls.is_empty() {
        let inherited = settings.text_variable("PIP_EXTRA_INDEX_URL");
        let urls: Vec<&str> = index.extra_index_urls.iter().map(String::as_str).chain(inherited.as_deref()).collect();
        command.env("PIP_EXTRA_INDEX_URL", urls.join(" "));
    }
    Ok(command)
}

/// Compares the hashes in pip's report with those of the constraints: a message for
/// each that differs. Blocks.
pub(in crate::environment) fn mismatches(temporary: &Path, hashes: &Hashes) -> Vec<String> {
    let report = std::fs::read_to_string(temporary.join(REPORT)).unwrap_or_default();
    let unreadable = |error| vec![format!("the report of pip cannot be read: {error}")];
    hashes::mismatches(&report, hashes).unwrap_or_else(unreadable)
}

/// The indexes that have refused access: pip treats them as empty, and reports them
/// in its log only. Blocks.
pub(in crate::environment) fn refusals(temporary: &Path) -> Vec<String> {
    let log = std::fs::read(temporary.join(LOG)).unwrap_or_default();
    refusals_in(&String::from_utf8_lossy(&log))
}

/// Whether a pip of this version applies `PIP_CONSTRAINT` to builds, too.
pub(super) fn obeys_run_time_constraints(version: &str) -> bool {
    release(version) < (26, 2)
}

/// Applies the constraints to the builds of requirements too: by a variable, since
/// pip 25.3 by another one.
fn constrain_builds(command: &mut Command, constraints: &[PathBuf], version: &str, inherited: Option<String>) {
    let mut names: Vec<String> = constraints.iter().map(|file| file.display().to_string()).collect();
    // Spaces separate the names.
    names.retain(|name| !name.contains(char::is_whitespace));
    if !names.is_empty() {
        command.env("PIP_BUILD_CONSTRAINT", names.join(" "));
    }
    if obeys_run_time_constraints(version) {
        if !names.is_empty() {
            names.extend(inherited);
            command.env("PIP_CONSTRAINT", names.join(" "));
        }
    } else {
        // A variable that is not empty overrides the configuration files.
        command.env("PIP_CONSTRAINT", "/dev/null");
    }
}

/// The pip that is installed for an interpreter: its user knows it and keeps it up
/// to date.
pub(in crate::environment) struct UserPip {
    /// The `site-packages` folder.
    pub folder: PathBuf,
    /// For example `23.2.1`.
    pub version: String,
    /// Whether `keyring` is installed too, which it can ask for credentials.
    pub has_keyring: bool,
}

impl UserPip {
    /// The first version that can install for another interpreter.
    const OLDEST: (u32, u32) = (22, 3);

    /// Blocks, as looking at files does.
    pub fn find(interpreter: &Interpreter) -> Option<Self> {
        interpreter.site_folders.iter().find_map(|folder| Self::within(folder))
    }

    fn within(folder: &Path) -> Option<Self> {
        if !folder.join("pip/__main__.py").is_file() {
            return None;
        }
        let names = folder.read_dir().ok()?.flatten().map(|entry| entry.file_name());
        let version = names.filter_map(|name| pip_version(name.to_str()?).map(str::to_owned)).next()?;
        Some(Self { folder: folder.to_owned(), version, has_keyring: folder.join("keyring/__init__.py").is_file() })
    }

    /// Whether it is used in place of the one that comes with Python.
    fn is_new_enough(&self) -> bool {
        release(&self.version) >= Self::OLDEST
    }
}

/// The version in the name of pip's `.dist-info` folder.
fn pip_version(name: &str) -> Option<&str> {
    name.strip_prefix("pip-")?.strip_suffix(".dist-info")
}

/// The first two numbers of a version.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// pip's configuration for one interpreter (`pip config --site`), in the prefix of
/// that.
pub(super) const CONFIGURATION_NAME: &str = "pip.conf";

/// A link in the environment to the user's [`CONFIGURATION_NAME`]. The interpreter of
/// the environment runs pip, which so looks there. The link exists only while pip
/// installs: the file may contain credentials.
pub(in crate::environment) struct PipConfiguration {
    link: Option<PathBuf>,
}

impl PipConfiguration {
    /// Makes the link in an environment, if pip installs and there is such a file in the
    /// prefix of the user's interpreter.
    pub async fn lend(installer: &Installer, prefix: &Path, environment: &Path) -> Result<Self, EnvironmentError> {
        if !matches!(installer, Installer::Pip(_)) {
            return Ok(Self { link: None });
        }
        let (file, link) = (prefix.join(CONFIGURATION_NAME), environment.join(CONFIGURATION_NAME));
        let linked = {
            let link = link.clone();
            unblock(move || lend(&file, &link)).await
        };
        let linked = linked.map_err(EnvironmentError::system("link", &link))?;
        Ok(Self { link: linked.then_some(link) })
    }

    /// Removes the link.
    pub async fn take_back(self) -> Result<(), EnvironmentError> {
        let Some(link) = self.link else { return Ok(()) };
        unblock(move || kept::remove(&link).map_err(EnvironmentError::system("remove", &link))).await
    }
}

fn lend(file: &Path, link: &Path) -> io::Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    std::os::unix::fs::symlink(file, link)?;
    Ok(true)
}

/// Each once: `https://... answered 403 Forbidden`.
fn refusals_in(log: &str) -> Vec<String> {
    const REFUSALS: [(&str, &str); 2] =
        [("401 Client Error", "401 Unauthorized"), ("403 Client Error", "403 Forbidden")];
    let refusal = |line: &str| {
        let (_, answer) = REFUSALS.into_iter().find(|(sign, _)| line.contains(sign))?;
        let address = line.split(" for url: ").nth(1)?.split_whitespace().next()?;
        Some(format!("{} answered {answer}", redact(address)))
    };
    let found: BTreeSet<String> = log.lines().filter_map(refusal).collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_pip_is_used_if_it_is_new_enough() {
        let own = |version: &str| UserPip { folder: "/own".into(), version: version.into(), has_keyring: true };
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
    fn run_time_constraints_apply_with_older_versions_only() {
        let environment = |constraints: &[&str], version: &str| {
            let mut command = Command::new("pip");
            let files: Vec<PathBuf> = constraints.iter().map(PathBuf::from).collect();
            constrain_builds(&mut command, &files, version, None);
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

    #[test]
    fn versions_are_compared_as_numbers() {
        let is_new_enough = |version: &str| {
            UserPip { folder: PathBuf::new(), version: version.into(), has_keyring: false }.is_new_enough()
        };
        for (version, expected) in
            [("22.3", true), ("22.3.1", true), ("26.3", true), ("100.0", true), ("22.2.2", false), ("9.0.1", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        assert_eq!((release("26.3rc1"), release("x")), ((26, 3), (0, 0)));
        assert_eq!((pip_version("pip-26.3.dist-info"), pip_version("pipx-1.dist-info")), (Some("26.3"), None));
    }

    #[test]
    fn refused_addresses_are_listed_once_and_redacted() {
        let log = "2026-11-27T15:24:45,229 Fetching project page\n\
                   x Could not fetch URL http://u:****@h/s/a/: 403 Client Error: Forbidden for url: http://u:p@h/s/a/ - skipping\n\
                   x Could not fetch URL http://h/s/a/: 403 Client Error: Forbidden for url: http://u:p@h/s/a/ - skipping\n\
                   x Could not fetch URL http://h/s/b/: 401 Client Error: Unauthorized for url: http://h/s/b/ - skipping\n\
                   x Could not fetch URL http://h/s/c/: 404 Client Error: Not Found for url: http://h/s/c/ - skipping\n";
        assert_eq!(
            refusals_in(log),
            ["http://***@h/s/a/ answered 403 Forbidden", "http://h/s/b/ answered 401 Unauthorized"]
        );
    }
}
