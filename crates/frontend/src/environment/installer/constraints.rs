//! Constraints on what is installed into build environments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::InstallerKind;
use super::configuration::Configuration;
use crate::environment::error::EnvironmentError;
use crate::environment::redact::redact;
use crate::environment::settings::EnvironmentSettings;

/// The files of constraints on build requirements.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints {
    /// In the form of pip's; those that were named otherwise than by the
    /// settings may be addresses, or not be there.
    pub files: Vec<PathBuf>,
    /// All that is in them, without credentials.
    content: Vec<String>,
}

impl Constraints {
    /// Those of the settings, and those that the installer's own variable names.
    /// Reads them.
    pub fn find(
        settings: &EnvironmentSettings,
        configuration: &Configuration,
        installer: InstallerKind,
    ) -> Result<Self, EnvironmentError> {
        let mut found = Self::default();
        for file in &settings.build_constraints {
            let failed = |source| EnvironmentError::Constraints { path: file.clone(), source: Arc::new(source) };
            std::fs::File::open(file).map_err(failed)?;
            found.files.push(file.clone());
        }
        for told in configuration.of(installer).iter().filter(|told| told.name == "build-constraint") {
            // Spaces separate them, as both installers have it.
            found.files.extend(told.value.split_whitespace().map(|file| told.folder.join(file)));
        }
        found.content = contents(&found.files);
        Ok(found)
    }

    /// What belongs to the question of an environment.
    pub fn question(&self) -> &[String] {
        &self.content
    }
}

/// What is in the files, and in those that they name.
fn contents(files: &[PathBuf]) -> Vec<String> {
    let mut queue: Vec<PathBuf> = files.to_vec();
    let mut contents = Vec::new();
    let mut next = 0;
    while let Some(file) = queue.get(next).cloned() {
        next += 1;
        // Of a pipe it might be waited for. What cannot be read, the installer
        // tells in its own words.
        let content = file.is_file().then(|| std::fs::read(&file).ok()).flatten();
        let Some(content) = content else {
            contents.push(redact(&file.to_string_lossy()).into_owned());
            continue;
        };
        let text = String::from_utf8_lossy(&content);
        for named in files_named_in(&text) {
            let path = file.parent().unwrap_or(Path::new("")).join(named);
            if !queue.contains(&path) {
                queue.push(path);
            }
        }
        contents.push(redact(&text).into_owned());
    }
    contents
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
        let found = contents(&[folder.path().join("a.txt"), folder.path().join("missing.txt")]).join("\n");
        for part in ["x<1", "y<2", "z<3", "missing.txt", "https://***@example.org"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert_eq!(found.matches("x<1").count(), 1);
        assert!(!found.contains("u:p"));
    }
}
