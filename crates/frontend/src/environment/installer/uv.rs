//! uv, and the configuration that it gets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use super::key::OF_THE_PLATFORM;
use super::requirements_file::is_address;
use super::{InstallTarget, InstallerFiles, InstallerTask, is_offline, remove_variables};
use crate::environment::settings::EnvironmentSettings;

/// The program that the variable `UV` names (uv sets it for its children), or the
/// first on PATH.
pub(super) fn find(settings: &EnvironmentSettings) -> Option<PathBuf> {
    let (path, folder) = (settings.variable("PATH"), std::env::current_dir().unwrap_or_default());
    let on_path = |name: &OsStr| which::which_in(name, path.as_ref(), &folder).ok();
    let named = settings.variable("UV").and_then(|named| on_path(&named));
    std::path::absolute(named.or_else(|| on_path(OsStr::new("uv")))?).ok()
}

/// The cache folder that uv uses unless it is told another one.
pub(super) fn default_cache(settings: &EnvironmentSettings) -> Option<PathBuf> {
    // A relative XDG_CACHE_HOME is invalid.
    let named = settings.variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let in_home = || Some(Path::new(&settings.variable("HOME")?).join(".cache"));
    Some(named.or_else(in_home)?.join("uv"))
}

/// The command that does a task.
pub(super) fn command(
    target: &InstallTarget<'_>,
    program: &Path,
    files: &InstallerFiles,
    task: InstallerTask<'_>,
) -> Command {
    let mut command = Command::new(program);
    match task {
        InstallerTask::Resolve => {
            command.args(["pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--strip-extras"]);
        }
        InstallerTask::Install | InstallerTask::InstallPins { .. } => {
            // Hard links only for the moment: what stays is copied (`Distributions::link`).
            command.args(["pip", "install", "--link-mode", "hardlink", "--no-compile-bytecode"]);
            command.arg("--no-break-system-packages");
        }
    }
    command.args(["--quiet", "--no-progress", "--color", "never", "--python"]).arg(target.python);
    if let Some(prefix) = target.prefix {
        command.arg("--prefix").arg(prefix);
    }
    let settings = target.settings;
    let index = &settings.index;
    // uv takes distributions of a local folder from its cache even if they have
    // changed, unless `--refresh-package` tells it to look, which it does not do
    // with `--offline`. With `--no-index` it does not use the network anyway.
    let from_cache = matches!(task, InstallerTask::InstallPins { from_cache: true, .. });
    let is_offline = from_cache || is_offline(settings) && (files.local_names.is_empty() || !index.no_index);
    if is_offline {
        command.arg("--offline");
    } else {
        command.args(files.local_names.iter().flat_map(|name| ["--refresh-package", name]));
    }
    if index.no_index {
        command.arg("--no-index");
    }
    for place in index.find_links.iter().filter(|place| !is_address(place)) {
        command.arg("--find-links").arg(place);
    }
    if let Some(file) = &files.configuration {
        command.arg("--config-file").arg(file);
    }
    for file in &files.constraints {
        // For the requirements, and for the builds of requirements.
        command.arg("--constraints").arg(file).arg("--build-constraints").arg(file);
    }
    match task {
        InstallerTask::Install => {
            command.arg("--requirement").arg(&files.requirements);
        }
        InstallerTask::Resolve => {
            command.arg(&files.requirements);
        }
        InstallerTask::InstallPins { pins, from_cache } => {
            command.arg("--no-deps").arg("--requirement").arg(pins);
            if from_cache {
                // A build would take its own requirements from the cache, however old.
                command.arg("--no-build");
            }
        }
    }
    remove_variables(&mut command);
    for name in OF_THE_PLATFORM {
        command.env_remove(name);
    }
    if let Some(folder) = &files.uv_cache {
        command.env("UV_CACHE_DIR", folder);
    }
    if !is_offline {
        command.env_remove("UV_OFFLINE");
    }
    // An argument overrides the variable; the places in the file have to do the same.
    if !index.find_links.is_empty() {
        command.env_remove("UV_FIND_LINKS");
    }
    // Everybody on the machine can read arguments.
    if let Some(url) = &index.index_url {
        command.env("UV_DEFAULT_INDEX", url).env_remove("UV_INDEX_URL");
    }
    if !index.extra_index_urls.is_empty() {
        let inherited = settings.text_variable("UV_EXTRA_INDEX_URL");
        let urls: Vec<&str> = index.extra_index_urls.iter().map(String::as_str).chain(inherited.as_deref()).collect();
        command.env("UV_EXTRA_INDEX_URL", urls.join(" "));
    }
    command
}

/// A configuration file of uv, and its settings.
#[derive(Clone, Debug)]
pub(super) struct UvFile {
    pub path: PathBuf,
    pub table: Table,
}

/// Settings that constrain the run-time requirements of a project.
const OF_RUN_TIME: [&str; 3] = ["constraint-dependencies", "exclude-dependencies", "override-dependencies"];

/// Settings for the user's own `uv pip`: they would install or print to another place, leave
/// something out, or resolve for other systems.
const OF_PIP: [&str; 15] = [
    "all-extras",
    "extra",
    "group",
    "no-build-isolation",
    "no-deps",
    "no-emit-package",
    "output-file",
    "prefix",
    "python",
    "python-platform",
    "python-version",
    "require-hashes",
    "system",
    "target",
    "universal",
];

/// Settings that are allowed in `pyproject.toml` only, and not in `uv.toml`.
const OF_PROJECTS: [&str; 12] = [
    "build-backend",
    "conflicts",
    "default-groups",
    "dependency-groups",
    "dev-dependencies",
    "environments",
    "managed",
    "minimum-libc-version",
    "package",
    "required-environments",
    "sources",
    "workspace",
];

/// One configuration in place of all files, of which the first takes precedence,
/// without the settings that are not meant for build environments. `None` if uv can
/// read the files itself: uv has no switch for single settings.
pub(super) fn without_run_time(files: &[UvFile]) -> Option<String> {
    let has_unwanted = files.iter().any(|file| {
        let of_pip = file.table.get("pip").and_then(Value::as_table);
        let has_of_pip = of_pip.is_some_and(|table| OF_PIP.iter().any(|name| table.contains_key(*name)));
        has_of_pip || OF_RUN_TIME.iter().any(|name| file.table.contains_key(*name))
    });
    if !has_unwanted {
        return None;
    }
    let mut all = Table::new();
    for file in files {
        let mut table = file.table.clone();
        table.retain(|name, _| !OF_RUN_TIME.contains(&name) && !OF_PROJECTS.contains(&name));
        let folder = file.path.parent().unwrap_or(Path::new("/"));
        make_absolute(&mut table, folder);
        if let Some(Value::Table(of_pip)) = table.get_mut("pip") {
            of_pip.retain(|name, _| !OF_PIP.contains(&name));
            make_absolute(of_pip, folder);
        }
        merge(&mut all, table);
    }
    Some(all.to_string())
}

/// As uv does: joins lists; of other settings, the first takes precedence.
fn merge(all: &mut Table, more: Table) {
    for (name, value) in more {
        match (all.get_mut(&name), value) {
            (Some(Value::Array(first)), Value::Array(second)) => first.extend(second),
            (Some(Value::Table(first)), Value::Table(second)) => merge(first, second),
            (Some(_), _) => {}
            (None, value) => {
                all.insert(name, value);
            }
        }
    }
}

/// uv takes relative places as relative to the configuration file, and the new one
/// is in another folder.
fn make_absolute(table: &mut Table, folder: &Path) {
    for name in ["index-url", "extra-index-url", "find-links"] {
        match table.get_mut(name) {
            Some(Value::String(place)) => make_place_absolute(place, folder),
            Some(Value::Array(places)) => {
                for place in places {
                    if let Value::String(place) = place {
                        make_place_absolute(place, folder);
                    }
                }
            }
            _ => {}
        }
    }
    let indexes = table.get_mut("index").and_then(Value::as_array_mut).into_iter().flatten();
    for index in indexes {
        if let Some(Value::String(place)) = index.get_mut("url") {
            make_place_absolute(place, folder);
        }
    }
}

fn make_place_absolute(place: &mut String, folder: &Path) {
    if !place.contains("://") && !place.starts_with("file:") {
        *place = folder.join(&*place).display().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> UvFile {
        UvFile { path: path.into(), table: text.parse().unwrap() }
    }

    #[test]
    fn files_with_settings_for_build_environments_only_are_left_alone() {
        let own = file("/a/uv.toml", "find-links = ['x']\nbuild-constraint-dependencies = ['a<1']\n[pip]\npre = true");
        assert_eq!(without_run_time(&[own]), None);
        assert_eq!(without_run_time(&[]), None);
    }

    #[test]
    fn run_time_constraints_are_removed_and_places_made_absolute() {
        let project = file(
            "/project/pyproject.toml",
            "constraint-dependencies = ['a<1']\noverride-dependencies = ['b']\nexclude-dependencies = ['c']\n\
             managed = true\nprerelease = 'allow'\nfind-links = ['wheels', '/w', 'https://h/w']\n\
             [workspace]\nmembers = []\n[[index]]\nurl = 'own'\n[pip]\nno-deps = true\nindex-url = 'simple'\n",
        );
        let user = file("/home/uv/uv.toml", "prerelease = 'never'\nfind-links = ['more']\nno-build = true\n");
        let found: Table = without_run_time(&[project, user]).unwrap().parse().unwrap();
        let expected: Table = "prerelease = 'allow'\nno-build = true\n\
                               find-links = ['/project/wheels', '/w', 'https://h/w', '/home/uv/more']\n\
                               [[index]]\nurl = '/project/own'\n[pip]\nindex-url = '/project/simple'\n"
            .parse()
            .unwrap();
        assert_eq!(found, expected);
    }
}
