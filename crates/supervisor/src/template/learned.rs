//! The modules that a template preloads: those that hooks have imported, if hookd
//! lists them as harmless. And the variables that were read meanwhile.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hookd_protocol::ImportedModule;
use serde::{Deserialize, Serialize};

use super::variables::ReadVariables;
use crate::files::kept;
use crate::files::{Links, open_regular_file, read_all};

/// The list of one template key, in the order of the hooks' imports.
#[derive(Debug, Default)]
pub(crate) struct LearnedModules {
    names: Vec<String>,
    known: HashSet<String>,
    /// The variables that imports in templates of this key have read.
    read: ReadVariables,
    /// Their import has changed or ended a template. No module is learned until
    /// the environment changes.
    disabled: bool,
    /// The file that keeps the list for later runs.
    file: Option<PathBuf>,
    unsaved: bool,
}

impl LearnedModules {
    /// The size of the list. Each name costs memory in every template.
    const MOST: usize = 3000;
    /// In bytes.
    const LARGEST_FILE: u64 = 4 << 20;

    /// Reads a list from its file. It is empty if the file cannot be read, since
    /// it only saves time. Blocks.
    pub fn load(file: PathBuf) -> Self {
        let Kept { modules, variables } = read(&file).unwrap_or_default();
        let mut list = Self { file: Some(file), read: variables, ..Self::default() };
        for name in modules {
            list.add(&name);
        }
        list.unsaved = false;
        list
    }

    /// A hook has imported these. Returns the names that are new and may be
    /// preloaded.
    pub fn learn(&mut self, modules: &[ImportedModule]) -> Vec<String> {
        let preloadable = modules.iter().filter(|module| module.preloadable).map(|module| &module.name);
        preloadable.filter(|name| self.add(name)).cloned().collect()
    }

    fn add(&mut self, name: &str) -> bool {
        let is_new = !self.disabled && self.names.len() < Self::MOST && self.known.insert(name.to_owned());
        if is_new {
            self.names.push(name.to_owned());
            self.unsaved = true;
        }
        is_new
    }

    /// Clears the list, and adds no module until [`LearnedModules::enable`]. A
    /// later run begins with an empty list.
    pub fn disable(&mut self) {
        self.names.clear();
        self.known.clear();
        self.disabled = true;
        self.unsaved = true;
    }

    /// Learns again: the environment has changed, so the harmful module may be
    /// gone.
    pub fn enable(&mut self) {
        self.disabled = false;
    }

    /// The variables that imports have read. They only tell which templates to
    /// start: a template knows itself what it has read.
    pub fn read(&self) -> &ReadVariables {
        &self.read
    }

    /// Imports have read these variables.
    pub fn add_read(&mut self, read: &ReadVariables) {
        self.unsaved |= self.read.add(read);
    }

    /// The environment has changed, or nothing is imported any more.
    pub fn forget_read(&mut self) {
        self.unsaved |= self.read != ReadVariables::default();
        self.read = ReadVariables::default();
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The top-level packages of all names: `setuptools` of `setuptools.dist`.
    pub fn top_levels(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| top_level(name))
    }

    /// The list to be saved, if it has changed since the last call.
    pub fn unsaved(&mut self) -> Option<UnsavedList> {
        let file = self.file.as_ref().filter(|_| self.unsaved)?.clone();
        self.unsaved = false;
        let kept = Kept { modules: self.names.clone(), variables: self.read.clone() };
        Some(UnsavedList { file, kept })
    }
}

/// A list to be saved to its file.
#[derive(Debug)]
pub(crate) struct UnsavedList {
    file: PathBuf,
    kept: Kept,
}

/// The content of a list's file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    modules: Vec<String>,
    variables: ReadVariables,
}

impl UnsavedList {
    /// Saves the list. An error is only logged, since it costs no more than time
    /// in the next run. Blocks.
    pub fn save(&self) {
        if let Err(error) = write(&self.file, &self.kept) {
            tracing::debug!("cannot save the list of learned modules to {}: {error}", self.file.display());
        }
    }
}

/// The part of a module's name before the first dot.
pub(crate) fn top_level(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn read(file: &Path) -> Option<Kept> {
    let open = open_regular_file(file, Links::Refuse).ok()?;
    // The modification time is the time of the last use.
    let _ = open.set_modified(std::time::SystemTime::now());
    serde_json::from_slice(&read_all(open, LearnedModules::LARGEST_FILE).ok()?).ok()
}

fn write(file: &Path, kept: &Kept) -> std::io::Result<()> {
    kept::folder(file.parent().unwrap_or(Path::new("."))).map_err(std::io::Error::other)?;
    kept::write(file, &serde_json::to_vec(kept)?)
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
    fn preloadable_modules_are_learned_once_and_saved() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("learned/list.json");
        let mut list = LearnedModules::load(file.clone());
        let imported = modules(&[("json.tool", true), ("helper", false), ("packaging", true)]);
        assert_eq!(list.learn(&imported), ["json.tool", "packaging"]);
        assert!(list.learn(&imported).is_empty());
        assert_eq!(list.top_levels().collect::<Vec<_>>(), ["json", "packaging"]);
        list.add_read(&ReadVariables { names: ["CI".to_owned()].into(), all: false });
        list.unsaved().unwrap().save();
        assert!(list.unsaved().is_none());
        let later = LearnedModules::load(file);
        assert_eq!((later.names(), later.read()), (list.names(), list.read()));
    }

    #[test]
    fn a_disabled_list_is_learned_again_when_the_environment_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("learned/list.json");
        let mut list = LearnedModules::load(file.clone());
        list.learn(&modules(&[("a", true)]));
        list.disable();
        assert!(list.learn(&modules(&[("a", true)])).is_empty());
        list.unsaved().unwrap().save();
        assert!(LearnedModules::load(file).names().is_empty());
        list.enable();
        assert_eq!(list.learn(&modules(&[("a", true)])), ["a"]);
    }

    #[test]
    fn a_damaged_file_gives_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.json");
        std::fs::write(&file, "[\"a\", 1]").unwrap();
        assert!(LearnedModules::load(file).names().is_empty());
    }
}
