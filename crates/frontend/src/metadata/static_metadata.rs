//! When an sdist's own metadata is as good as that of a build (PEP 643).

use super::project_table::ProjectTable;
use super::{CoreMetadata, MetadataError};

/// What resolvers ask for beside Name and Version.
const ASKED_FOR: [&str; 5] = ["Name", "Version", "Requires-Dist", "Requires-Python", "Provides-Extra"];

/// Why a build has to be asked for metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStatic {
    /// What lies in a tree may be newer than its `PKG-INFO`.
    #[error("a source tree may have been edited")]
    Tree,
    /// Very old source distributions have none, and archives of other kinds.
    #[error("there is no PKG-INFO")]
    NoPkgInfo,
    /// Before 2.2 nobody promised anything.
    #[error("Metadata-Version {version} is older than 2.2")]
    TooOld {
        /// The Metadata-Version.
        version: String,
    },
    /// A version whose fields may mean something else.
    #[error("Metadata-Version {version} is not known: expected 2.2 or a later 2.x")]
    Unknown {
        /// The Metadata-Version.
        version: String,
    },
    /// A build may give another value.
    #[error("{field} is dynamic")]
    Dynamic {
        /// The field.
        field: &'static str,
    },
    /// A mandatory field is missing, for example.
    #[error("PKG-INFO is malformed: {0}")]
    Malformed(#[from] MetadataError),
    /// Fields may be hidden behind a line that is none.
    #[error("PKG-INFO is malformed: line {line} is neither a field nor the continuation of one")]
    StrayLine {
        /// The line's number; the first is 1.
        line: usize,
    },
    /// Somebody has edited one of the two.
    #[error("PKG-INFO and pyproject.toml do not agree on {field}")]
    Disagreement {
        /// The field.
        field: &'static str,
    },
    /// The archive is called after another version, or another project.
    #[error("PKG-INFO and the name of the archive do not agree on Name and Version")]
    OtherArchive,
    /// The build backend may make more of it.
    #[error("pyproject.toml cannot be understood: {reason}")]
    MalformedPyproject {
        /// What is wrong with it.
        reason: String,
    },
}

/// The metadata of a source distribution from its `PKG-INFO`, if every build of
/// it gives the same Name, Version, Requires-Dist, Requires-Python and
/// Provides-Extra: Metadata-Version is 2.2 or newer, none of them is Dynamic, and
/// none is otherwise in the `[project]` table of its `pyproject.toml`, which is
/// what decides. Backends write the fields' names in upper and in lower case.
///
/// # Errors
/// [`NotStatic`] says why a build has to be asked. That is no failure.
pub fn static_metadata(pkg_info: Option<&[u8]>, pyproject: Option<&[u8]>) -> Result<CoreMetadata, NotStatic> {
    let (metadata, stray_line) = CoreMetadata::parse_with_stray_line(pkg_info.ok_or(NotStatic::NoPkgInfo)?)?;
    check_version(&metadata.metadata_version)?;
    if let Some(line) = stray_line {
        return Err(NotStatic::StrayLine { line });
    }
    let is_dynamic = |field: &&str| metadata.dynamic.iter().any(|dynamic| dynamic.eq_ignore_ascii_case(field));
    if let Some(field) = ASKED_FOR.into_iter().find(is_dynamic) {
        return Err(NotStatic::Dynamic { field });
    }
    let table = ProjectTable::parse(pyproject.unwrap_or_default());
    let table = table.map_err(|reason| NotStatic::MalformedPyproject { reason })?;
    match table.and_then(|table| table.disagreement(&metadata)) {
        Some(field) => Err(NotStatic::Disagreement { field }),
        None => Ok(metadata),
    }
}

fn check_version(version: &str) -> Result<(), NotStatic> {
    let unknown = || NotStatic::Unknown { version: version.to_owned() };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (major, minor) = version.split_once('.').ok_or_else(unknown)?;
    match (number(major).ok_or_else(unknown)?, number(minor).ok_or_else(unknown)?) {
        (..=1, _) | (2, ..=1) => Err(NotStatic::TooOld { version: version.to_owned() }),
        (2, _) => Ok(()),
        (3.., _) => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(version: &str, rest: &str) -> Result<CoreMetadata, NotStatic> {
        judge_with("", version, rest)
    }

    fn judge_with(pyproject: &str, version: &str, rest: &str) -> Result<CoreMetadata, NotStatic> {
        let pkg_info = format!("Metadata-Version: {version}\nName: a\nVersion: 1\n{rest}");
        static_metadata(Some(pkg_info.as_bytes()), Some(pyproject.as_bytes()))
    }

    #[test]
    fn from_2_2_on_what_is_not_dynamic_is_static() {
        let metadata = judge("2.2", "Requires-Dist: b\nDynamic: License-File\n").unwrap();
        assert_eq!(metadata.requires_dist, ["b"]);
        for version in ["2.3", "2.4", "2.10"] {
            assert!(judge(version, "").is_ok(), "{version}");
        }
    }

    #[test]
    fn a_dynamic_field_is_found_in_any_case() {
        for (line, field) in [
            ("Dynamic: requires-dist", "Requires-Dist"),
            ("DYNAMIC: Requires-Python", "Requires-Python"),
            ("Dynamic: Summary\nDynamic: PROVIDES-EXTRA", "Provides-Extra"),
            ("Dynamic: Version", "Version"),
        ] {
            assert_eq!(judge("2.2", line), Err(NotStatic::Dynamic { field }), "{line}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for old in ["1.0", "1.2", "2.0", "2.1", "0.9", "1.10"] {
            assert_eq!(judge(old, ""), Err(NotStatic::TooOld { version: old.into() }));
        }
        for unknown in ["3.0", "10.0", "2", "2.x", "2.2.1", "2.+2", "2.", "99999999999.1"] {
            assert_eq!(judge(unknown, ""), Err(NotStatic::Unknown { version: unknown.into() }));
        }
    }

    #[test]
    fn pyproject_toml_decides() {
        let table = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['b']\n";
        assert!(judge_with(table, "2.2", "Requires-Dist: b\n").is_ok());
        let edited = judge_with(table, "2.2", "Requires-Dist: c\n");
        assert_eq!(edited, Err(NotStatic::Disagreement { field: "Requires-Dist" }));
        let malformed = judge_with("[project]", "2.2", "");
        assert_eq!(malformed, Err(NotStatic::MalformedPyproject { reason: "missing field `name`".into() }));
    }

    #[test]
    fn reasons_are_words() {
        let reason = |result: Result<CoreMetadata, NotStatic>| result.unwrap_err().to_string();
        assert_eq!(reason(static_metadata(None, None)), "there is no PKG-INFO");
        assert_eq!(reason(judge("1.2", "")), "Metadata-Version 1.2 is older than 2.2");
        assert_eq!(reason(judge("2.2", "Dynamic: requires-dist")), "Requires-Dist is dynamic");
        assert_eq!(reason(static_metadata(Some(b""), None)), "PKG-INFO is malformed: it has no field Metadata-Version");
        let stray = judge("2.2", "License: one\ntwo\nDynamic: Requires-Dist\n");
        assert_eq!(stray, Err(NotStatic::StrayLine { line: 5 }));
    }
}
