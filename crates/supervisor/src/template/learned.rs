//! Which modules a template imports ahead: what hooks imported by themselves,
//! as far as hookd knows it to be harmless.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hookd_protocol::ImportedModule;

use crate::files::kept;
use crate::files::{Links, open_regular_file, read_all};

/// The list of one template key, in the order in which hooks imported them.
#[derive(Debug, Default)]
pub(crate) struct LearnedModules {
    names: Vec<String>,
    known: HashSet<String>,
    /// Their import did harm: nothing is learned until the environment changes.
    given_up: bool,
    /// Where the list is kept for the next start of the program.
    file: Option<PathBuf>,
    unsaved: bool,
}

impl LearnedModules {
    /// More would only cost memory in every template.
    const MOST: usize = 3000;
    const LARGEST_FILE: u64 = 4 << 20;

    /// The list that was kept in this file, if there is one that can be read:
    /// it only saves time. Blocks.
    pub fn load(file: PathBuf) -> Self {
        let names = read(&file).unwrap_or_default();
        let mut list = Self { file: Some(file), ..Self::default() };
        for name in names {
            list.add(&name);
        }
        list.unsaved = false;
        list
    }

    /// A hook imported these. Answers with the names that are new and may be
    /// preloaded.
    pub fn learn(&mut self, modules: &[ImportedModule]) -> Vec<String> {
        let preloadable = modules.iter().filter(|module| module.preloadable).map(|module| &module.name);
        preloadable.filter(|name| self.add(name)).cloned().collect()
    }

    fn add(&mut self, name: &str) -> bool {
        let is_new = !self.given_up && self.names.len() < Self::MOST && self.known.insert(name.to_owned());
        if is_new {
            self.names.push(name.to_owned());
            self.unsaved = true;
        }
        is_new
    }

    /// Forgets all of it, and learns nothing more. The next start of the program
    /// begins anew.
    pub fn give_up(&mut self) {
        self.names.clear();
        self.known.clear();
        self.given_up = true;
        self.unsaved = true;
    }

    /// The environment has changed: what did harm in it may be gone.
    pub fn forgive(&mut self) {
        self.given_up = false;
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first parts of all names: `setuptools` of `setuptools.dist`.
    pub fn top_levels(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| top_level(name))
    }

    /// The list to be written, if it has changed since it was last asked for.
    pub fn unsaved(&mut self) -> Option<UnsavedList> {
        let file = self.file.as_ref().filter(|_| self.unsaved)?.clone();
        self.unsaved = false;
        Some(UnsavedList { file, names: self.names.clone() })
    }
}

/// A list on its way to its file.
#[derive(Debug)]
pub(crate) struct UnsavedList {
    file: PathBuf,
    names: Vec<String>,
}

impl UnsavedList {
    /// Blocks. That it cannot be written costs time at the next start, and
    /// nothing else.
    pub fn save(&self) {
        if let Err(error) = write(&self.file, &self.names) {
            tracing::debug!("cannot keep the list of learned modules in {}: {error}", self.file.display());
        }
    }
}

/// The part of a module's name before the first dot.
pub(crate) fn top_level(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn read(file: &Path) -> Option<Vec<String>> {
    let open = open_regular_file(file, Links::Refuse).ok()?;
    // The time tells when it was last of use.
    let _ = open.set_modified(std::time::SystemTime::now());
    serde_json::from_slice(&read_all(open, LearnedModules::LARGEST_FILE).ok()?).ok()
}

fn write(file: &Path, names: &[String]) -> std::io::Result<()> {
    kept::folder(file.parent().unwrap_or(Path::new("."))).map_err(std::io::Error::other)?;
    kept::write(file, &serde_json::to_vec(names)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[(&str, bool)]) -> Vec<ImportedModule> {
        let module = |&(name, preloadable): &(&str, bool)| ImportedModule {
            name: name.into(),
            file: None,
            mtime_ns: None,
            size: None,
            preloadable,
        };
        names.iter().map(module).collect()
    }

    #[test]
    fn what_is_known_is_learned_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("learned/list.json");
        let mut list = LearnedModules::load(file.clone());
        let imported = modules(&[("json.tool", true), ("helper", false), ("packaging", true)]);
        assert_eq!(list.learn(&imported), ["json.tool", "packaging"]);
        assert!(list.learn(&imported).is_empty());
        assert_eq!(list.top_levels().collect::<Vec<_>>(), ["json", "packaging"]);
        list.unsaved().unwrap().save();
        assert!(list.unsaved().is_none());
        assert_eq!(LearnedModules::load(file).names(), list.names());
    }

    #[test]
    fn what_was_given_up_is_learned_again_when_the_environment_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("learned/list.json");
        let mut list = LearnedModules::load(file.clone());
        list.learn(&modules(&[("a", true)]));
        list.give_up();
        assert!(list.learn(&modules(&[("a", true)])).is_empty());
        list.unsaved().unwrap().save();
        assert!(LearnedModules::load(file).names().is_empty());
        list.forgive();
        assert_eq!(list.learn(&modules(&[("a", true)])), ["a"]);
    }

    #[test]
    fn a_damaged_list_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.json");
        std::fs::write(&file, "[\"a\", 1]").unwrap();
        assert!(LearnedModules::load(file).names().is_empty());
    }
}
