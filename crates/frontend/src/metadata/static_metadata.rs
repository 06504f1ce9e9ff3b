//! Static metadata: whether those in a source distribution are those of a build (PEP 643, PEP 621).

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
    /// Before version 2.2, a build may change any field, unless a `[project]` table determines it.
    #[error("Metadata-Version {version} is older than 2.2, and pyproject.toml has no [project] table")]
    TooOld {
        /// The Metadata-Version.
        version: String,
    },
    /// As before, and the table leaves a field to the build.
    #[error("Metadata-Version {version} is older than 2.2, and pyproject.toml does not determine {field}")]
    Undetermined {
        /// The Metadata-Version.
        version: String,
        /// The field.
        field: &'static str,
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
///
/// - Metadata-Version is 2.2 or newer and none of these fields is Dynamic, or the `[project]` table of its
///   `pyproject.toml` determines them (the Version may be dynamic: that in the name of a source distribution
///   is the one of its builds); and
/// - none contradicts that table, which takes precedence.
///
/// `has_setup` says whether the source has a `setup.py`, or a `setup.cfg` with more than options of commands.
/// setuptools takes from these what a table does not mention, although PEP 621 forbids it.
///
/// # Errors
/// [`NotStatic`] says why a build is needed. That is no failure.
pub fn static_metadata(
    pkg_info: Option<&[u8]>,
    pyproject: Option<&[u8]>,
    has_setup: bool,
) -> Result<CoreMetadata, NotStatic> {
    let (metadata, stray_line) = CoreMetadata::parse_with_stray_line(pkg_info.ok_or(NotStatic::NoPkgInfo)?)?;
    let version = &metadata.metadata_version;
    let is_old = is_before_2_2(version)?;
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
    if is_old {
        let version = version.clone();
        let Some(table) = &table else { return Err(NotStatic::TooOld { version }) };
        if let Some(field) = table.undetermined(has_setup) {
            return Err(NotStatic::Undetermined { version, field });
        }
    }
    match table.and_then(|table| table.disagreement(&metadata)) {
        Some(field) => Err(NotStatic::Disagreement { field }),
        None => Ok(metadata),
    }
}

fn is_before_2_2(version: &str) -> Result<bool, NotStatic> {
    let unknown = || NotStatic::Unknown { version: version.to_owned() };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (major, minor) = version.split_once('.').ok_or_else(unknown)?;
    match (number(major).ok_or_else(unknown)?, number(minor).ok_or_else(unknown)?) {
        (..=1, _) | (2, ..=1) => Ok(true),
        (2, _) => Ok(false),
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
        static_metadata(Some(pkg_info.as_bytes()), Some(pyproject.as_bytes()), true)
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
    fn before_2_2_the_project_table_must_determine_all_fields() {
        let judge = |table: &str, has_setup: bool, rest: &str| {
            let pkg_info = format!("Metadata-Version: 2.1\nName: a\nVersion: 1\n{rest}");
            let pyproject = format!("[project]\nname = 'a'\n{table}");
            static_metadata(Some(pkg_info.as_bytes()), Some(pyproject.as_bytes()), has_setup)
        };
        let whole = "dynamic = ['version']\nrequires-python = '>=3.8'\ndependencies = ['b']\n\
                     optional-dependencies.x = []\n";
        let fields = "Requires-Python: >=3.8\nRequires-Dist: b\nProvides-Extra: x\n";
        assert_eq!(judge(whole, true, fields).unwrap().requires_dist, ["b"]);
        // A source distribution by an old setuptools, whose PKG-INFO has no requirements.
        let old = judge(whole, true, "Requires-Python: >=3.8\nProvides-Extra: x\n");
        assert_eq!(old, Err(NotStatic::Disagreement { field: "Requires-Dist" }));
        // What the table does not mention is empty, except for setuptools.
        assert!(judge("version = '1'", false, "").is_ok());
        assert_eq!(judge("version = '1'", false, fields), Err(NotStatic::Disagreement { field: "Requires-Python" }));
        let undetermined = |field| Err(NotStatic::Undetermined { version: "2.1".into(), field });
        let (python, dependencies) = ("requires-python = ''\n", "dependencies = []\n");
        assert_eq!(judge("version = '1'", true, ""), undetermined("Requires-Python"));
        assert_eq!(judge(&format!("version = '1'\n{python}"), true, ""), undetermined("Requires-Dist"));
        let without_extras = format!("version = '1'\n{python}{dependencies}");
        assert_eq!(judge(&without_extras, true, ""), undetermined("Provides-Extra"));
        for (key, field) in [
            ("requires-python", "Requires-Python"),
            ("dependencies", "Requires-Dist"),
            ("optional-dependencies", "Provides-Extra"),
        ] {
            let table = format!("version = '1'\ndynamic = ['{key}']\n");
            assert_eq!(judge(&table, false, ""), undetermined(field), "{key}");
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
        assert_eq!(reason(static_metadata(None, None, false)), "there is no PKG-INFO");
        let old = "Metadata-Version 1.2 is older than 2.2, and pyproject.toml has no [project] table";
        assert_eq!(reason(judge("1.2", "")), old);
        assert_eq!(reason(judge("2.2", "Dynamic: requires-dist")), "Requires-Dist is dynamic");
        assert_eq!(
            reason(static_metadata(Some(b""), None, false)),
            "PKG-INFO is malformed: it has no field Metadata-Version"
        );
        let stray = judge("2.2", "License: one\ntwo\nDynamic: Requires-Dist\n");
        assert_eq!(stray, Err(NotStatic::StrayLine { line: 5 }));
    }
}
