//! The programs that install, uv and pip: which one is used, what it is told, and
//! what of that belongs to the key of an environment.

mod configuration;
mod constraints;
mod hashes;
mod key;
mod local_places;
pub(super) mod pip;
mod requirements_file;
mod setting;
mod uv;
mod variables;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookpool_supervisor::Interpreter;

use self::configuration::Configuration;
use self::constraints::Constraints;
use self::hashes::Hashes;
use self::key::is_read_by_builds;
use self::local_places::LocalPlaces;
pub(super) use self::pip::PipConfiguration;
use self::pip::UserPip;
pub(super) use self::requirements_file::without_places;
use self::setting::{InstallerSetting, of_index_options};
pub(super) use self::variables::remove_variables;
use super::contents::digest;
use super::error::EnvironmentError;
use super::settings::{EnvironmentSettings, InstallerChoice, InstallerKind};
use crate::redact::redact;

/// The installer for an interpreter.
pub(super) enum Installer {
    /// The program uv.
    Uv(PathBuf),
    /// The pip that is installed for the interpreter, or, if that is missing or too
    /// old, the one that comes with Python.
    Pip(Option<UserPip>),
}

impl Installer {
    /// The installer for these settings. If it is pip because only pip was told
    /// where to look, also the variable or file that told it.
    fn find(
        settings: &EnvironmentSettings,
        interpreter: &Interpreter,
        configuration: &Configuration,
    ) -> Result<(Self, Option<String>), EnvironmentError> {
        let pip = || Self::Pip(UserPip::find(interpreter));
        let was_told = settings.index.index_url.is_some() || settings.index.no_index;
        let only_pip = || if was_told { None } else { only_pip_was_told(configuration) };
        match (settings.installer, uv::find(settings)) {
            (InstallerChoice::Pip, _) | (InstallerChoice::Auto, None) => Ok((pip(), None)),
            (InstallerChoice::Uv, Some(program)) => Ok((Self::Uv(program), None)),
            (InstallerChoice::Auto, Some(program)) => match only_pip() {
                Some(origin) => Ok((pip(), Some(origin.to_owned()))),
                None => Ok((Self::Uv(program), None)),
            },
            (InstallerChoice::Uv, None) => Err(EnvironmentError::NoInstaller {
                reason: "uv was found neither in the variable UV nor on PATH".into(),
            }),
        }
    }

    pub fn kind(&self) -> InstallerKind {
        match self {
            Self::Uv(_) => InstallerKind::Uv,
            Self::Pip(_) => InstallerKind::Pip,
        }
    }

    /// Whether it applies the constraints of a project's run-time requirements to
    /// builds, too.
    fn obeys_run_time_constraints(&self) -> bool {
        match self {
            Self::Uv(_) => false,
            Self::Pip(own) => own.as_ref().is_none_or(|own| pip::obeys_run_time_constraints(&own.version)),
        }
    }

    /// What of it belongs to the key of an environment.
    fn key(&self) -> [String; 2] {
        let version = match self {
            // Asking for the version takes a process. No two versions have the same
            // size; the time differs wherever the same version is installed.
            Self::Uv(program) => program.metadata().map(|metadata| metadata.len().to_string()).unwrap_or_default(),
            Self::Pip(Some(own)) => own.version.clone(),
            // The version of the interpreter, which is in the key, decides.
            Self::Pip(None) => String::new(),
        };
        [self.kind().to_string(), version]
    }
}

/// The variable or the file that tells pip where distributions are, if uv was not
/// told. uv does not read pip's configuration: it would ask the public index for
/// what only a private one has, which is slow at best, and at worst installs what a
/// stranger has published under the same name.
fn only_pip_was_told(configuration: &Configuration) -> Option<&str> {
    let uv_was_told = configuration.of(InstallerKind::Uv).iter().any(InstallerSetting::says_where);
    let setting = configuration.of(InstallerKind::Pip).iter().find(|setting| setting.says_where())?;
    (!uv_was_told).then_some(&setting.origin)
}

/// The installer for an interpreter, and what it was told when it was found.
pub(super) struct Installation {
    pub installer: Installer,
    /// The variable or file because of which pip is used and not uv.
    pub pip_because_of: Option<String>,
    configuration: Configuration,
    /// The cache folder of uv, if it is told no other one.
    default_uv_cache: Option<PathBuf>,
    constraints: Constraints,
    /// A digest of all that [`key`] lists.
    settings_digest: String,
    local_places: LocalPlaces,
}

/// What an installer installs into.
pub(super) struct InstallTarget<'a> {
    /// The interpreter that is installed for.
    pub python: &'a Path,
    /// The new environment, if `python` is not its own. For uv only.
    pub prefix: Option<&'a Path>,
    /// The interpreter that the environment is made from.
    pub interpreter: &'a Interpreter,
    pub settings: &'a EnvironmentSettings,
}

/// What an installer is to do.
#[derive(Clone, Copy)]
pub(super) enum InstallerTask<'a> {
    /// Install the requirements, and theirs.
    Install,
    /// Print what it would install, as pins. For uv only.
    Resolve,
    /// Install what the file `pins` lists, and nothing else; `from_cache`: without the
    /// network, and without building. For uv only.
    InstallPins { pins: &'a Path, from_cache: bool },
}

/// The files that are written for an installer.
pub(super) struct InstallerFiles {
    /// The requirements, and the places to look in that may hold credentials.
    pub requirements: PathBuf,
    /// A cache folder for uv, if its own cannot be used.
    pub uv_cache: Option<PathBuf>,
    /// A configuration for uv in place of the user's.
    pub configuration: Option<PathBuf>,
    pub constraints: Vec<PathBuf>,
    /// Whether there are hashes in the constraints.
    pub constrains_hashes: bool,
    /// The hashes to compare after pip has installed.
    pub hashes: Option<Hashes>,
    /// The names of the distributions in local places.
    pub local_names: BTreeSet<String>,
}

impl Installation {
    /// Finds the installer that the settings ask for, and reads what it is told.
    /// Blocks, as looking at files does.
    pub fn find(settings: &EnvironmentSettings, interpreter: &Interpreter) -> Result<Self, EnvironmentError> {
        let configuration = Configuration::read(settings, &interpreter.prefix);
        let (installer, pip_because_of) = Installer::find(settings, interpreter, &configuration)?;
        let constraints = Constraints::find(settings, &configuration, &installer)?;
        let folder = std::env::current_dir().unwrap_or_default();
        let given = of_index_options(&settings.index, &folder);
        let installer_settings = || given.iter().chain(configuration.of(installer.kind()));
        let mut texts = installer.key().to_vec();
        texts.push("settings".into());
        texts.extend(installer_settings().flat_map(InstallerSetting::key));
        texts.push("constraints".into());
        texts.extend_from_slice(constraints.key());
        texts.push("variables".into());
        texts.extend(build_variables(installer.kind(), settings));
        let settings_digest = digest(texts.iter().map(String::as_str));
        let local_places = LocalPlaces::of(installer_settings(), settings.variable("HOME").as_deref().map(Path::new));
        let default_uv_cache = uv::default_cache(settings);
        Ok(Self {
            installer,
            pip_because_of,
            configuration,
            default_uv_cache,
            constraints,
            settings_digest,
            local_places,
        })
    }

    /// What belongs to the key of every environment that it installs: what the
    /// installer is told, and what is in local places now. Blocks, as looking at
    /// files does.
    pub fn key(&self) -> String {
        let found = self.local_places.digest();
        std::iter::once(self.settings_digest.clone()).chain(found).collect::<Vec<_>>().join(" ")
    }

    /// Whether it can do all tasks with these files.
    pub fn resolves(&self, files: &InstallerFiles) -> bool {
        // Without a cache, everything would be asked for and downloaded for each task.
        matches!(self.installer, Installer::Uv(_)) && !files.constrains_hashes && files.uv_cache.is_none()
    }

    /// The command that does a task. `pip_wheel` is the wheel of pip that comes with the
    /// interpreter, `temporary` the folder for temporary files.
    pub fn command(
        &self,
        target: &InstallTarget<'_>,
        task: InstallerTask<'_>,
        pip_wheel: Option<&Path>,
        files: &InstallerFiles,
        temporary: &Path,
    ) -> Result<Command, EnvironmentError> {
        let mut command = match &self.installer {
            Installer::Uv(program) => uv::command(target, program, files, task),
            Installer::Pip(own) => pip::install(self, target, own.as_ref(), pip_wheel, files, temporary)?,
        };
        command.env("TMPDIR", temporary);
        Ok(command)
    }

    /// Writes the files for the installer into a folder for temporary ones. Blocks.
    pub fn write_files(
        &self,
        temporary: &Path,
        requirements: &[String],
        find_links: &[String],
    ) -> Result<InstallerFiles, EnvironmentError> {
        let file = temporary.join(requirements_file::NAME);
        write_private(&file, &requirements_file::lines(requirements, find_links))?;
        let configuration = match (&self.installer, self.configuration.uv_file()) {
            (Installer::Uv(_), Some(text)) => {
                let file = temporary.join("uv.toml");
                write_private(&file, text)?;
                Some(file)
            }
            _ => None,
        };
        let local_names = self.local_places.names();
        let uv_cache = (!self.uv_cache_is_usable()).then(|| temporary.join("uv-cache"));
        let with_hashes = self.constraints.with_hashes(temporary, self.installer.kind())?;
        let constrains_hashes = with_hashes.is_some();
        let (constraints, hashes) = match with_hashes {
            // uv compares them itself.
            Some((files, hashes)) => (files, matches!(self.installer, Installer::Pip(_)).then_some(hashes)),
            None => (self.constraints.files(temporary)?, None),
        };
        let requirements = file;
        Ok(InstallerFiles {
            requirements,
            uv_cache,
            configuration,
            constraints,
            constrains_hashes,
            hashes,
            local_names,
        })
    }

    /// Whether uv can use its cache: it fails if the home folder is read-only. Makes
    /// the cache folder if that is possible.
    fn uv_cache_is_usable(&self) -> bool {
        let settings = self.configuration.of(InstallerKind::Uv);
        if settings.iter().any(|setting| matches!(setting.name.as_str(), "cache-dir" | "no-cache")) {
            return true;
        }
        let is_usable = |folder: &PathBuf| std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        self.default_uv_cache.as_ref().is_none_or(|folder| is_usable(folder).is_ok())
    }

    /// Whether the user gave pip a setting.
    fn pip_was_told(&self, name: &str) -> bool {
        self.configuration.of(InstallerKind::Pip).iter().any(|setting| setting.name == name)
    }
}

/// Whether the network must not be used.
pub(super) fn is_offline(settings: &EnvironmentSettings) -> bool {
    settings.offline || variables::says_yes(settings, "UV_OFFLINE")
}

/// Whether resolutions of any age are believed, because no index can be asked.
pub(super) fn believes_any_age(settings: &EnvironmentSettings) -> bool {
    is_offline(settings) || settings.index.no_index || variables::says_yes(settings, "PIP_NO_INDEX")
}

/// The variables that builds of requirements read, sorted.
fn build_variables(installer: InstallerKind, settings: &EnvironmentSettings) -> Vec<String> {
    let mut variables: Vec<String> = settings
        .variables()
        .into_iter()
        .filter(|(name, _)| name.to_str().is_some_and(|name| is_read_by_builds(installer, name)))
        .map(|(name, value)| format!("{}={}", name.display(), redact(&value.to_string_lossy())))
        .collect();
    variables.sort_unstable();
    variables
}

/// Writes a file that may contain credentials.
fn write_private(file: &Path, text: &str) -> Result<(), EnvironmentError> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).map_err(EnvironmentError::system("write", file))
}
