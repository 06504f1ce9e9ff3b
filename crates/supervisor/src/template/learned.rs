//! Which modules a template imports ahead: what hooks imported by themselves,
//! from the environment or the standard library.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use hookd_protocol::ImportedModule;
use serde::{Deserialize, Serialize};

use crate::files::kept;
use crate::files::{Links, open_regular_file, read_all};
use crate::interpreter::{Interpreter, Stamp, Watched};

/// The list of one template key, in the order in which hooks imported them.
#[derive(Debug, Default)]
pub(crate) struct LearnedModules {
    names: Vec<String>,
    known: HashSet<String>,
    refused: BTreeMap<String, Refusal>,
    /// Modules that were tried out, and their files as they were then.
    verified: BTreeMap<String, VerifiedFile>,
    /// Where the list is kept for the next start of the program.
    file: Option<PathBuf>,
    unsaved: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Refusal {
    reason: String,
    /// The attempt changed something. A mere failure may have been mended with
    /// the environment.
    lasting: bool,
}

/// The file of a module that was tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifiedFile {
    pub file: PathBuf,
    pub size: u64,
    pub mtime_ns: i64,
}

/// Names that are preloaded in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub names: Vec<String>,
    pub verified: bool,
}

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    learned: Vec<String>,
    refused: BTreeMap<String, Refusal>,
    #[serde(default)]
    verified: BTreeMap<String, VerifiedFile>,
}

impl LearnedModules {
    /// More would only cost memory in every template.
    const MOST: usize = 3000;
    const LARGEST_FILE: u64 = 4 << 20;
    /// They take a snapshot of `sys.path` or the environment at import.
    const SNAPSHOTS: [&str; 3] = ["pkg_resources", "setuptools.command.easy_install", "setuptools.package_index"];

    /// The list that was kept in this file, if there is one that can be read:
    /// it only saves time. Blocks.
    pub fn load(file: PathBuf) -> Self {
        let kept = read(&file).unwrap_or_default();
        let refused = kept.refused.into_iter().filter(|(_, refusal)| refusal.lasting).collect();
        let mut list = Self { refused, verified: kept.verified, file: Some(file), ..Self::default() };
        for name in kept.learned {
            list.add(name);
        }
        list.unsaved = false;
        list
    }

    /// What a hook of `tree` imported. Answers with the names that are new.
    pub fn learn(&mut self, modules: &[ImportedModule], tree: &Path, interpreter: &Interpreter) -> Vec<String> {
        let from_environment = |module: &&ImportedModule| is_from_environment(module, tree, interpreter);
        let names = modules.iter().filter(from_environment).map(|module| module.name.clone());
        let new: Vec<String> = names.collect();
        new.into_iter().filter(|name| self.add(name.clone())).collect()
    }

    fn add(&mut self, name: String) -> bool {
        let is_new = self.names.len() < Self::MOST
            && is_module_name(&name)
            && !takes_snapshot(&name)
            && !self.refused.contains_key(&name)
            && self.known.insert(name.clone());
        if is_new {
            self.names.push(name);
            self.unsaved = true;
        }
        is_new
    }

    /// This module may have done harm. It is tried out again before it is
    /// preloaded the next time.
    pub fn doubt(&mut self, name: &str) {
        self.unsaved |= self.verified.remove(name).is_some();
    }

    /// This module is not preloaded any more.
    pub fn refuse(&mut self, name: &str, reason: &str, lasting: bool) {
        if self.known.remove(name) {
            self.names.retain(|known| known != name);
        }
        self.refused.insert(name.to_owned(), Refusal { reason: reason.to_owned(), lasting });
        self.unsaved = true;
    }

    /// The environment has changed: what failed in it may work now.
    pub fn forgive_failures(&mut self) {
        self.refused.retain(|_, refusal| refusal.lasting);
    }

    /// This module was tried out, and does no harm.
    pub fn verify(&mut self, name: &str, file: &VerifiedFile) {
        if self.verified.get(name) != Some(file) {
            self.verified.insert(name.to_owned(), file.clone());
            self.unsaved = true;
        }
    }

    /// Whether a module was tried out as it is on the disk. To be asked when
    /// that was looked at ([`LearnedModules::verified_files`]).
    pub fn is_verified(&self, name: &str) -> bool {
        self.verified.contains_key(name)
    }

    /// The files of the modules that were tried out, as they were then.
    pub fn verified_files(&self) -> Vec<VerifiedFile> {
        self.verified.values().cloned().collect()
    }

    /// A module was judged together with those that it imports: when one has
    /// changed, all are tried out again.
    pub fn forget_verified(&mut self) {
        self.verified.clear();
    }

    /// All names, in order, cut where verified ones and others meet.
    pub fn batches(&self) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        for name in &self.names {
            let verified = self.is_verified(name);
            match batches.last_mut().filter(|batch| batch.verified == verified) {
                Some(batch) => batch.names.push(name.clone()),
                None => batches.push(Batch { names: vec![name.clone()], verified }),
            }
        }
        batches
    }

    /// The first parts of all names: `setuptools` of `setuptools.dist`.
    pub fn top_levels(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| top_level(name))
    }

    /// The list to be written, if it has changed since it was last asked for.
    pub fn unsaved(&mut self) -> Option<UnsavedList> {
        let file = self.file.as_ref().filter(|_| self.unsaved)?.clone();
        self.unsaved = false;
        let kept = Kept { learned: self.names.clone(), refused: self.refused.clone(), verified: self.verified.clone() };
        Some(UnsavedList { file, kept })
    }
}

/// A list on its way to its file.
#[derive(Debug)]
pub(crate) struct UnsavedList {
    file: PathBuf,
    kept: Kept,
}

impl UnsavedList {
    /// Blocks. That it cannot be written costs time at the next start, and
    /// nothing else.
    pub fn save(&self) {
        if let Err(error) = write(&self.file, &self.kept) {
            tracing::debug!("cannot keep the list of learned modules in {}: {error}", self.file.display());
        }
    }
}

impl VerifiedFile {
    /// Whether it is as it was. Blocks.
    pub fn is_unchanged(&self) -> bool {
        let stamp = Some(Stamp { identity: None, size: self.size, modified: self.mtime_ns });
        Watched::File { path: self.file.clone(), stamp }.change().is_none()
    }
}

/// The part of a module's name before the first dot.
pub(crate) fn top_level(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn is_module_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let mut letters = part.chars();
        letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
    };
    !matches!(top_level(name), "__main__" | "__mp_main__" | "hookd") && name.split('.').all(is_identifier)
}

fn takes_snapshot(name: &str) -> bool {
    let is_or_is_below =
        |snapshot: &str| name.strip_prefix(snapshot).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    LearnedModules::SNAPSHOTS.into_iter().any(is_or_is_below)
}

/// Whether a module is one of the standard library or of the environment's
/// packages, and not of the tree. An environment may lie in a tree; a tree that
/// lies in an environment's folder is none.
fn is_from_environment(module: &ImportedModule, tree: &Path, interpreter: &Interpreter) -> bool {
    let Some(file) = module.file.as_deref().map(Path::new) else {
        // Part of the interpreter, or a namespace, which comes with what is in it.
        return false;
    };
    let holds = |folder: &&PathBuf| file.starts_with(folder);
    let Some(folder) = interpreter.module_folders.iter().filter(holds).max_by_key(|folder| folder.as_os_str().len())
    else {
        return false;
    };
    !file.starts_with(tree) || folder.starts_with(tree)
}

fn read(file: &Path) -> Option<Kept> {
    let open = open_regular_file(file, Links::Refuse).ok()?;
    // The time tells when it was last of use.
    let _ = open.set_modified(std::time::SystemTime::now());
    serde_json::from_slice(&read_all(open, LearnedModules::LARGEST_FILE).ok()?).ok()
}

fn write(file: &Path, list: &Kept) -> std::io::Result<()> {
    kept::folder(file.parent().unwrap_or(Path::new("."))).map_err(std::io::Error::other)?;
    kept::write(file, &serde_json::to_vec(list)?)
}

#[cfg(test)]
mod tests;
