//! Constraints on what is installed into build environments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration::Configuration;
use super::hashes::{Hashes, take_out};
use super::installation::write_private;
use super::requirements_file::{is_address, quoted};
use super::told::Told;
use super::{Installer, InstallerKind};
use crate::environment::error::EnvironmentError;
use crate::environment::redact::redact;
use crate::environment::settings::EnvironmentSettings;

/// In the folder of temporary files.
const NAME: &str = "build-constraints.txt";

/// All that constrains build requirements, whichever installer it was told to:
/// files of the settings, variables and files of configuration of both, and
/// what uv's files list themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints {
    /// In the form of pip's; those that were named otherwise than by the
    /// settings may be addresses, or not be there.
    files: Vec<PathBuf>,
    /// Constraints themselves.
    listed: Vec<String>,
    /// All that is in them, files that they include too.
    texts: Vec<String>,
    /// Those of the files that cannot be read here.
    unread: Vec<PathBuf>,
    /// The same without credentials, and what else belongs to the question.
    content: Vec<String>,
}

impl Constraints {
    /// Reads them.
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
        found.files.extend(of_pip.iter().chain(of_uv).flat_map(|told| files_of(told, "build-constraint")));
        let listed = of_uv.iter().filter(|told| told.name == "build-constraint-dependencies");
        found.listed.extend(listed.map(|told| told.value.clone()));
        (found.texts, found.unread) = contents(&found.files);
        found.texts.extend(found.listed.iter().cloned());
        found.content = question(&found.texts, &found.unread);
        if installer.obeys_run_time_constraints() {
            let files: Vec<PathBuf> = of_pip.iter().flat_map(|told| files_of(told, "constraint")).collect();
            let (texts, unread) = contents(&files);
            found.content.extend(question(&texts, &unread));
        }
        Ok(found)
    }

    /// What belongs to the question of an environment.
    pub fn question(&self) -> &[String] {
        &self.content
    }

    /// Files of which none includes another, and the hashes in them, without which
    /// pip is to have the files; nothing where there are no hashes. uv takes no
    /// notice of those in files that are included.
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
        // What the installer cannot read either, it tells in its own words.
        Ok(Some((put(temporary, text, &self.unread)?, hashes)))
    }

    /// Files for an installer; what is in none yet is written to one in a folder
    /// of temporary files.
    pub fn files(&self, temporary: &Path) -> Result<Vec<PathBuf>, EnvironmentError> {
        put(temporary, self.listed.join("\n"), &self.files)
    }
}

/// Files of these constraints and of those that are in `files`. Addresses among
/// these are included, and not told as arguments: they may hold credentials.
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

/// Without credentials.
fn question(texts: &[String], unread: &[PathBuf]) -> Vec<String> {
    let names = unread.iter().map(|file| redact(&file.to_string_lossy()).into_owned());
    texts.iter().map(|text| redact(text).into_owned()).chain(names).collect()
}

/// The files that a setting of this name has; spaces separate them, as both
/// installers have it.
fn files_of<'a>(told: &'a Told, name: &str) -> impl Iterator<Item = PathBuf> + use<'a> {
    let value = if told.name == name { told.value.as_str() } else { "" };
    let file = |file: &str| if file.contains("://") { file.into() } else { told.folder.join(file) };
    value.split_whitespace().map(file)
}

/// What is in the files, and in those that they name; and the files that cannot be
/// read.
fn contents(files: &[PathBuf]) -> (Vec<String>, Vec<PathBuf>) {
    let mut queue: Vec<PathBuf> = files.to_vec();
    let (mut contents, mut unread) = (Vec::new(), Vec::new());
    let mut next = 0;
    while let Some(file) = queue.get(next).cloned() {
        next += 1;
        // Of a pipe it might be waited for. What cannot be read, the installer
        // tells in its own words.
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

/// The files that one of pip's form includes.
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
