//! Whether a project supports an interpreter.

use std::path::Path;
use std::str::FromStr;

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};

use super::headers::Headers;
use super::project_table::ProjectTable;
use super::read_metadata_file;

/// The Requires-Python that a source tree declares in its `pyproject.toml`, or, if
/// `believes_pkg_info`, in its `PKG-INFO`. Blocks.
pub(crate) fn declared_requires_python(tree: &Path, believes_pkg_info: bool) -> Option<String> {
    let pyproject = read_metadata_file(&tree.join("pyproject.toml")).ok();
    let table = pyproject.and_then(|bytes| ProjectTable::parse(&bytes).ok().flatten());
    table.and_then(|table| table.requires_python).or_else(|| {
        let pkg_info = read_metadata_file(&tree.join("PKG-INFO")).ok().filter(|_| believes_pkg_info)?;
        Headers::parse(&String::from_utf8_lossy(&pkg_info)).all("Requires-Python").next()
    })
}

/// Whether a Requires-Python excludes a version of Python. As for pip, only the major,
/// minor and micro version count, and not a pre-release. An invalid specifier excludes
/// nothing.
pub(crate) fn excludes(requires_python: &str, (major, minor, micro): (u32, u32, u32)) -> bool {
    let version = Version::new([major, minor, micro].map(u64::from));
    VersionSpecifiers::from_str(requires_python).is_ok_and(|specifiers| !specifiers.contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_versions() {
        for (specifier, version) in
            [(">=3.14", (3, 11, 7)), (">=3.8,<3.11", (3, 11, 0)), ("!=3.11.*", (3, 11, 7)), ("==2.7.*", (3, 7, 0))]
        {
            assert!(excludes(specifier, version), "{specifier} {version:?}");
        }
        for (specifier, version) in
            [(">=3.8", (3, 11, 7)), ("", (3, 11, 7)), ("~=3.8", (3, 14, 0)), ("any", (3, 11, 7))]
        {
            assert!(!excludes(specifier, version), "{specifier} {version:?}");
        }
    }

    #[test]
    fn a_tree_declares_requires_python() {
        let tree = tempfile::tempdir().unwrap();
        let declared = |believes_pkg_info| declared_requires_python(tree.path(), believes_pkg_info);
        let write = |name: &str, text: &str| std::fs::write(tree.path().join(name), text).unwrap();
        assert_eq!(declared(true), None);
        write("PKG-INFO", "Metadata-Version: 1.2\nName: a\nVersion: 1\nRequires-Python: >=3.8\n");
        assert_eq!([declared(true), declared(false)], [Some(">=3.8".into()), None]);
        write("pyproject.toml", "[project]\nname = 'a'\nrequires-python = '>=3.9'\n");
        assert_eq!(declared(true), Some(">=3.9".into()));
        write("pyproject.toml", "[project");
        assert_eq!(declared(false), None);
    }
}
