//! What pip and uv are told by variables and files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::deciding::setting_of;
use super::told::{Told, in_pip_file, in_uv_table};
use super::uv_file::{UvFile, without_run_time};
use super::variables::REMOVED;
use super::{InstallerKind, site};

/// What both installers are told, as it was when it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Configuration {
    pip: Vec<Told>,
    uv: Vec<Told>,
    /// What uv is given in place of its files, if these are not for it.
    uv_file: Option<String>,
}

impl Configuration {
    /// Reads variables and files, those of an interpreter with this prefix too.
    pub fn read(prefix: &Path) -> Self {
        let folder = std::env::current_dir().unwrap_or_default();
        let mut pip = in_variables(InstallerKind::Pip, &folder);
        for file in pip_files(prefix) {
            let text = read_text(&file).unwrap_or_default();
            // pip takes relative places as seen from where it runs.
            pip.extend(in_pip_file(&text, &folder, &file));
        }
        let mut uv = in_variables(InstallerKind::Uv, &folder);
        let files = uv_files(&folder);
        for UvFile { path, table } in &files {
            // uv takes them as seen from the file.
            uv.extend(in_uv_table(table, path.parent().unwrap_or(&folder)));
        }
        Self { pip, uv, uv_file: without_run_time(&files) }
    }

    /// The file for uv in place of those that it would find.
    pub fn uv_file(&self) -> Option<&str> {
        self.uv_file.as_deref()
    }

    /// What one of them is told.
    pub fn of(&self, installer: InstallerKind) -> &[Told] {
        match installer {
            InstallerKind::Pip => &self.pip,
            InstallerKind::Uv => &self.uv,
        }
    }
}

/// The variables of an installer that reach it, in order.
fn in_variables(installer: InstallerKind, folder: &Path) -> Vec<Told> {
    let mut told: Vec<Told> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_str().filter(|name| !REMOVED.contains(name))?;
            let value = value.to_string_lossy().into_owned();
            let (setting, origin) = (setting_of(installer, name)?, name.to_owned());
            Some(Told { name: setting, value, folder: folder.to_owned(), origin })
        })
        .collect();
    told.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    told
}

/// Where pip looks for its settings, as far as they may be.
fn pip_files(prefix: &Path) -> Vec<PathBuf> {
    let named = variable("PIP_CONFIG_FILE").map(PathBuf::from);
    // So it is kept from reading any.
    if named.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let mut files = vec![PathBuf::from("/etc/pip.conf")];
    files.extend(folders(true, true).into_iter().map(|folder| folder.join("pip/pip.conf")));
    files.extend(in_home(".pip/pip.conf"));
    files.push(prefix.join(site::NAME));
    files.extend(named);
    files
}

/// The files that uv reads: one that it is given, or else the project's, the
/// user's and the system's, of which the first counts most.
fn uv_files(working_folder: &Path) -> Vec<UvFile> {
    let read = |path: PathBuf| Some(UvFile { table: read_text(&path)?.parse().ok()?, path });
    if let Some(file) = variable("UV_CONFIG_FILE") {
        return read(file.into()).into_iter().collect();
    }
    if super::variables::says_yes("UV_NO_CONFIG") {
        return Vec::new();
    }
    let user = folders(true, false).into_iter().map(|folder| folder.join("uv/uv.toml")).find_map(read);
    let system = folders(false, true).into_iter().map(|folder| folder.join("uv/uv.toml"));
    let system = system.chain(["/etc/uv/uv.toml".into()]).find_map(read);
    project_file(working_folder).into_iter().chain(user).chain(system).collect()
}

/// The nearest `uv.toml`, or `[tool.uv]` in `pyproject.toml`, above the working
/// folder too; where that belongs to a workspace, the workspace's.
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

/// Folders of settings: the user's, the system's.
fn folders(users: bool, systems: bool) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if users {
        folders.extend(variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| in_home(".config")));
        folders.extend(in_home("Library/Application Support"));
    }
    if systems {
        let named = variable("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
        folders.extend(std::env::split_paths(&named));
        folders.push("/Library/Application Support".into());
    }
    folders
}

fn in_home(rest: &str) -> Option<PathBuf> {
    variable("HOME").map(|home| Path::new(&home).join(rest))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What is in a file, if that can be read. Of a pipe it might be waited for.
fn read_text(file: &Path) -> Option<String> {
    let content = file.is_file().then(|| std::fs::read(file).ok()).flatten()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}
