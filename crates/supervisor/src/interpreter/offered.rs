//! The modules that an import would find in a folder.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::path::Path;

/// A module in a folder that is on `sys.path`, or in a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OfferedModule {
    pub name: String,
    /// An import prefers a package to a module of the same name.
    pub is_package: bool,
}

/// The modules in a folder, without namespace packages (PEP 420), which are the
/// last choice of an import.
pub(crate) fn offered_modules(folder: &Path) -> BTreeSet<OfferedModule> {
    let mut offered = BTreeSet::new();
    let Ok(entries) = folder.read_dir() else { return offered };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else { continue };
        if let Some(module) = module_of_file(name) {
            offered.insert(OfferedModule { name: module.into(), is_package: false });
        } else if !name.contains('.') && is_folder(&entry) && is_package(&entry.path()) {
            offered.insert(OfferedModule { name: name.into(), is_package: true });
        }
    }
    offered
}

/// Whether this is a folder, or a link that leads to one.
pub(crate) fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => entry.path().is_dir(),
    }
}

/// The name of the module in a file of this name.
pub(crate) fn module_of_file(name: &str) -> Option<&str> {
    let (stem, rest) = name.split_once('.')?;
    is_module_suffix(rest).then_some(stem)
}

/// `py`, `pyc`, `so`, `cpython-311-x86_64-linux-gnu.so`, `abi3.so`.
fn is_module_suffix(rest: &str) -> bool {
    matches!(rest, "py" | "pyc" | "so") || Path::new(rest).extension().is_some_and(|extension| extension == "so")
}

/// Whether a folder is a package with an `__init__`.
pub(crate) fn is_package(folder: &Path) -> bool {
    let suffixes = ["py", "pyc", "so", "abi3.so"];
    if suffixes.iter().any(|suffix| folder.join(format!("__init__.{suffix}")).exists()) {
        return true;
    }
    // An extension module for one interpreter only: its name is longer.
    let Ok(entries) = folder.read_dir() else { return false };
    let is_init = |name: &str| name.strip_prefix("__init__.").is_some_and(is_module_suffix);
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_init))
}
