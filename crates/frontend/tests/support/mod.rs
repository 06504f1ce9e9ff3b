//! Shared by the integration tests: hand-made wheels in a folder that serves as the index, and
//! environments with their own supervisor.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookpool_frontend::{
    Environment, EnvironmentError, EnvironmentEvent, EnvironmentSettings, Environments, IndexOptions, InstallerChoice,
};
use hookpool_supervisor::Supervisor;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A cache folder and a folder of wheels, for one or more runs.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("wheels")).unwrap();
        Self { folder }
    }

    pub fn wheels(&self) -> PathBuf {
        self.folder.path().join("wheels")
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Settings without an index.
    pub fn settings(&self, installer: InstallerChoice) -> EnvironmentSettings {
        let mut settings = EnvironmentSettings::new(self.cache());
        settings.installer = installer;
        settings.jobs = 2.try_into().unwrap();
        settings.index = IndexOptions {
            no_index: true,
            find_links: vec![self.wheels().to_str().unwrap().to_owned()],
            ..IndexOptions::default()
        };
        settings
    }

    /// Settings with the index that [`Place::index`] makes.
    pub fn settings_with_index(&self, installer: InstallerChoice) -> EnvironmentSettings {
        let mut settings = self.settings(installer);
        let address = format!("file://{}", self.folder.path().join("index").display());
        settings.index = IndexOptions { index_url: Some(address), ..IndexOptions::default() };
        settings
    }

    /// Makes or replaces the page of a distribution in the index, with these wheels. Removes it
    /// if there are none.
    pub fn index(&self, name: &str, wheels: &[PathBuf]) {
        let page = self.folder.path().join("index").join(name);
        std::fs::create_dir_all(&page).unwrap();
        if wheels.is_empty() {
            return std::fs::remove_file(page.join("index.html")).unwrap();
        }
        let link = |wheel: &PathBuf| {
            let name = wheel.file_name().unwrap().display().to_string();
            format!("<a href=\"file://{}\">{name}</a>", wheel.display())
        };
        let links: String = wheels.iter().map(link).collect();
        std::fs::write(page.join("index.html"), format!("<!DOCTYPE html><html><body>{links}</body></html>")).unwrap();
    }

    pub async fn run(&self, installer: InstallerChoice) -> Run {
        Run::start(self.settings(installer)).await
    }

    /// Puts a wheel with one module into the folder.
    pub fn wheel(&self, name: &str, version: &str, requires: &[&str]) -> PathBuf {
        let module = format!("version = {version:?}\n");
        self.wheel_of(name, version, requires, &[(&format!("{name}.py"), &module)])
    }

    pub fn wheel_of(&self, name: &str, version: &str, requires: &[&str], files: &[(&str, &str)]) -> PathBuf {
        let path = self.wheels().join(format!("{name}-{version}-py3-none-any.whl"));
        let info = format!("{name}-{version}.dist-info");
        let requires: String = requires.iter().map(|requirement| format!("Requires-Dist: {requirement}\n")).collect();
        let mut members: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        members.push((
            format!("{info}/METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"),
        ));
        members.push((
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n".into(),
        ));
        members.push((format!("{info}/entry_points.txt"), format!("[console_scripts]\n{name}-tool = {name}:main\n")));
        let mut record: String = members.iter().map(|(path, text)| record_line(path, text)).collect();
        record.push_str(&format!("{info}/RECORD,,\n"));
        members.push((format!("{info}/RECORD"), record));
        let mut writer = ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, text) in members {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    }
}

/// A source distribution whose build writes its pid, and then waits until it may go on.
pub struct SlowBuild {
    folder: PathBuf,
}

impl SlowBuild {
    /// Puts it into the folder of wheels as `slow` 1.0.
    pub fn new(place: &Place) -> Self {
        let folder = place.folder.path().join("slow");
        std::fs::create_dir(&folder).unwrap();
        let backend = format!(
            "import os, time\nfolder = {folder:?}\n\ndef build_wheel(wheels, settings=None, metadata=None):\n    \
             with open(folder + '/started', 'a') as file:\n        file.write(str(os.getpid()) + '\\n')\n    \
             while not os.path.exists(folder + '/go'):\n        time.sleep(0.01)\n    \
             import shutil\n    return os.path.basename(shutil.copy(folder + '/slow-1.0-py3-none-any.whl', wheels))\n"
        );
        let wheel = place.wheel("slow", "1.0", &[]);
        std::fs::rename(&wheel, folder.join(wheel.file_name().unwrap())).unwrap();
        let sdist = std::fs::File::create(place.wheels().join("slow-1.0.tar.gz")).unwrap();
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(sdist, flate2::Compression::fast()));
        let table = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
        let about = "Metadata-Version: 2.2\nName: slow\nVersion: 1.0\n";
        for (name, text) in [("pyproject.toml", table), ("backend.py", backend.as_str()), ("PKG-INFO", about)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("slow-1.0/{name}"), text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        Self { folder }
    }

    /// Waits until this number of builds has started, and returns their pids.
    pub async fn started(&self, count: usize) -> Vec<String> {
        let path = self.folder.join("started");
        wait_for("the build starts", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let pids: Vec<String> = text.lines().map(str::to_owned).collect();
            (pids.len() >= count && text.ends_with('\n')).then_some(pids)
        })
        .await
    }

    pub fn go_on(&self) {
        std::fs::write(self.folder.join("go"), "").unwrap();
    }
}

/// Polls until there is a value.
pub async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// The processes whose environment or arguments contain the path of this folder.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let mentions = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains(folder);
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let is_own = entry.file_name().to_str() == Some(&std::process::id().to_string());
        !is_own && (mentions(entry.path().join("environ")) || mentions(entry.path().join("cmdline")))
    });
    processes.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A command that makes one environment.
pub fn program(place: &Place, installer: InstallerChoice, requires: &[&str]) -> std::process::Command {
    // Cargo builds examples with the tests, into a folder beside theirs.
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    let mut command = std::process::Command::new(folder.join("environment"));
    command.arg(place.cache()).arg(format!("{installer:?}").to_lowercase()).args(requires);
    command.env("HOOKPOOL_TEST_PLACE", place.folder.path()).env("UV_NO_INDEX", "1").env("PIP_NO_INDEX", "1");
    command.env("PIP_FIND_LINKS", place.wheels()).env("UV_FIND_LINKS", place.wheels()).env("UV_OFFLINE", "1");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

/// One run of a program that uses the library.
pub struct Run {
    pub supervisor: Supervisor,
    pub environments: Arc<Environments>,
    pub events: Events,
    _folder: TempDir,
}

impl Run {
    pub async fn start(settings: EnvironmentSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::builder()
            .cache_folder(folder.path().join("cache"))
            .capture_folder(folder.path().join("capture"))
            .start()
            .await
            .unwrap();
        let events = Events::default();
        let told = events.clone();
        let environments = Environments::new(supervisor.clone(), settings, move |event| told.add(event)).unwrap();
        Self { supervisor, environments, events, _folder: folder }
    }

    pub async fn get(&self, requires: &[&str]) -> Result<Environment, EnvironmentError> {
        let requires: Vec<String> = requires.iter().map(|&text| text.to_owned()).collect();
        self.environments.get(None, &requires).await
    }

    pub async fn end(self) {
        self.supervisor.drain().await;
        self.environments.close().await;
    }
}

/// The events that happened.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<EnvironmentEvent>>>);

impl Events {
    fn add(&self, event: &EnvironmentEvent) {
        self.0.lock().unwrap().push(event.clone());
    }

    pub fn all(&self) -> Vec<EnvironmentEvent> {
        self.0.lock().unwrap().clone()
    }

    pub fn names(&self) -> Vec<String> {
        let name = |event: &EnvironmentEvent| format!("{event:?}").split([' ', '{']).next().unwrap().to_owned();
        self.all().iter().map(name).collect()
    }
}

/// The installers on this machine. `tests/run` installs uv.
pub fn installers() -> Vec<InstallerChoice> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let has_uv = std::env::split_paths(&folders).any(|folder| folder.join("uv").is_file());
    if has_uv {
        vec![InstallerChoice::Pip, InstallerChoice::Uv]
    } else {
        eprintln!("uv is not on PATH: only pip is tested");
        vec![InstallerChoice::Pip]
    }
}

/// The names and versions of the installed distributions.
pub fn installed(environment: &Environment) -> Vec<String> {
    environment.installed().iter().map(|found| format!("{}=={}", found.name, found.version)).collect()
}

/// Makes the resolutions in the cache folder older than a day.
pub fn make_resolutions_old(cache: &Path) {
    let folder = cache.join("environments/1/resolutions");
    for entry in
        folder.read_dir().unwrap().flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
    {
        let mut resolution: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        resolution["asked_at"] = 1000.into();
        std::fs::write(entry.path(), resolution.to_string()).unwrap();
    }
}

/// The names of the environments in the cache folder.
pub fn made(cache: &Path) -> Vec<String> {
    let folder = cache.join("environments/1/made");
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    names.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn record_line(path: &str, text: &str) -> String {
    format!("{path},sha256={},{}\n", base64(&Sha256::digest(text)), text.len())
}

/// For URLs, without padding (RFC 4648, 5).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number =
            chunk.iter().enumerate().fold(0_usize, |sum, (at, byte)| sum | usize::from(*byte) << (16 - 8 * at));
        for at in 0..=chunk.len() {
            text.push(char::from(LETTERS[number >> (18 - 6 * at) & 63]));
        }
    }
    text
}
