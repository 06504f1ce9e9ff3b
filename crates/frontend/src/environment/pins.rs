//! Requirements that an installer has resolved to single versions, and what these
//! were installed as.
//!
//! A pin names a version and the digests of all its files in the index. An
//! installer with the same settings and the same interpreter chooses the same of
//! them, so a distribution that was kept for a pin need not be installed again.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use hookpool_supervisor::files::{Links, read_regular_file};
use pep508_rs::PackageName;
use serde::{Deserialize, Serialize};

use super::contents::{Distribution, digest};
use super::distributions::Distributions;

/// A version of a distribution, with the digests of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// Normalised.
    name: String,
    version: String,
    /// Sorted; `sha256:...`.
    hashes: Vec<String>,
}

impl Pin {
    /// Reads what `uv pip compile --generate-hashes` prints. `None` if there is
    /// anything but versions with digests, such as an address.
    pub fn parse(printed: &str) -> Option<Vec<Self>> {
        let joined = printed.replace("\\\n", " ");
        let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(Self::of_line).collect()
    }

    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (name, version) = words.next()?.split_once("==")?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._+!-".contains(letter);
        if version.is_empty() || !version.chars().all(is_plain) {
            return None;
        }
        let name = PackageName::from_str(name).ok()?.to_string();
        let mut hashes: Vec<String> =
            words.map(|word| word.strip_prefix("--hash=").map(str::to_owned)).collect::<Option<_>>()?;
        hashes.sort_unstable();
        (!hashes.is_empty()).then(|| Self { name, version: version.to_owned(), hashes })
    }

    /// A requirement that only this version, and only these files satisfy, as a line
    /// of a requirements file.
    pub fn line(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!(" --hash={hash}")).collect();
        format!("{}=={}{hashes}\n", self.name, self.version)
    }

    /// What decides which file is installed, and how: `key` is that of the
    /// interpreter and of the installer.
    pub fn id(&self, key: &str) -> String {
        let own = [key, &self.name, &self.version];
        digest(own.into_iter().chain(self.hashes.iter().map(String::as_str)))
    }
}

/// What a pin was installed as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstalledPin {
    pub distribution: Distribution,
    /// The name of the kept distribution.
    pub kept: String,
    pub outside: OutsideFiles,
}

/// All pins of a list, and what is kept of them.
pub(super) struct Pins(Vec<KnownPin>);

struct KnownPin {
    pin: Pin,
    id: String,
    installed: Option<InstalledPin>,
}

impl Pins {
    /// Nothing is looked up yet. `key` is that of the interpreter and of the installer.
    pub fn new(pins: Vec<Pin>, key: &str) -> Self {
        let known = |pin: Pin| KnownPin { id: pin.id(key), pin, installed: None };
        Self(pins.into_iter().map(known).collect())
    }

    /// Looks up what is kept. Blocks.
    pub fn look_up(&mut self, distributions: &Distributions) {
        for known in self.0.iter_mut().filter(|known| known.installed.is_none()) {
            known.installed = distributions.installed_pin(&known.id);
        }
    }

    /// The same for the same pins of the same interpreter and installer.
    pub fn id(&self) -> String {
        let mut ids: Vec<&str> = self.0.iter().map(|known| known.id.as_str()).collect();
        ids.sort_unstable();
        digest(ids)
    }

    pub fn kept(&self) -> Vec<InstalledPin> {
        self.0.iter().filter_map(|known| known.installed.clone()).collect()
    }

    /// The distributions, sorted, if all of them are kept.
    pub fn distributions(&self) -> Option<Vec<Distribution>> {
        let distribution = |known: &KnownPin| Some(known.installed.as_ref()?.distribution.clone());
        let mut all: Vec<Distribution> = self.0.iter().map(distribution).collect::<Option<_>>()?;
        all.sort();
        Some(all)
    }

    /// The lines of a requirements file for what is not kept.
    pub fn missing(&self) -> String {
        self.0.iter().filter(|known| known.installed.is_none()).map(|known| known.pin.line()).collect()
    }

    /// Remembers what the missing were installed as. Blocks.
    pub fn remember(&self, installed: &[InstalledPin], distributions: &Distributions) {
        for known in self.0.iter().filter(|known| known.installed.is_none()) {
            if let Some(installed) = installed.iter().find(|installed| installed.distribution.name == known.pin.name) {
                distributions.remember_pin(&known.id, installed);
            }
        }
    }
}

/// The files of a distribution outside of the folder of packages, such as scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutsideFiles {
    /// The environment that they were installed in, which scripts contain.
    environment: String,
    files: Vec<OutsideFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OutsideFile {
    /// Relative to the environment.
    path: PathBuf,
    text: String,
    /// Permissions.
    mode: u32,
}

impl OutsideFiles {
    /// In bytes. Larger files are programs or data.
    const LARGEST: u64 = 64 << 10;

    /// Reads them. `None` if one of them is no text.
    pub fn read(environment: &Path, paths: &[PathBuf]) -> Option<Self> {
        let read = |path: &PathBuf| {
            let file = environment.join(path);
            let text = String::from_utf8(read_regular_file(&file, Links::Refuse, Self::LARGEST).ok()?).ok()?;
            let mode = file.metadata().ok()?.permissions().mode() & 0o777;
            Some(OutsideFile { path: path.clone(), text, mode })
        };
        let files = paths.iter().map(read).collect::<Option<_>>()?;
        Some(Self { environment: environment.to_str()?.to_owned(), files })
    }

    /// Writes them into another environment. False if one of them exists there.
    pub fn write(&self, environment: &Path) -> io::Result<bool> {
        let Some(folder) = environment.to_str() else { return Ok(false) };
        for OutsideFile { path, text, mode } in &self.files {
            if !is_inside(path) {
                return Ok(false);
            }
            let path = environment.join(path);
            fs::create_dir_all(path.parent().unwrap_or(environment))?;
            let mut options = fs::OpenOptions::new();
            let mut file = match options.write(true).create_new(true).mode(*mode).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                opened => opened?,
            };
            file.write_all(text.replace(&self.environment, folder).as_bytes())?;
            file.set_permissions(Permissions::from_mode(*mode))?;
        }
        Ok(true)
    }
}

/// Whether a relative path stays in its folder.
pub(super) fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_with_digests_are_pins() {
        let pins = Pin::parse(
            "# a comment\nSetup_Tools==84.2.1 \\\n    --hash=sha256:b \\\n    --hash=sha256:a\n    # via -r x\n\
             torch==2.0+cpu --hash=sha256:c\n",
        )
        .unwrap();
        let lines: Vec<String> = pins.iter().map(Pin::line).collect();
        assert_eq!(
            lines,
            ["setup-tools==84.2.1 --hash=sha256:a --hash=sha256:b\n", "torch==2.0+cpu --hash=sha256:c\n"]
        );
        assert_eq!(Pin::parse(""), Some(Vec::new()));
        for line in [
            "a==1",
            "a @ https://h/a.whl --hash=sha256:a",
            "-e ./a",
            "--index-url https://h/simple",
            "a==1 ; python_version < '3' --hash=sha256:a",
            "a[b]==1 --hash=sha256:a",
            "a>=1 --hash=sha256:a",
            "a== --hash=sha256:a",
            "error: no",
        ] {
            assert_eq!(Pin::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_id_of_a_pin_stands_for_all_that_decides() {
        let pin = |line: &str| Pin::parse(line).unwrap().remove(0);
        let id = pin("a==1 --hash=sha256:a --hash=sha256:b").id("key");
        assert_eq!(pin("A==1 --hash=sha256:b --hash=sha256:a").id("key"), id);
        assert_ne!(pin("a==1 --hash=sha256:a --hash=sha256:b").id("other"), id);
        assert_ne!(pin("a==2 --hash=sha256:a --hash=sha256:b").id("key"), id);
        // A wheel was added to the version.
        assert_ne!(pin("a==1 --hash=sha256:a --hash=sha256:b --hash=sha256:c").id("key"), id);
    }

    #[test]
    fn scripts_get_the_path_of_their_environment() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (parent.path().join("first"), parent.path().join("second"));
        fs::create_dir_all(first.join("bin")).unwrap();
        fs::write(first.join("bin/tool"), format!("#!{}/bin/python\n", first.display())).unwrap();
        fs::set_permissions(first.join("bin/tool"), Permissions::from_mode(0o751)).unwrap();
        let outside = OutsideFiles::read(&first, &["bin/tool".into()]).unwrap();
        assert!(outside.write(&second).unwrap());
        let tool = second.join("bin/tool");
        assert_eq!(fs::read_to_string(&tool).unwrap(), format!("#!{}/bin/python\n", second.display()));
        assert_eq!(tool.metadata().unwrap().permissions().mode() & 0o777, 0o751);
        assert!(!outside.write(&second).unwrap(), "another distribution has that file too");
        fs::write(first.join("bin/program"), b"\x7fELF\xff").unwrap();
        assert_eq!(OutsideFiles::read(&first, &["bin/tool".into(), "bin/program".into()]), None);
    }
}
