//! The programs that install: found, started, and their failures told.

mod choice;
mod configuration;
mod constraints;
mod deciding;
mod hashes;
mod installation;
mod local_places;
mod own_pip;
mod pip;
mod refusal;
mod requirements_file;
mod site;
mod told;
mod uv;
mod uv_file;
mod variables;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hookpool_supervisor::{ExitReason, Interpreter, ProgramError, ProgramOutput, Supervisor, unblock};
use serde::{Deserialize, Serialize};

use self::configuration::Configuration;
pub(super) use self::installation::{Installation, believes_any_age};
use self::own_pip::OwnPip;
use self::site::SiteConfiguration;
use super::error::EnvironmentError;
use super::redact::redact;
use super::settings::{EnvironmentSettings, InstallerChoice};
use crate::run_folder::RunFolder;

/// A program that installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstallerKind {
    /// uv.
    Uv,
    /// pip.
    Pip,
}

impl fmt::Display for InstallerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Uv => "uv",
            Self::Pip => "pip",
        })
    }
}

/// The installer of a run.
#[derive(Clone, Debug)]
pub(super) enum Installer {
    /// This program.
    Uv(PathBuf),
    /// The one that is installed beside the interpreter, where that is new
    /// enough, or else the one that comes with Python.
    Pip(Option<OwnPip>),
}

impl Installer {
    /// The installer that the settings ask for, and where it is pip because of
    /// that, the variable or file by which only pip was told where to look.
    fn find(
        settings: &EnvironmentSettings,
        interpreter: &Interpreter,
        configuration: &Configuration,
    ) -> Result<(Self, Option<String>), EnvironmentError> {
        let pip = || Self::Pip(OwnPip::find(interpreter));
        let was_told = settings.index.index_url.is_some() || settings.index.no_index;
        let only_pip = || if was_told { None } else { choice::only_pip_was_told(configuration) };
        match (settings.installer, uv::find()) {
            (InstallerChoice::Pip, _) | (InstallerChoice::Auto, None) => Ok((pip(), None)),
            (InstallerChoice::Uv, Some(program)) => Ok((Self::Uv(program), None)),
            (InstallerChoice::Auto, Some(program)) => match only_pip() {
                Some(origin) => Ok((pip(), Some(origin.to_owned()))),
                None => Ok((Self::Uv(program), None)),
            },
            (InstallerChoice::Uv, None) => Err(EnvironmentError::NoInstaller {
                reason: "uv is not found: neither the variable UV nor PATH lead to it".into(),
            }),
        }
    }

    pub fn kind(&self) -> InstallerKind {
        match self {
            Self::Uv(_) => InstallerKind::Uv,
            Self::Pip(_) => InstallerKind::Pip,
        }
    }

    /// Whether it takes what constrains a project's requirements at run time to
    /// constrain builds, too.
    fn obeys_run_time_constraints(&self) -> bool {
        match self {
            Self::Uv(_) => false,
            Self::Pip(own) => own.as_ref().is_none_or(|own| pip::obeys_run_time_constraints(&own.version)),
        }
    }

    /// What of it belongs to the question of an environment.
    fn question(&self) -> Vec<String> {
        let version = match self {
            // To ask it takes a process. No two versions are of one size, while
            // its time is another wherever it was installed anew.
            Self::Uv(program) => program.metadata().map(|metadata| metadata.len().to_string()).unwrap_or_default(),
            Self::Pip(Some(own)) => own.version.clone(),
            // That of the interpreter, which belongs to the question.
            Self::Pip(None) => String::new(),
        };
        vec![self.kind().to_string(), version]
    }
}

/// An environment that is being made: where, from what, and how.
pub(super) struct Making<'a> {
    pub supervisor: &'a Supervisor,
    pub settings: &'a EnvironmentSettings,
    pub installation: &'a Arc<Installation>,
    pub interpreter: &'a Interpreter,
    pub folder: &'a Path,
    /// Requirements as installers get them, and as people may see them.
    pub requirements: &'a [String],
    pub shown: &'a [String],
}

/// What the interpreter runs to make a virtual environment. `venv` itself, as
/// uv's own has files beside what is installed. Says where a wheel of pip is.
const MAKE: &str = r#"
import glob, json, os, sys, sysconfig, venv
venv.EnvBuilder(symlinks=True, with_pip=False).create(sys.argv[1])
folders = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
try:
    import ensurepip
    folders.insert(0, os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))
except ImportError:
    pass
wheels = [wheel for folder in folders if folder for wheel in glob.glob(os.path.join(glob.escape(folder), "pip-*.whl"))]
sys.stdout.write("\nhookpool-environment " + json.dumps(wheels[:1]) + "\n")
"#;
const MARK: &str = "hookpool-environment ";

impl Making<'_> {
    /// Makes the environment and installs into it.
    pub async fn run(&self) -> Result<(), EnvironmentError> {
        let wheel = self.make().await?;
        if self.requirements.is_empty() {
            return Ok(());
        }
        let site = SiteConfiguration::lend(self).await?;
        self.install(wheel).await?;
        // Who fails removes all of the environment.
        site.take_back().await
    }

    async fn install(&self, wheel: Option<PathBuf>) -> Result<(), EnvironmentError> {
        // It may be killed, and leave there what it has unpacked.
        let temporary = unblock(|| RunFolder::temporary("installers")).await;
        let temporary = temporary
            .map_err(|error| EnvironmentError::system("make a temporary folder in", &error.parent)(error.source))?;
        let temporary = Arc::new(temporary);
        let files = {
            let (installation, temporary) = (self.installation.clone(), temporary.clone());
            let lines = requirements_file::lines(self.requirements, &self.settings.index.find_links);
            unblock(move || installation.write_files(temporary.path(), &lines)).await?
        };
        let installer = &self.installation.installer;
        let mut command = match installer {
            Installer::Uv(program) => uv::install(self, program, &files),
            Installer::Pip(own) => pip::install(self, own.as_ref(), wheel.as_deref(), &files, temporary.path())?,
        };
        command.env("TMPDIR", temporary.path());
        let output = self.run_program(command, temporary.clone()).await?;
        let is_success = output.is_success();
        let requirements_file = files.requirements.display().to_string();
        let (refusals, mismatches) = unblock(move || {
            let mismatches =
                files.hashes.filter(|_| is_success).map(|hashes| pip::mismatches(temporary.path(), &hashes));
            (pip::refusals(temporary.path()), mismatches.unwrap_or_default())
        })
        .await;
        if is_success && mismatches.is_empty() {
            return Ok(());
        }
        if is_success {
            return Err(EnvironmentError::OtherHashes { mismatches });
        }
        let words = std::iter::once(words(&output)).chain(refusals).collect::<Vec<_>>().join("\n");
        let words = requirements_file::without_places(&words, &requirements_file);
        Err(EnvironmentError::Installer {
            installer: installer.kind(),
            requirements: self.shown.to_vec(),
            words,
            offline: is_offline(self.settings),
        })
    }

    /// Makes the virtual environment; the wheel of pip that comes with Python.
    async fn make(&self) -> Result<Option<PathBuf>, EnvironmentError> {
        let mut command = Command::new(&self.interpreter.executable);
        command.args(["-I", "-c", MAKE]).arg(self.folder);
        variables::clean(&mut command);
        let output = self.run_program(command, ()).await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let answer = stdout.lines().rev().find_map(|line| line.strip_prefix(MARK));
        match answer.and_then(|answer| serde_json::from_str::<Vec<PathBuf>>(answer).ok()) {
            Some(wheels) if output.is_success() => Ok(wheels.into_iter().next()),
            _ => Err(self.not_made(words(&output))),
        }
    }

    async fn run_program(
        &self,
        command: Command,
        kept: impl Send + 'static,
    ) -> Result<ProgramOutput, EnvironmentError> {
        let limit = self.settings.installer_timeout;
        self.supervisor.run_program(command, limit, kept).await.map_err(|error| match error {
            ProgramError::TimedOut { program, limit, output } => EnvironmentError::TimedOut {
                program,
                requirements: self.shown.to_vec(),
                limit: limit.get(),
                words: last_words(&output).unwrap_or_else(|| "it said nothing".into()),
            },
            ProgramError::Interrupted => EnvironmentError::Interrupted,
            ProgramError::NotStarted { program, source } => {
                EnvironmentError::NotStarted { program, source: Arc::new(source) }
            }
            error => self.not_made(error.to_string()),
        })
    }

    fn not_made(&self, words: String) -> EnvironmentError {
        EnvironmentError::NotMade { python: self.interpreter.executable.clone(), words }
    }

    /// The interpreter of the new environment.
    fn python(&self) -> PathBuf {
        python_of(self.folder)
    }
}

/// The interpreter of an environment.
pub(super) fn python_of(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

/// Whether the network is not to be used.
fn is_offline(settings: &EnvironmentSettings) -> bool {
    settings.offline || variables::says_yes("UV_OFFLINE")
}

/// The reason that a program gives for its failure.
fn words(output: &ProgramOutput) -> String {
    match (last_words(output), &output.exit) {
        (None, exit) => format!("it {exit} without a word"),
        // What it said before is no reason for that.
        (Some(last), exit @ ExitReason::Signal(_)) => format!("it {exit}: {last}"),
        (Some(last), _) => last,
    }
}

/// The end of what a program said; of standard output where standard error is
/// empty.
fn last_words(output: &ProgramOutput) -> Option<String> {
    const LINES: usize = 40;
    let said = |stream: &[u8]| String::from_utf8_lossy(stream).trim().to_owned();
    let stderr = said(&output.stderr);
    let said = if stderr.is_empty() { said(&output.stdout) } else { stderr };
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (!last.is_empty()).then(|| redact(&last).into_owned())
}
