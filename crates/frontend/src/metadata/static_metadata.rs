//! Static metadata: whether those in a source distribution are those of a build (PEP 643).

use super::project_table::ProjectTable;
use super::{CoreMetadata, MetadataError};

/// The fields that resolvers need.
const NEEDED: [&str; 5] = ["Name", "Version", "Requires-Dist", "Requires-Python", "Provides-Extra"];

/// Why metadata cannot be had without a build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStatic {
    /// The files of a tree may be newer than its `PKG-INFO`.
    #[error("a source tree may have been edited")]
    Tree,
    /// There is none, as in very old source distributions, and in other archives.
    #[error("there is no PKG-INFO")]
    NoPkgInfo,
    /// Before version 2.2, fields could change in a build.
    #[error("Metadata-Version {version} is older than 2.2")]
    TooOld {
        /// The Metadata-Version.
        version: String,
    },
    /// A version whose fields may have other meanings.
    #[error("Metadata-Version {version} is not known: expected 2.2 or a later 2.x")]
    Unknown {
        /// The Metadata-Version.
        version: String,
    },
    /// A build may change the field.
    #[error("{field} is dynamic")]
    Dynamic {
        /// The field.
        field: &'static str,
    },
    /// `PKG-INFO` is not core metadata.
    #[error("PKG-INFO is malformed: {0}")]
    Malformed(#[from] MetadataError),
    /// There may be more fields after a line that is no field.
    #[error("PKG-INFO is malformed: line {line} is neither a field nor the continuation of one")]
    StrayLine {
        /// The line's number; the first is 1.
        line: usize,
    },
    /// One of the two files was edited.
    #[error("PKG-INFO and pyproject.toml do not agree on {field}")]
    Disagreement {
        /// The field.
        field: &'static str,
    },
    /// The archive's name has another version, or another project.
    #[error("PKG-INFO and the name of the archive do not agree on Name and Version")]
    OtherArchive,
    /// The build backend may understand it.
    #[error("pyproject.toml cannot be understood: {reason}")]
    MalformedPyproject {
        /// What is wrong with it.
        reason: String,
    },
}

/// The metadata of a source distribution from its `PKG-INFO`, if every build gives the
/// same Name, Version, Requires-Dist, Requires-Python and Provides-Extra. That is so if
/// Metadata-Version is 2.2 or newer, none of these fields is Dynamic, and none contradicts
/// the `[project]` table of its `pyproject.toml`, which takes precedence.
///
/// # Errors
/// [`NotStatic`] says why a build is needed. That is no failure.
pub fn static_metadata(pkg_info: Option<&[u8]>, pyproject: Option<&[u8]>) -> Result<CoreMetadata, NotStatic> {
    let (metadata, stray_line) = CoreMetadata::parse_with_stray_line(pkg_info.ok_or(NotStatic::NoPkgInfo)?)?;
    check_version(&metadata.metadata_version)?;
    if let Some(line) = stray_line {
        return Err(NotStatic::StrayLine { line });
    }
    // Backends write the names of fields in upper and in lower case.
    let is_dynamic = |field: &&str| metadata.dynamic.iter().any(|dynamic| dynamic.eq_ignore_ascii_case(field));
    if let Some(field) = NEEDED.into_iter().find(is_dynamic) {
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
    fn from_2_2_on_fields_are_static_unless_dynamic() {
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
    fn pyproject_toml_takes_precedence() {
        let table = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['b']\n";
        assert!(judge_with(table, "2.2", "Requires-Dist: b\n").is_ok());
        let edited = judge_with(table, "2.2", "Requires-Dist: c\n");
        assert_eq!(edited, Err(NotStatic::Disagreement { field: "Requires-Dist" }));
        let malformed = judge_with("[project]", "2.2", "");
        assert_eq!(malformed, Err(NotStatic::MalformedPyproject { reason: "missing field `name`".into() }));
    }

    #[test]
    fn reasons_have_messages() {
        let reason = |result: Result<CoreMetadata, NotStatic>| result.unwrap_err().to_string();
        assert_eq!(reason(static_metadata(None, None)), "there is no PKG-INFO");
        assert_eq!(reason(judge("1.2", "")), "Metadata-Version 1.2 is older than 2.2");
        assert_eq!(reason(judge("2.2", "Dynamic: requires-dist")), "Requires-Dist is dynamic");
        assert_eq!(reason(static_metadata(Some(b""), None)), "PKG-INFO is malformed: it has no field Metadata-Version");
        let stray = judge("2.2", "License: one\ntwo\nDynamic: Requires-Dist\n");
        assert_eq!(stray, Err(NotStatic::StrayLine { line: 5 }));
    }
}
