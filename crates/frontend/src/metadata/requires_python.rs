//! Whether a project supports an interpreter.

use std::str::FromStr;

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};

use super::headers::Headers;
use super::project_table::ProjectTable;

/// The Requires-Python that a `pyproject.toml` declares, or else a `PKG-INFO`.
pub(crate) fn declared_requires_python(pyproject: Option<&[u8]>, pkg_info: Option<&[u8]>) -> Option<String> {
    let table = pyproject.and_then(|bytes| ProjectTable::parse(bytes).ok().flatten());
    table
        .and_then(|table| table.requires_python)
        .or_else(|| Headers::parse(&String::from_utf8_lossy(pkg_info?)).all("Requires-Python").next())
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
        let pkg_info: &[u8] = b"Metadata-Version: 1.2\nName: a\nVersion: 1\nRequires-Python: >=3.8\n";
        let pyproject: &[u8] = b"[project]\nname = 'a'\nrequires-python = '>=3.9'\n";
        for (pyproject, pkg_info, expected) in [
            (None, None, None),
            (None, Some(pkg_info), Some(">=3.8")),
            (Some(pyproject), Some(pkg_info), Some(">=3.9")),
            (Some(b"[project".as_slice()), None, None),
        ] {
            assert_eq!(declared_requires_python(pyproject, pkg_info).as_deref(), expected);
        }
    }
}
