//! What variables and configuration files tell pip and uv.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::key::setting_of;
use super::pip::CONFIGURATION_NAME;
use super::setting::{InstallerSetting, in_pip_file, in_uv_table};
use super::uv::{UvFile, without_run_time};
use super::variables::{REMOVED, says_yes};
use crate::environment::settings::{EnvironmentSettings, InstallerKind};

/// The settings of both installers, as they were when they were read.
#[derive(Default)]
pub(super) struct Configuration {
    pip: Vec<InstallerSetting>,
    uv: Vec<InstallerSetting>,
    /// The configuration that uv gets in place of its files, if they contain settings
    /// that are not meant for build environments.
    uv_file: Option<String>,
}

impl Configuration {
    /// Reads the variables, and the files of the user, the system, the working folder
    /// and the interpreter with this prefix.
    pub fn read(settings: &EnvironmentSettings, prefix: &Path) -> Self {
        let inherited = Inherited(settings);
        let folder = std::env::current_dir().unwrap_or_default();
        let mut pip = inherited.settings_of(InstallerKind::Pip, &folder);
        for file in inherited.pip_files(prefix) {
            let text = read_text(&file).unwrap_or_default();
            // pip takes relative places as relative to its working folder.
            pip.extend(in_pip_file(&text, &folder, &file));
        }
        let mut uv = inherited.settings_of(InstallerKind::Uv, &folder);
        let files = inherited.uv_files(&folder);
        for UvFile { path, table } in &files {
            // uv takes them as relative to the file.
            uv.extend(in_uv_table(table, path.parent().unwrap_or(&folder)));
        }
        Self { pip, uv, uv_file: without_run_time(&files) }
    }

    /// The configuration for uv in place of the files that it would find.
    pub fn uv_file(&self) -> Option<&str> {
        self.uv_file.as_deref()
    }

    /// The settings of one of them.
    pub fn of(&self, installer: InstallerKind) -> &[InstallerSetting] {
        match installer {
            InstallerKind::Pip => &self.pip,
            InstallerKind::Uv => &self.uv,
        }
    }
}

/// The variables of the installers, and what they lead to.
struct Inherited<'a>(&'a EnvironmentSettings);

impl Inherited<'_> {
    /// The settings in the variables that reach an installer, sorted.
    fn settings_of(&self, installer: InstallerKind, folder: &Path) -> Vec<InstallerSetting> {
        let mut found: Vec<InstallerSetting> = self
            .0
            .variables()
            .into_iter()
            .filter_map(|(name, value)| {
                let name = name.to_str().filter(|name| !REMOVED.contains(name))?;
                let value = value.to_string_lossy().into_owned();
                let (setting, origin) = (setting_of(installer, name)?, name.to_owned());
                Some(InstallerSetting { name: setting, value, folder: folder.to_owned(), origin })
            })
            .collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// The files that pip reads, whether they exist or not.
    fn pip_files(&self, prefix: &Path) -> Vec<PathBuf> {
        let named = self.variable("PIP_CONFIG_FILE").map(PathBuf::from);
        // With this value pip reads no file at all.
        if named.as_deref() == Some(Path::new("/dev/null")) {
            return Vec::new();
        }
        let mut files = vec![PathBuf::from("/etc/pip.conf")];
        files.extend(self.folders(true, true).into_iter().map(|folder| folder.join("pip/pip.conf")));
        files.extend(self.in_home(".pip/pip.conf"));
        files.push(prefix.join(CONFIGURATION_NAME));
        files.extend(named);
        files
    }

    /// The files that uv reads: the one that it is given, or else the project's, the
    /// user's and the system's, of which the first takes precedence.
    fn uv_files(&self, working_folder: &Path) -> Vec<UvFile> {
        let read = |path: PathBuf| Some(UvFile { table: read_text(&path)?.parse().ok()?, path });
        if let Some(file) = self.variable("UV_CONFIG_FILE") {
            return read(file.into()).into_iter().collect();
        }
        if says_yes(self.0, "UV_NO_CONFIG") {
            return Vec::new();
        }
        let user = self.folders(true, false).into_iter().map(|folder| folder.join("uv/uv.toml")).find_map(read);
        let system = self.folders(false, true).into_iter().map(|folder| folder.join("uv/uv.toml"));
        let system = system.chain(["/etc/uv/uv.toml".into()]).find_map(read);
        project_file(working_folder).into_iter().chain(user).chain(system).collect()
    }

    /// The folders for configuration: the user's, the system's.
    fn folders(&self, users: bool, systems: bool) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        if users {
            folders.extend(self.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| self.in_home(".config")));
            folders.extend(self.in_home("Library/Application Support"));
        }
        if systems {
            let named = self.variable("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
            folders.extend(std::env::split_paths(&named));
            folders.push("/Library/Application Support".into());
        }
        folders
    }

    fn in_home(&self, rest: &str) -> Option<PathBuf> {
        self.variable("HOME").map(|home| Path::new(&home).join(rest))
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.0.variable(name).filter(|value| !value.is_empty())
    }
}

/// The nearest `uv.toml`, or `[tool.uv]` in `pyproject.toml`, in the working folder
/// and above it; if that belongs to a workspace, the workspace's.
fn project_file(working_folder: &Path) -> Option<UvFile> {
    let files: Vec<UvFile> = working_folder.ancestors().filter_map(project_file_in).collect();
    let is_workspace = |file: &UvFile| file.table.contains_key("workspace");
    let workspace = files.iter().position(is_workspace);
    files.into_iter().nth(workspace.unwrap_or(0))
}

fn project_file_in(folder: &Path) -> Option<UvFile> {
    let own = folder.join("uv.toml");
    if let Some(text) = read_text(&own) {
        return Some(UvFile { path: own, table: text.parse().ok()? });
    }
    let path = folder.join("pyproject.toml");
    let mut project: toml::Table = read_text(&path)?.parse().ok()?;
    match project.remove("tool")?.as_table_mut()?.remove("uv")? {
        toml::Value::Table(table) => Some(UvFile { path, table }),
        _ => None,
    }
}

/// The content of a regular file, if it can be read: reading a pipe might block.
fn read_text(file: &Path) -> Option<String> {
    let content = file.is_file().then(|| std::fs::read(file).ok()).flatten()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}
