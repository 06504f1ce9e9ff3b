//! What installs into the environments of an interpreter, and all that its
//! answers depend on.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::Interpreter;

use super::configuration::Configuration;
use super::constraints::Constraints;
use super::deciding::is_read_by_builds;
use super::hashes::Hashes;
use super::local_places::LocalPlaces;
use super::told::{Told, in_index_options};
use super::{Installer, InstallerKind, is_offline, requirements_file, variables};
use crate::environment::contents::digest;
use crate::environment::error::EnvironmentError;
use crate::environment::redact::redact;
use crate::environment::settings::EnvironmentSettings;

/// An installer, and what it was told when it was first asked for.
#[derive(Clone, Debug)]
pub(in crate::environment) struct Installation {
    pub installer: Installer,
    /// The variable or file for which pip was taken in place of uv.
    pub pip_because_of: Option<String>,
    configuration: Configuration,
    constraints: Constraints,
    /// A digest of what [`deciding`](super::deciding) lists.
    fingerprint: String,
    local_places: LocalPlaces,
}

/// What an installer reads.
pub(super) struct Files {
    /// Requirements, and where to look for them as far as that may hold credentials.
    pub requirements: PathBuf,
    /// In place of uv's own cache, which cannot be used.
    pub uv_cache: Option<PathBuf>,
    /// In place of its own.
    pub configuration: Option<PathBuf>,
    pub constraints: Vec<PathBuf>,
    /// What is to be compared when pip has installed.
    pub hashes: Option<Hashes>,
    /// The names of distributions that it may find on this machine.
    pub local_names: BTreeSet<String>,
}

impl Installation {
    /// Looks for the installer that the settings ask for, and reads what it is
    /// told. Blocks, as looking at files does.
    pub fn find(settings: &EnvironmentSettings, interpreter: &Interpreter) -> Result<Self, EnvironmentError> {
        let configuration = Configuration::read(&interpreter.prefix);
        let (installer, pip_because_of) = Installer::find(settings, interpreter, &configuration)?;
        let constraints = Constraints::find(settings, &configuration, &installer)?;
        let folder = std::env::current_dir().unwrap_or_default();
        let given = in_index_options(&settings.index, &folder);
        let told = || given.iter().chain(configuration.of(installer.kind()));
        let mut texts = installer.question();
        texts.push("settings".into());
        texts.extend(told().flat_map(Told::question));
        texts.push("constraints".into());
        texts.extend_from_slice(constraints.question());
        texts.push("variables".into());
        texts.extend(build_variables());
        let fingerprint = digest(texts.iter().map(String::as_str));
        let local_places = LocalPlaces::of(told());
        Ok(Self { installer, pip_because_of, configuration, constraints, fingerprint, local_places })
    }

    /// Writes what the installer reads from files into its folder of temporary
    /// ones; `lines` for that of requirements. Blocks.
    pub(super) fn write_files(&self, temporary: &Path, lines: &str) -> Result<Files, EnvironmentError> {
        let requirements = temporary.join(requirements_file::NAME);
        write_private(&requirements, lines)?;
        let configuration = match (&self.installer, self.configuration.uv_file()) {
            (Installer::Uv(_), Some(text)) => {
                let file = temporary.join("uv.toml");
                write_private(&file, text)?;
                Some(file)
            }
            _ => None,
        };
        let local_names = self.local_places.names();
        let uv_cache = (self.has_no_uv_cache()).then(|| temporary.join("uv-cache"));
        let (constraints, hashes) = match self.constraints.with_hashes(temporary, self.installer.kind())? {
            // uv compares them itself.
            Some((files, hashes)) => (files, matches!(self.installer, Installer::Pip(_)).then_some(hashes)),
            None => (self.constraints.files(temporary)?, None),
        };
        Ok(Files { requirements, uv_cache, configuration, constraints, hashes, local_names })
    }

    /// Whether uv would fail for its cache, as the home folder cannot be written
    /// to. Makes the cache folder where it can.
    fn has_no_uv_cache(&self) -> bool {
        let told = self.configuration.of(InstallerKind::Uv);
        if told.iter().any(|told| matches!(told.name.as_str(), "cache-dir" | "no-cache")) {
            return false;
        }
        let folder = default_uv_cache();
        let is_usable =
            |folder: &PathBuf| std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).is_ok();
        folder.is_some_and(|folder| !is_usable(&folder))
    }

    /// Whether the user gave pip a setting.
    pub(super) fn pip_was_told(&self, name: &str) -> bool {
        self.configuration.of(InstallerKind::Pip).iter().any(|told| told.name == name)
    }

    /// What belongs to every question that it answers: what it was told, and
    /// what it would find on this machine now. Blocks, as looking at files does.
    pub fn question(&self) -> String {
        let found = self.local_places.look();
        std::iter::once(self.fingerprint.clone()).chain(found).collect::<Vec<_>>().join(" ")
    }
}

/// Whether answers are believed whatever their age: nobody can be asked.
pub(in crate::environment) fn believes_any_age(settings: &EnvironmentSettings) -> bool {
    is_offline(settings) || settings.index.no_index || variables::says_yes("PIP_NO_INDEX")
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

fn default_uv_cache() -> Option<PathBuf> {
    // A relative one is not valid.
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let in_home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    Some(named.or_else(in_home)?.join("uv"))
}

/// There may be credentials in it.
pub(super) fn write_private(file: &Path, text: &str) -> Result<(), EnvironmentError> {
    let mut options = std::fs::OpenOptions::new();
    let file_of_owner = options.write(true).create_new(true).mode(0o600).open(file);
    file_of_owner
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(EnvironmentError::system("write", file))
}
