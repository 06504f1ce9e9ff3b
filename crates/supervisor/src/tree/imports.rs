//! What a tree means for what may be imported before its hooks run.

use std::collections::{BTreeSet, HashSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::BuildBackend;
use crate::environment::{is_package, module_of_file};

/// What decides which template a tree's workers are forked from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeImports {
    /// The module of the backend, where it comes from the environment; in-tree
    /// backends are imported by hook processes only.
    pub backend: Option<String>,
    /// Top-level names that the tree offers itself. A preloaded module of such
    /// a name could hide the tree's own.
    pub offered: Offered,
}

/// Names of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    These(BTreeSet<String>),
    /// There were too many folders to look at: it may be any.
    Any,
}

impl Default for Offered {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl TreeImports {
    /// What is put on `sys.path` even if it is a package.
    const FOLDERS: [&str; 3] = ["", "src", "lib"];

    pub fn of(tree: &Path, backend: &BuildBackend) -> Self {
        let folders = Self::FOLDERS.iter().map(PathBuf::from).chain(backend.backend_path.iter().cloned());
        let offered = Walk::default().through(folders.map(|folder| tree.join(folder)).collect());
        let backend = if backend.backend_path.is_empty() { backend_module(backend) } else { None };
        Self { backend, offered }
    }

    /// A name that is offered and among these, if there is one.
    pub fn first_offered<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        match &self.offered {
            Offered::These(offered) => names.find(|name| offered.contains(*name)),
            Offered::Any => names.next(),
        }
    }
}

/// A walk through the folders of a tree that could be put on `sys.path`: all
/// but packages and what is in them.
#[derive(Default)]
struct Walk {
    offered: BTreeSet<String>,
    entries: usize,
}

impl Walk {
    /// More would take longer than a hook gains by a warm start.
    const MOST_ENTRIES: usize = 5000;

    fn through(mut self, mut folders: Vec<PathBuf>) -> Offered {
        // `src` is named, and found in the root.
        let mut seen = HashSet::new();
        while let Some(folder) = folders.pop() {
            if !seen.insert(folder.components().collect::<PathBuf>()) {
                continue;
            }
            let contents = FolderContents::read(&folder);
            self.entries += contents.entries;
            if self.entries > Self::MOST_ENTRIES {
                return Offered::Any;
            }
            self.offered.extend(contents.modules);
            for name in contents.folders {
                let inner = folder.join(&name);
                if is_package(&inner) {
                    self.offered.insert(name);
                } else if !is_environment(&inner) && !inner.is_symlink() {
                    // A link may lead out of the tree, or around in it.
                    folders.push(inner);
                }
            }
        }
        Offered::These(self.offered)
    }
}

/// What matters of a folder's entries.
#[derive(Default)]
struct FolderContents {
    entries: usize,
    modules: Vec<String>,
    folders: Vec<String>,
}

impl FolderContents {
    fn read(folder: &Path) -> Self {
        let mut contents = Self::default();
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            contents.entries += 1;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else { continue };
            if let Some(module) = module_of_file(name) {
                contents.modules.push(module.to_owned());
            } else if !is_skipped(name) && is_folder(&entry) {
                contents.folders.push(name.to_owned());
            }
        }
        contents
    }
}

/// Links included that lead to a folder.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => entry.path().is_dir(),
    }
}

/// Folders that nobody imports from: hidden ones, bytecode, metadata.
fn is_skipped(name: &str) -> bool {
    name.starts_with('.') || name == "__pycache__" || name.ends_with(".egg-info") || name.ends_with(".dist-info")
}

/// A virtual environment in the tree is none of its own code.
fn is_environment(folder: &Path) -> bool {
    folder.join("pyvenv.cfg").exists()
}

/// The module in `module:object`; nothing for what is no name of a module,
/// which the hook itself will say.
fn backend_module(backend: &BuildBackend) -> Option<String> {
    let Some(path) = &backend.import_path else { return Some("setuptools.build_meta".into()) };
    let module = path.split(':').next().unwrap_or_default().trim();
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    module.split('.').all(is_name).then(|| module.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_come_from_modules_and_packages() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let modules = ["setup.py", "src/six.py", "lib/toml/__init__.py", "backend/own.py"];
        let others = ["README.md", "docs/index.md", "src/deep/inner/__init__.py", "archive.tar.gz"];
        modules.into_iter().chain(others).for_each(write);
        write("fast.cpython-311-x86_64-linux-gnu.so");
        let backend = BuildBackend { import_path: Some("own:x.y".into()), backend_path: vec!["backend".into()] };
        let imports = TreeImports::of(tree.path(), &backend);
        let expected = ["fast", "inner", "own", "setup", "six", "toml"].map(str::to_owned);
        assert_eq!(imports.offered, Offered::These(expected.into()));
        assert_eq!(imports.backend, None);
        assert_eq!(imports.first_offered(["json", "toml"].into_iter()), Some("toml"));
    }

    #[test]
    fn the_backend_is_a_module() {
        let module = |path: Option<&str>| {
            backend_module(&BuildBackend { import_path: path.map(Into::into), backend_path: Vec::new() })
        };
        assert_eq!(module(None).unwrap(), "setuptools.build_meta");
        assert_eq!(module(Some("setuptools.build_meta:__legacy__")).unwrap(), "setuptools.build_meta");
        assert_eq!(module(Some("flit_core.buildapi")).unwrap(), "flit_core.buildapi");
        assert_eq!(module(Some("../evil")), None);
    }
}
