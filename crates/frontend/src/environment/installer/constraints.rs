//! Constraints on what is installed into build environments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration::Configuration;
use super::hashes::{Hashes, take_out};
use super::requirements_file::{is_address, quoted};
use super::setting::InstallerSetting;
use super::{Installer, write_private};
use crate::environment::error::EnvironmentError;
use crate::environment::settings::{EnvironmentSettings, InstallerKind};
use crate::redact::redact;

/// A file in the folder for temporary files.
const NAME: &str = "build-constraints.txt";

/// The constraints on build requirements, whichever installer was told of them: from
/// our settings, and from the variables and configuration files of both installers.
#[derive(Default)]
pub(super) struct Constraints {
    /// Files in pip's format. Those that our settings name exist; others may be
    /// missing, or be addresses.
    files: Vec<PathBuf>,
    /// Constraints that uv's configuration lists itself.
    listed: Vec<String>,
    /// The contents of all of them, with the files that they include.
    texts: Vec<String>,
    /// The files that cannot be read here.
    unread: Vec<PathBuf>,
    /// What belongs to the key of an environment: all of this, redacted, and the
    /// constraints at run time, if the installer obeys them.
    key: Vec<String>,
}

impl Constraints {
    /// Reads all files of constraints. Blocks.
    pub fn find(
        settings: &EnvironmentSettings,
        configuration: &Configuration,
        installer: &Installer,
    ) -> Result<Self, EnvironmentError> {
        let mut found = Self::default();
        for file in &settings.build_constraints {
            let failed = |source| EnvironmentError::Constraints { path: file.clone(), source: Arc::new(source) };
            std::fs::File::open(file).map_err(failed)?;
            found.files.push(file.clone());
        }
        let (of_pip, of_uv) = (configuration.of(InstallerKind::Pip), configuration.of(InstallerKind::Uv));
        found.files.extend(of_pip.iter().chain(of_uv).flat_map(|setting| files_of(setting, "build-constraint")));
        let listed = of_uv.iter().filter(|setting| setting.name == "build-constraint-dependencies");
        found.listed.extend(listed.map(|setting| setting.value.clone()));
        (found.texts, found.unread) = contents(&found.files);
        found.texts.extend(found.listed.iter().cloned());
        found.key = key_of(&found.texts, &found.unread);
        if installer.obeys_run_time_constraints() {
            let files: Vec<PathBuf> = of_pip.iter().flat_map(|setting| files_of(setting, "constraint")).collect();
            let (texts, unread) = contents(&files);
            found.key.extend(key_of(&texts, &unread));
        }
        Ok(found)
    }

    /// What belongs to the key of an environment.
    pub fn key(&self) -> &[String] {
        &self.key
    }

    /// If the constraints have hashes, the files for an installer, and the hashes. The
    /// files include no others, because uv ignores the hashes in included files. For
    /// pip, the files have no hashes.
    pub fn with_hashes(
        &self,
        temporary: &Path,
        installer: InstallerKind,
    ) -> Result<Option<(Vec<PathBuf>, Hashes)>, EnvironmentError> {
        let includes_nothing = |line: &&str| files_named_in(line).is_empty();
        let lines = |text: &String| text.lines().filter(includes_nothing).collect::<Vec<_>>().join("\n");
        let all = self.texts.iter().map(lines).collect::<Vec<_>>().join("\n");
        let (without, hashes) = take_out(&all);
        if hashes.is_empty() {
            return Ok(None);
        }
        let text = match installer {
            InstallerKind::Pip => without,
            InstallerKind::Uv => all,
        };
        // If the installer cannot read a file either, it reports that.
        Ok(Some((put(temporary, text, &self.unread)?, hashes)))
    }

    /// The files for an installer. Constraints that are in no file are written to one
    /// in the folder for temporary files.
    pub fn files(&self, temporary: &Path) -> Result<Vec<PathBuf>, EnvironmentError> {
        put(temporary, self.listed.join("\n"), &self.files)
    }
}

/// A new file with these constraints, and `files`. The new file includes those that are
/// addresses: as arguments, everybody could read the credentials in them.
fn put(temporary: &Path, mut text: String, files: &[PathBuf]) -> Result<Vec<PathBuf>, EnvironmentError> {
    let address = |file: &PathBuf| file.to_str().filter(|name| is_address(name)).map(quoted);
    for address in files.iter().filter_map(address) {
        text.push_str(&format!("\n-c {address}"));
    }
    let mut files: Vec<PathBuf> = files.iter().filter(|file| address(file).is_none()).cloned().collect();
    if !text.is_empty() {
        let file = temporary.join(NAME);
        write_private(&file, &(text + "\n"))?;
        files.push(file);
    }
    Ok(files)
}

/// The texts and the names of files, redacted.
fn key_of(texts: &[String], unread: &[PathBuf]) -> Vec<String> {
    let names = unread.iter().map(|file| redact(&file.to_string_lossy()).into_owned());
    texts.iter().map(|text| redact(text).into_owned()).chain(names).collect()
}

/// The files that a setting names, if it has this name; both installers separate them
/// by spaces.
fn files_of<'a>(setting: &'a InstallerSetting, name: &str) -> impl Iterator<Item = PathBuf> + use<'a> {
    let value = if setting.name == name { setting.value.as_str() } else { "" };
    let file = |file: &str| if file.contains("://") { file.into() } else { setting.folder.join(file) };
    value.split_whitespace().map(file)
}

/// The contents of the files, and of those that they include; and the files that
/// cannot be read.
fn contents(files: &[PathBuf]) -> (Vec<String>, Vec<PathBuf>) {
    let mut queue: Vec<PathBuf> = files.to_vec();
    let (mut contents, mut unread) = (Vec::new(), Vec::new());
    let mut next = 0;
    while let Some(file) = queue.get(next).cloned() {
        next += 1;
        // Reading a pipe might block. If the installer cannot read a file either, it
        // reports that.
        let content = file.is_file().then(|| std::fs::read(&file).ok()).flatten();
        let Some(content) = content else {
            unread.push(file);
            continue;
        };
        let text = String::from_utf8_lossy(&content);
        for named in files_named_in(&text) {
            let path = file.parent().unwrap_or(Path::new("")).join(named);
            if !queue.contains(&path) {
                queue.push(path);
            }
        }
        contents.push(text.into_owned());
    }
    (contents, unread)
}

/// The files that a file in pip's format includes.
fn files_named_in(text: &str) -> Vec<&str> {
    const OPTIONS: [&str; 4] = ["--constraint", "--requirement", "-c", "-r"];
    let named = |line: &'_ str| -> Option<usize> {
        OPTIONS.iter().find(|option| line.starts_with(**option)).map(|option| option.len())
    };
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or(line).trim())
        .filter_map(|line| named(line).map(|length| line[length..].trim_start_matches(['=', ' ', '\t'])))
        .filter(|name| !name.is_empty() && !name.contains("://"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_included_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.txt", "-c b.txt # more\n--requirement=c.txt\nx<1\n-c https://u:p@example.org/d.txt\n");
        write("b.txt", "-ca.txt\ny<2\n");
        write("c.txt", "z<3\n");
        let (texts, unread) = contents(&[folder.path().join("a.txt"), folder.path().join("missing.txt")]);
        assert_eq!(unread, [folder.path().join("missing.txt")]);
        let found = texts.join("\n");
        for part in ["x<1", "y<2", "z<3", "https://u:p@example.org"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert_eq!(found.matches("x<1").count(), 1);
    }
}
