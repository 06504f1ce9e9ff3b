//! Making an environment: its name and lock, the virtual environment, what is
//! installed, the manifest.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use hookpool_supervisor::files::{LockFile, unblock};
use hookpool_supervisor::{ExitReason, Interpreter, ProgramError, ProgramOutput, Supervisor};

use super::contents::{content_id, digest, installed};
use super::error::EnvironmentError;
use super::handle::{InUse, Manifest};
use super::installer::{InstallTarget, PipConfiguration, is_offline, pip, remove_variables, without_places};
use super::model::Model;
use super::python_of;
use super::seal::Seal;
use super::settings::EnvironmentSettings;
use super::store::{Store, now};
use super::wanted::Wanted;
use crate::files::{read_json, write_json};
use crate::redact::redact;
use crate::run_folder::RunFolder;

/// Makes an environment. Nobody else sees it before it is complete. If this fails,
/// nothing stays; if it is dropped, a leftover.
pub(super) async fn assemble(
    supervisor: &Supervisor,
    settings: &EnvironmentSettings,
    store: &Arc<Store>,
    wanted: &Wanted,
) -> Result<InUse, EnvironmentError> {
    loop {
        let draft = Draft::begin(supervisor, settings, store, wanted).await?;
        if let Err(error) = draft.fill().await {
            draft.remove().await;
            return Err(error);
        }
        // `None`: another process, which removes all that is not in use, came
        // between the manifest and the lock.
        if let Some(in_use) = draft.seal().await? {
            return Ok(in_use);
        }
    }
}

/// An environment that is not complete.
struct Draft<'a> {
    supervisor: &'a Supervisor,
    settings: &'a EnvironmentSettings,
    store: Arc<Store>,
    wanted: &'a Wanted,
    name: String,
    folder: PathBuf,
    /// Exclusive: keeps other processes from removing it.
    lock: LockFile,
}

/// The program with which the interpreter makes a virtual environment, and prints
/// where its wheel of pip is. With `venv` for uv too: uv's own virtual environments
/// have other files.
const VENV: &str = r#"
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
const VENV_MARK: &str = "hookpool-environment ";

impl<'a> Draft<'a> {
    /// Reserves the place of the environment. It is made in its final place, because its
    /// scripts contain its path.
    async fn begin(
        supervisor: &'a Supervisor,
        settings: &'a EnvironmentSettings,
        store: &Arc<Store>,
        wanted: &'a Wanted,
    ) -> Result<Self, EnvironmentError> {
        let store = store.clone();
        let reserve = {
            let store = store.clone();
            move || store.reserve_name()
        };
        let (name, lock) = unblock(reserve).await?;
        let folder = store.environment(&name);
        Ok(Self { supervisor, settings, store, wanted, name, folder, lock })
    }

    /// Makes the virtual environment, and installs the requirements.
    async fn fill(&self) -> Result<(), EnvironmentError> {
        let pip_wheel = self.make_venv().await?;
        if self.wanted.requirements.texts().is_empty() {
            return Ok(());
        }
        let (installer, prefix) = (&self.wanted.installation.installer, &self.wanted.interpreter.prefix);
        let configuration = PipConfiguration::lend(installer, prefix, &self.folder).await?;
        // After a failure all of the environment is removed.
        self.install(pip_wheel).await?;
        configuration.take_back().await
    }

    /// Makes the virtual environment, from the model if there is one. Returns the
    /// wheel of pip that comes with the interpreter.
    async fn make_venv(&self) -> Result<Option<PathBuf>, EnvironmentError> {
        // Virtual environments of one interpreter have the same id, and make others
        // with links to their own program.
        let executable = self.wanted.interpreter.executable.display().to_string();
        let path = self.store.model(&digest([self.wanted.interpreter_id.as_str(), executable.as_str()]));
        let (kept, folder) = (path.clone(), self.folder.clone());
        let made = unblock(move || {
            let Some(model) = read_json::<Model>(&kept) else { return Ok(None) };
            let made = model.make(&folder).map_err(EnvironmentError::system("make", &folder))?;
            Ok::<_, EnvironmentError>(made.then_some(model))
        })
        .await?;
        if let Some(model) = made {
            return Ok(model.pip_wheel);
        }
        let pip_wheel = self.run_venv().await?;
        let (folder, wheel) = (self.folder.clone(), pip_wheel.clone());
        unblock(move || {
            let model = Model::of(&folder, wheel).map_err(EnvironmentError::system("read", &folder))?;
            model.map_or(Ok(()), |model| write_json(&path, &model)).map_err(EnvironmentError::system("write", &path))
        })
        .await?;
        Ok(pip_wheel)
    }

    async fn run_venv(&self) -> Result<Option<PathBuf>, EnvironmentError> {
        let mut command = Command::new(&self.wanted.interpreter.executable);
        command.args(["-I", "-c", VENV]).arg(&self.folder);
        remove_variables(&mut command);
        let output = self.run_program(command, ()).await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let wheels = stdout.lines().rev().find_map(|line| line.strip_prefix(VENV_MARK));
        match wheels.and_then(|wheels| serde_json::from_str::<Vec<PathBuf>>(wheels).ok()) {
            Some(wheels) if output.is_success() => Ok(wheels.into_iter().next()),
            _ => Err(self.not_made(reason_of_failure(&output))),
        }
    }

    async fn install(&self, pip_wheel: Option<PathBuf>) -> Result<(), EnvironmentError> {
        // An installer that is killed leaves temporary files.
        let temporary = unblock(|| RunFolder::temporary("installers")).await;
        let temporary = temporary
            .map_err(|error| EnvironmentError::system("make a temporary folder in", &error.parent)(error.source))?;
        let temporary = Arc::new(temporary);
        let files = {
            let (installation, temporary) = (self.wanted.installation.clone(), temporary.clone());
            let requirements = self.wanted.requirements.texts().to_vec();
            let find_links = self.settings.index.find_links.clone();
            unblock(move || installation.write_files(temporary.path(), &requirements, &find_links)).await?
        };
        let python = python_of(&self.folder);
        let target = InstallTarget { python: &python, interpreter: &self.wanted.interpreter, settings: self.settings };
        let installation = &self.wanted.installation;
        let command = installation.command(&target, pip_wheel.as_deref(), &files, temporary.path())?;
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
        let words = std::iter::once(reason_of_failure(&output)).chain(refusals).collect::<Vec<_>>().join("\n");
        let words = without_places(&words, &requirements_file);
        Err(EnvironmentError::Installer {
            installer: installation.installer.kind(),
            requirements: self.wanted.requirements.redacted(),
            words,
            offline: is_offline(self.settings),
        })
    }

    /// Seals the environment and writes its manifest, after which other processes
    /// may open it. `None` if another process has removed it since.
    async fn seal(self) -> Result<Option<InUse>, EnvironmentError> {
        // The lock keeps the distributions until the manifest names them.
        let (links, _lock) = {
            let (store, folder) = (self.store.clone(), self.folder.clone());
            unblock(move || {
                let path = store.distributions.lock();
                let lock = LockFile::shared(&path).map_err(EnvironmentError::system("lock", &path))?;
                let links = store.distributions.link(&folder).map_err(EnvironmentError::system("link", &folder))?;
                Ok::<_, EnvironmentError>((links, lock))
            })
            .await?
        };
        // If this fails, the supervisor asks again before it runs hooks, and reports the reason.
        let interpreter = self.supervisor.interpreter(Some(&python_of(&self.folder))).await.ok();
        let interpreter = interpreter.map(|known| Interpreter::clone(&known));
        let interpreter_id = self.wanted.interpreter_id.clone();
        let (installer, private) = (self.wanted.installation.installer.kind(), self.wanted.requirements.has_urls());
        let Self { folder, store, name, lock, .. } = self;
        unblock(move || {
            let installed =
                installed(&folder).map_err(EnvironmentError::system("read what is installed in", &folder))?;
            let seal = Seal::of(&folder).map_err(EnvironmentError::system("look at", &folder))?;
            let content_id = content_id(&interpreter_id, &installed);
            let made_at = now();
            let manifest =
                Manifest { folder, content_id, installed, installer, made_at, private, seal, links, interpreter };
            let path = store.manifest(&name);
            write_json(&path, &manifest).map_err(EnvironmentError::system("write", &path))?;
            let lock_path = store.environment_lock(&name);
            let still_exists = lock.share().map_err(EnvironmentError::system("lock", &lock_path))?;
            let kept = store.open_links(&manifest)?;
            let is_usable = still_exists && kept.len() == manifest.links.len();
            Ok(is_usable.then(|| InUse::new(name, manifest, kept, lock, true)))
        })
        .await
    }

    async fn remove(self) {
        let Self { store, name, lock, .. } = self;
        let removed = unblock(move || {
            // Its lock is held until its files are gone.
            let _lock = lock;
            store.remove(&name)
        });
        if let Err(error) = removed.await {
            tracing::debug!("the next run removes an environment that was not completed: {error}");
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
                requirements: self.wanted.requirements.redacted(),
                limit: limit.get(),
                words: last_lines(&output).unwrap_or_else(|| "it printed nothing".into()),
            },
            ProgramError::Interrupted => EnvironmentError::Interrupted,
            ProgramError::NotStarted { program, source } => {
                EnvironmentError::NotStarted { program, source: Arc::new(source) }
            }
            error => self.not_made(error.to_string()),
        })
    }

    fn not_made(&self, words: String) -> EnvironmentError {
        EnvironmentError::NotMade { python: self.wanted.interpreter.executable.clone(), words }
    }
}

fn reason_of_failure(output: &ProgramOutput) -> String {
    match (last_lines(output), &output.exit) {
        (None, exit) => format!("it {exit} without any output"),
        // What a program printed does not explain a signal.
        (Some(last), exit @ ExitReason::Signal(_)) => format!("it {exit}: {last}"),
        (Some(last), _) => last,
    }
}

/// The last lines of standard error, or of standard output if that is empty.
fn last_lines(output: &ProgramOutput) -> Option<String> {
    const LINES: usize = 40;
    let text = |stream: &[u8]| String::from_utf8_lossy(stream).trim().to_owned();
    let stderr = text(&output.stderr);
    let text = if stderr.is_empty() { text(&output.stdout) } else { stderr };
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (!last.is_empty()).then(|| redact(&last).into_owned())
}
