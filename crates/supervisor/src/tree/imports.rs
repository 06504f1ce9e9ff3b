//! What a tree means for what may be imported before its hooks run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::BuildBackend;
use crate::environment::offered_modules;

/// What decides which template a tree's workers are forked from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeImports {
    /// The module of the backend, where it comes from the environment; in-tree
    /// backends are imported by hook processes only.
    pub backend: Option<String>,
    /// Top-level names that the tree offers itself. A preloaded module of such
    /// a name could hide the tree's own.
    pub offered: BTreeSet<String>,
}

impl TreeImports {
    /// Where projects keep their modules, beside `backend-path`.
    const FOLDERS: [&str; 3] = ["", "src", "lib"];

    pub fn of(tree: &Path, backend: &BuildBackend) -> Self {
        let folders = Self::FOLDERS.iter().map(PathBuf::from).chain(backend.backend_path.iter().cloned());
        let mut offered = BTreeSet::new();
        for folder in folders {
            offered.extend(offered_modules(&tree.join(folder)).into_iter().map(|module| module.name));
        }
        let backend = if backend.backend_path.is_empty() { backend_module(backend) } else { None };
        Self { backend, offered }
    }

    /// A name that is offered and among these, if there is one.
    pub fn first_offered<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        names.find(|name| self.offered.contains(*name))
    }
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
        let offered: Vec<&str> = imports.offered.iter().map(String::as_str).collect();
        assert_eq!(offered, ["fast", "own", "setup", "six", "toml"]);
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
