//! What an installer's answer depends on beside the list.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{InstallerKind, is_offline, variables};
use crate::environment::contents::digest;
use crate::environment::error::EnvironmentError;
use crate::environment::settings::EnvironmentSettings;

/// Whether answers are believed whatever their age: nobody can be asked.
pub(crate) fn believes_any_age(settings: &EnvironmentSettings) -> bool {
    is_offline(settings) || settings.index.no_index || variables::says_yes("PIP_NO_INDEX")
}

/// The files of constraints on build requirements: those of the settings, and
/// those that the installer's own variable names.
pub(super) fn build_constraints(settings: &EnvironmentSettings, installer: InstallerKind) -> Vec<PathBuf> {
    let variable = match installer {
        InstallerKind::Uv => "UV_BUILD_CONSTRAINT",
        InstallerKind::Pip => "PIP_BUILD_CONSTRAINT",
    };
    let mut files = settings.build_constraints.clone();
    files.extend(listed(variable));
    files
}

/// The files in a variable; spaces separate them, as both installers have it.
fn listed(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var(variable).unwrap_or_default();
    value.split_whitespace().map(PathBuf::from).collect()
}

/// A digest of index options, constraints, the installers' variables and their
/// configuration files. Of credentials in them nothing can be read out of it.
///
/// Blocks, as reading files does.
pub(crate) fn fingerprint(
    settings: &EnvironmentSettings,
    installer: InstallerKind,
) -> Result<String, EnvironmentError> {
    let mut texts = vec![installer.to_string()];
    let index = &settings.index;
    texts.extend(["index".into(), index.index_url.clone().unwrap_or_default(), index.no_index.to_string()]);
    texts.push("extra".into());
    texts.extend(index.extra_index_urls.iter().cloned());
    texts.push("links".into());
    texts.extend(index.find_links.iter().cloned());
    texts.push("constraints".into());
    for file in &settings.build_constraints {
        let failed = |source| EnvironmentError::Constraints { path: file.clone(), source: Arc::new(source) };
        let content = std::fs::read(file).map_err(failed)?;
        texts.extend([file.display().to_string(), String::from_utf8_lossy(&content).into_owned()]);
    }
    let variables = variables::of_installers();
    texts.push("variables".into());
    texts.extend(variables.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
    texts.push("files".into());
    let constraints = ["UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"];
    let mut has_files = !settings.build_constraints.is_empty();
    for file in configuration_files().into_iter().chain(constraints.into_iter().flat_map(listed)) {
        if let Some(content) = read_file(&file) {
            has_files = true;
            texts.extend([file.display().to_string(), String::from_utf8_lossy(&content).into_owned()]);
        }
    }
    let places = index.index_url.iter().chain(&index.extra_index_urls).chain(&index.find_links);
    let values = variables.iter().map(|(_, value)| value);
    // Relative places are relative to it. Files may have any, and name further files.
    if has_files || !places.chain(values).all(|value| is_the_same_everywhere(value)) {
        texts.push(std::env::current_dir().unwrap_or_default().display().to_string());
    }
    Ok(digest(texts.iter().map(String::as_str)))
}

/// Whether a value certainly means the same in any working directory: a number,
/// a yes or no, or nothing but absolute paths and addresses, however an
/// installer may take it apart.
fn is_the_same_everywhere(value: &str) -> bool {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit()) || variables::is_yes_or_no(value);
    let is_address = |part: &str| {
        let scheme = part.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let mut parts = value.split(|letter: char| letter.is_whitespace() || letter == ',');
    is_plain || (!value.contains('$') && parts.all(|part| part.starts_with('/') || is_address(part)))
}

/// Where pip and uv look for their settings, as far as they may be.
pub(super) fn configuration_files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut files: Vec<PathBuf> = ["PIP_CONFIG_FILE", "UV_CONFIG_FILE"].into_iter().filter_map(variable).collect();
    let home = variable("HOME");
    let in_home = |rest: &str| home.as_deref().map(|home| home.join(rest));
    let user = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let system = std::env::var_os("XDG_CONFIG_DIRS").filter(|value| !value.is_empty()).unwrap_or("/etc/xdg".into());
    let mut folders: Vec<PathBuf> = user.into_iter().chain(std::env::split_paths(&system)).collect();
    folders.extend(in_home("Library/Application Support"));
    folders.push("/Library/Application Support".into());
    for folder in folders {
        files.extend([folder.join("pip/pip.conf"), folder.join("uv/uv.toml")]);
    }
    files.extend(in_home(".pip/pip.conf"));
    files.extend(["/etc/pip.conf".into(), "/etc/uv/uv.toml".into()]);
    files.extend(project_file());
    files
}

/// uv reads the nearest `uv.toml`, or `[tool.uv]` in `pyproject.toml`, above
/// the working directory too.
fn project_file() -> Option<PathBuf> {
    let folder = std::env::current_dir().ok()?;
    folder.ancestors().find_map(|folder| {
        let own = folder.join("uv.toml");
        if own.is_file() {
            return Some(own);
        }
        let project = folder.join("pyproject.toml");
        has_uv_table(&project).then_some(project)
    })
}

fn has_uv_table(project: &Path) -> bool {
    read_file(project).is_some_and(|content| String::from_utf8_lossy(&content).contains("[tool.uv"))
}

/// What is in a file, if that can be read. Of a pipe it might be waited for.
pub(super) fn read_file(file: &Path) -> Option<Vec<u8>> {
    file.is_file().then(|| std::fs::read(file).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_working_directory_may_decide_on_is_seen() {
        for value in [
            "wheels",
            ".",
            "./wheels",
            "wh=x",
            "/tmp,my wh",
            "/tmp, ",
            "wh(x)",
            "file:w%2B1",
            "name=https://example.org/simple",
            "$HOME/wheels",
            "/wheels/${NAME}",
            "://x",
            "~/wheels",
        ] {
            assert!(!is_the_same_everywhere(value), "{value}");
        }
        for value in [
            "",
            "180",
            "1",
            "true",
            "No",
            "/wheels",
            "/wheels,/more /and",
            "https://user:secret@example.org/simple/",
            "https://example.org/simple/ file:///wheels",
        ] {
            assert!(is_the_same_everywhere(value), "{value}");
        }
    }
}
