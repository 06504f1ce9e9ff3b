//! What a tree decides about the modules that may be preloaded for its hooks.

use std::collections::{BTreeSet, HashSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::BuildBackend;
use crate::interpreter::{is_folder, is_package, module_of_file};
use crate::response::StartMethod;

/// What decides which template a tree's workers are forked from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeImports {
    /// The module of the backend. `None` for in-tree backends, which are imported
    /// by hook processes only.
    pub backend: Option<String>,
    /// The top-level modules of the tree itself. A preloaded module of the same
    /// name could hide one of them.
    pub offered: Offered,
}

/// Names of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    These(BTreeSet<String>),
    /// Unknown, because the tree has too many files: any name may be among them.
    Any,
}

impl Default for Offered {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl TreeImports {
    /// Folders that backends put on `sys.path` even if they are packages.
    const FOLDERS: [&str; 3] = ["", "src", "lib"];

    /// Reads the tree. Blocks.
    pub fn of(tree: &Path, backend: &BuildBackend, start_method: StartMethod) -> Self {
        let folders = Self::FOLDERS.iter().map(PathBuf::from).chain(backend.backend_path.iter().cloned());
        let offered = match start_method {
            StartMethod::Forkserver => Walk::default().through(folders.map(|folder| tree.join(folder))),
            StartMethod::Spawn => Offered::default(),
        };
        let backend = if backend.backend_path.is_empty() { backend_module(backend) } else { None };
        Self { backend, offered }
    }

    /// The first of these names that the tree may offer.
    pub fn first_offered<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        match &self.offered {
            Offered::These(offered) => names.find(|name| offered.contains(*name)),
            Offered::Any => names.next(),
        }
    }
}

/// A walk through the folders of a tree that could be put on `sys.path`: all
/// except packages and their folders.
#[derive(Default)]
struct Walk {
    offered: BTreeSet<String>,
    entries: usize,
}

impl Walk {
    /// Reading more would take longer than preloading saves.
    const MOST_ENTRIES: usize = 5000;

    /// Walks through `roots`, which count as folders on `sys.path` even if they
    /// are packages.
    fn through(mut self, roots: impl Iterator<Item = PathBuf>) -> Offered {
        // Normalized: `src` is a root, and is also found in the root folder.
        let roots: HashSet<PathBuf> = roots.map(|root| root.components().collect()).collect();
        let mut pending: Vec<PathBuf> = roots.iter().cloned().collect();
        let mut seen = HashSet::new();
        while let Some(folder) = pending.pop() {
            if !seen.insert(folder.clone()) {
                continue;
            }
            let contents = FolderContents::read(&folder);
            self.entries += contents.entries;
            if self.entries > Self::MOST_ENTRIES {
                return Offered::Any;
            }
            if contents.is_package {
                self.offered.extend(folder.file_name().and_then(|name| name.to_str()).map(str::to_owned));
            }
            if roots.contains(&folder) || !(contents.is_package || contents.is_environment) {
                self.offered.extend(contents.modules);
                pending.extend(contents.folders.into_iter().filter_map(|inner| self.look_into(&folder, inner)));
            }
        }
        Offered::These(self.offered)
    }

    /// Returns a folder that is to be read, unless it is known to be a package.
    fn look_into(&mut self, parent: &Path, inner: InnerFolder) -> Option<PathBuf> {
        let path = parent.join(&inner.name);
        // A link may lead out of the tree, or around in it.
        let is_known_package = if inner.is_link { is_package(&path) } else { path.join("__init__.py").exists() };
        if is_known_package {
            self.offered.insert(inner.name);
            return None;
        }
        (!inner.is_link).then_some(path)
    }
}

/// The entries of a folder, as far as they matter.
#[derive(Default)]
struct FolderContents {
    entries: usize,
    modules: Vec<String>,
    folders: Vec<InnerFolder>,
    is_package: bool,
    /// It is a virtual environment, which is not code of the tree.
    is_environment: bool,
}

struct InnerFolder {
    name: String,
    is_link: bool,
}

impl FolderContents {
    fn read(folder: &Path) -> Self {
        let mut contents = Self::default();
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            contents.entries += 1;
            if let Some(name) = entry.file_name().to_str() {
                contents.add(&entry, name);
            }
        }
        contents
    }

    fn add(&mut self, entry: &DirEntry, name: &str) {
        if let Some(module) = module_of_file(name) {
            self.is_package |= module == "__init__";
            self.modules.push(module.to_owned());
        } else if name == "pyvenv.cfg" {
            self.is_environment = true;
        } else if !is_skipped(name) && is_folder(entry) {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            self.folders.push(InnerFolder { name: name.to_owned(), is_link });
        }
    }
}

/// Folders without modules: hidden ones, bytecode, metadata.
fn is_skipped(name: &str) -> bool {
    name.starts_with('.') || name == "__pycache__" || name.ends_with(".egg-info") || name.ends_with(".dist-info")
}

/// The module in `module:object`. `None` if it is not a valid name, which the
/// hook will report.
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
        let imports = TreeImports::of(tree.path(), &backend, StartMethod::Forkserver);
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
