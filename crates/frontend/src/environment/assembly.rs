//! Making an environment: its name and lock, the virtual environment, what is
//! installed, the manifest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hookpool_supervisor::files::{LockFile, unblock};
use hookpool_supervisor::{ExitReason, Interpreter, ProgramError, ProgramOutput, Supervisor};

use super::contents::{content_id, digest, installed};
use super::distributions::Linked;
use super::error::EnvironmentError;
use super::handle::{InUse, Manifest};
use super::installer::{
    InstallTarget, Installer, InstallerFiles, InstallerTask, PipConfiguration, is_offline, pip, remove_variables,
    without_places,
};
use super::model::Model;
use super::pins::{Pin, Pins};
use super::python_of;
use super::scripts::{fits_first_line, redirect};
use super::seal::Seal;
use super::settings::EnvironmentSettings;
use super::store::{Store, now};
use super::wanted::Wanted;
use crate::files::{read_json, write_json};
use crate::redact::redact;
use crate::run_folder::RunFolder;

/// What is to be made, and by whom.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub supervisor: &'a Supervisor,
    pub settings: &'a EnvironmentSettings,
    pub store: &'a Arc<Store>,
    pub wanted: &'a Wanted,
}

/// Whether what is installed for an interpreter is in folders that a virtual environment makes
/// as such: `lib64` is a link there.
fn installs_below_lib(interpreter: &Interpreter) -> bool {
    let is_lib64 = |folder: &PathBuf| folder.components().any(|part| part.as_os_str() == "lib64");
    !interpreter.site_folders.iter().any(is_lib64)
}

/// Makes an environment. Nobody else sees it before it is complete. If this fails,
/// nothing stays; if it is dropped, a leftover. With pins, only what is missing is
/// installed.
pub(super) async fn assemble(order: Order<'_>, mut pins: Option<Pins>) -> Result<InUse, EnvironmentError> {
    let mut may_use_base = true;
    loop {
        let mut draft = Draft::begin(order, may_use_base).await?;
        match draft.fill(pins.as_ref()).await {
            Ok(true) => {}
            Ok(false) => {
                draft.remove().await;
                (pins, may_use_base) = (None, false);
                continue;
            }
            Err(error) => {
                draft.remove().await;
                return Err(error);
            }
        }
        // `None`: another process, which removes all that is not in use, came
        // between the manifest and the lock; or the pins do not fit together.
        if let Some(in_use) = draft.seal(pins.take()).await? {
            return Ok(in_use);
        }
    }
}

/// Asks the installer what the requirements resolve to. `None` if it cannot say, for
/// whatever reason: then it has to install, and gives the reason if it fails again.
pub(super) async fn resolve(order: Order<'_>) -> Result<Option<Pins>, EnvironmentError> {
    let prepared = order.prepare_installer().await?;
    if !order.wanted.installation.resolves(&prepared.files) {
        return Ok(None);
    }
    let python = &order.wanted.interpreter.executable;
    let output = order.run_installer(&prepared, (python, None), None, InstallerTask::Resolve).await?;
    if !output.is_success() {
        tracing::debug!("the requirements are installed without being resolved: {}", reason_of_failure(&output));
        return Ok(None);
    }
    let pins = std::str::from_utf8(&output.stdout).ok().and_then(Pin::parse);
    Ok(pins.map(|pins| Pins::new(pins, &order.wanted.pins_key())))
}

/// The files for an installer, in a folder for its temporary ones.
struct PreparedInstaller {
    temporary: Arc<RunFolder>,
    files: Arc<InstallerFiles>,
}

impl Order<'_> {
    async fn prepare_installer(&self) -> Result<PreparedInstaller, EnvironmentError> {
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
        Ok(PreparedInstaller { temporary, files: Arc::new(files) })
    }

    async fn run_installer(
        &self,
        prepared: &PreparedInstaller,
        (python, prefix): (&Path, Option<&Path>),
        pip_wheel: Option<&Path>,
        task: InstallerTask<'_>,
    ) -> Result<ProgramOutput, EnvironmentError> {
        let target = InstallTarget { python, prefix, interpreter: &self.wanted.interpreter, settings: self.settings };
        let PreparedInstaller { temporary, files } = prepared;
        let starts_others = !matches!(task, InstallerTask::InstallPins { from_cache: true, .. });
        let command = self.wanted.installation.command(&target, task, pip_wheel, files, temporary.path())?;
        if starts_others {
            self.run_program(command, temporary.clone()).await
        } else {
            self.run_unguarded(&command).await
        }
    }

    /// What the interpreter of an environment says of itself; `None` if it gives no answer.
    async fn ask(&self, environment: &Path) -> Option<Interpreter> {
        let known = self.supervisor.interpreter(Some(&python_of(environment))).await.ok()?;
        Some(Interpreter::clone(&known))
    }

    /// Runs a program that starts no others.
    async fn run_unguarded(&self, command: &Command) -> Result<ProgramOutput, EnvironmentError> {
        let Self { supervisor, settings, .. } = self;
        let (caller, limit) = (settings.caller.as_deref(), settings.installer_timeout);
        let output = supervisor.run_unguarded_program(command, caller, limit).await;
        output.map_err(|error| self.no_output(error))
    }

    async fn run_program(
        &self,
        command: Command,
        kept: impl Send + 'static,
    ) -> Result<ProgramOutput, EnvironmentError> {
        let limit = self.settings.installer_timeout;
        let output = self.supervisor.run_program(command, self.settings.caller.clone(), limit, kept).await;
        output.map_err(|error| self.no_output(error))
    }

    fn no_output(&self, error: ProgramError) -> EnvironmentError {
        match error {
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
        }
    }

    fn not_made(&self, words: String) -> EnvironmentError {
        EnvironmentError::NotMade { python: self.wanted.interpreter.executable.clone(), words }
    }
}

/// An environment that is not complete.
struct Draft<'a> {
    order: Order<'a>,
    name: String,
    folder: PathBuf,
    /// Exclusive: keeps other processes from removing it.
    lock: LockFile,
    /// Whether uv installs for the interpreter that it is made from (see `scripts`).
    uses_base: bool,
    /// What it was made from. `None`: `venv` has made it, or nobody yet.
    model: Option<Model>,
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
    async fn begin(order: Order<'a>, may_use_base: bool) -> Result<Self, EnvironmentError> {
        let store = order.store.clone();
        let (name, lock) = unblock(move || store.reserve_name()).await?;
        let folder = order.store.environment(&name);
        let base = &order.wanted.interpreter.executable;
        let is_uv = matches!(order.wanted.installation.installer, Installer::Uv(_));
        let uses_base = may_use_base && is_uv && fits_first_line(base) && fits_first_line(&python_of(&folder));
        Ok(Self { order, name, folder, lock, uses_base, model: None })
    }

    /// Runs the installer for this environment.
    async fn run_installer(
        &self,
        prepared: &PreparedInstaller,
        pip_wheel: Option<&Path>,
        task: InstallerTask<'_>,
    ) -> Result<ProgramOutput, EnvironmentError> {
        let own = python_of(&self.folder);
        let target = match self.uses_base {
            true => (self.order.wanted.interpreter.executable.as_path(), Some(self.folder.as_path())),
            false => (own.as_path(), None),
        };
        self.order.run_installer(prepared, target, pip_wheel, task).await
    }

    /// Makes scripts run with the environment's own interpreter. False if that is not
    /// possible.
    async fn redirect_scripts(&self) -> Result<bool, EnvironmentError> {
        if !self.uses_base {
            return Ok(true);
        }
        let (folder, base) = (self.folder.clone(), self.order.wanted.interpreter.executable.clone());
        unblock(move || {
            let redirected = redirect(&folder, &base, &python_of(&folder));
            redirected.map_err(EnvironmentError::system("change the scripts in", &folder))
        })
        .await
    }

    /// Makes the virtual environment, and installs the requirements, or those pins
    /// that are missing. False if they cannot be installed like that.
    async fn fill(&mut self, pins: Option<&Pins>) -> Result<bool, EnvironmentError> {
        let wanted = self.order.wanted;
        let is_empty = wanted.requirements.texts().is_empty();
        if self.uses_base && pins.is_none() && !is_empty && installs_below_lib(&wanted.interpreter) {
            // uv needs nothing of the virtual environment but its folder. It mostly waits for
            // the network, and `venv` computes.
            let (model, ()) = tokio::try_join!(self.model(), self.install(None))?;
            self.make_venv(model).await?;
            return self.redirect_scripts().await;
        }
        let model = self.model().await?;
        let pip_wheel = self.make_venv(model).await?;
        if is_empty {
            return Ok(true);
        }
        if let Some(pins) = pins {
            return self.install_pins(pins.missing()).await;
        }
        let (installer, prefix) = (&wanted.installation.installer, &wanted.interpreter.prefix);
        let configuration = PipConfiguration::lend(installer, prefix, &self.folder).await?;
        // After a failure all of the environment is removed.
        self.install(pip_wheel).await?;
        configuration.take_back().await?;
        self.redirect_scripts().await
    }

    /// The model of a virtual environment of the interpreter; made if none is kept. `None`
    /// if it cannot be kept.
    async fn model(&self) -> Result<Option<Model>, EnvironmentError> {
        // Virtual environments of one interpreter have the same id, and make others
        // with links to their own program.
        let executable = self.order.wanted.interpreter.executable.display().to_string();
        let path = self.order.store.model(&digest([self.order.wanted.interpreter_id.as_str(), executable.as_str()]));
        let kept = async || {
            let path = path.clone();
            unblock(move || read_json::<Model>(&path)).await
        };
        if let Some(model) = kept().await {
            return Ok(Some(model));
        }
        // Several environments may be made at once.
        let _turn = self.order.store.model_turn.lock().await;
        if let Some(model) = kept().await {
            return Ok(Some(model));
        }
        // Below the environment, with which it is removed if this is interrupted. Nothing that is
        // installed meanwhile has its name, and no other text in the model contains it.
        let parent = self.folder.join(&self.name);
        let folder = parent.join(&self.name);
        let pip_wheel = self.run_venv(&folder).await?;
        let interpreter = self.order.ask(&folder).await;
        let base = Interpreter::clone(&self.order.wanted.interpreter);
        unblock(move || {
            let model = interpreter.map_or(Ok(None), |interpreter| Model::of(&folder, pip_wheel, interpreter, base));
            let model = model.map_err(EnvironmentError::system("read", &folder))?;
            if let Some(model) = &model {
                write_json(&path, model).map_err(EnvironmentError::system("write", &path))?;
            }
            std::fs::remove_dir_all(&parent).map_err(EnvironmentError::system("remove", &parent))?;
            Ok(model)
        })
        .await
    }

    /// Makes the virtual environment, beside what is installed already. Returns the wheel of
    /// pip that comes with the interpreter.
    async fn make_venv(&mut self, model: Option<Model>) -> Result<Option<PathBuf>, EnvironmentError> {
        let folder = self.folder.clone();
        let made = unblock(move || {
            let Some(model) = model else { return Ok(None) };
            let made = model.make(&folder).map_err(EnvironmentError::system("make", &folder))?;
            Ok::<_, EnvironmentError>(made.then_some(model))
        });
        self.model = made.await?;
        match &self.model {
            Some(model) => Ok(model.pip_wheel.clone()),
            None => self.run_venv(&self.folder).await,
        }
    }

    async fn run_venv(&self, folder: &Path) -> Result<Option<PathBuf>, EnvironmentError> {
        let mut command = Command::new(&self.order.wanted.interpreter.executable);
        command.args(["-I", "-c", VENV]).arg(folder);
        remove_variables(&mut command);
        let output = self.order.run_unguarded(&command).await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let wheels = stdout.lines().rev().find_map(|line| line.strip_prefix(VENV_MARK));
        match wheels.and_then(|wheels| serde_json::from_str::<Vec<PathBuf>>(wheels).ok()) {
            Some(wheels) if output.is_success() => Ok(wheels.into_iter().next()),
            _ => Err(self.order.not_made(reason_of_failure(&output))),
        }
    }

    async fn install(&self, pip_wheel: Option<PathBuf>) -> Result<(), EnvironmentError> {
        let order = &self.order;
        let prepared = order.prepare_installer().await?;
        let output = self.run_installer(&prepared, pip_wheel.as_deref(), InstallerTask::Install).await?;
        let PreparedInstaller { temporary, files } = prepared;
        let is_success = output.is_success();
        let requirements_file = files.requirements.display().to_string();
        let (refusals, mismatches) = unblock(move || {
            let hashes = files.hashes.as_ref().filter(|_| is_success);
            let mismatches = hashes.map(|hashes| pip::mismatches(temporary.path(), hashes));
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
            installer: order.wanted.installation.installer.kind(),
            requirements: order.wanted.requirements.redacted(),
            words,
            offline: is_offline(order.settings),
        })
    }

    /// Installs pins, if possible without the network. False if it fails.
    async fn install_pins(&self, lines: String) -> Result<bool, EnvironmentError> {
        if lines.is_empty() {
            return Ok(true);
        }
        let prepared = self.order.prepare_installer().await?;
        let pins = prepared.temporary.path().join("pins.txt");
        let file = pins.clone();
        unblock(move || std::fs::write(&file, lines).map_err(EnvironmentError::system("write", &file))).await?;
        for from_cache in [true, false] {
            let task = InstallerTask::InstallPins { pins: &pins, from_cache };
            let output = self.run_installer(&prepared, None, task).await?;
            if output.is_success() {
                return self.redirect_scripts().await;
            }
            tracing::debug!(from_cache, "pins are not installed: {}", reason_of_failure(&output));
        }
        Ok(false)
    }

    /// Seals the environment and writes its manifest, after which other processes
    /// may open it. `None` if another process has removed it since, or if the pins
    /// cannot be added.
    async fn seal(mut self, pins: Option<Pins>) -> Result<Option<InUse>, EnvironmentError> {
        // The lock keeps the distributions until the manifest names them.
        let (linked, _lock) = {
            let (store, folder) = (self.order.store.clone(), self.folder.clone());
            unblock(move || {
                let path = store.distributions.lock();
                let lock = LockFile::shared(&path).map_err(EnvironmentError::system("lock", &path))?;
                let kept = pins.as_ref().map(Pins::kept).unwrap_or_default();
                let linked = store.distributions.link(&folder, &kept);
                let linked = linked.map_err(EnvironmentError::system("link", &folder))?;
                if let (Some(pins), Some(linked)) = (pins, &linked) {
                    pins.remember(&linked.installed, &store.distributions);
                }
                Ok::<_, EnvironmentError>((linked, lock))
            })
            .await?
        };
        let Some(Linked { links, .. }) = linked else {
            self.remove().await;
            return Ok(None);
        };
        let Order { store, wanted, .. } = self.order;
        let (installed, seal, derived) = {
            let (folder, model, base) = (self.folder.clone(), self.model.take(), wanted.interpreter.clone());
            unblock(move || {
                let installed =
                    installed(&folder).map_err(EnvironmentError::system("read what is installed in", &folder))?;
                let seal = Seal::of(&folder).map_err(EnvironmentError::system("look at", &folder))?;
                let derived = model.and_then(|model| model.interpreter_of(&folder, &base));
                Ok::<_, EnvironmentError>((installed, seal, derived))
            })
            .await?
        };
        // Last: what was written in the same tick of the file system's clock would make the answer
        // doubtful, and the supervisor would ask twice. If this fails, the supervisor asks again
        // before it runs hooks, and reports the reason.
        let interpreter = match derived {
            Some(derived) => Some(derived),
            None => self.order.ask(&self.folder).await,
        };
        let interpreter_id = wanted.interpreter_id.clone();
        let (installer, private) = (wanted.installation.installer.kind(), wanted.requirements.has_urls());
        let (store, Self { folder, name, lock, .. }) = (store.clone(), self);
        unblock(move || {
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
        let (store, Self { name, lock, .. }) = (self.order.store.clone(), self);
        let removed = unblock(move || {
            // Its lock is held until its files are gone.
            let _lock = lock;
            store.remove(&name)
        });
        if let Err(error) = removed.await {
            tracing::debug!("the next run removes an environment that was not completed: {error}");
        }
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
