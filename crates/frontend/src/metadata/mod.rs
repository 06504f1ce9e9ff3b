//! Core metadata: what a distribution says about itself.
//!
//! Specification: <https://packaging.python.org/en/latest/specifications/core-metadata/>.

mod files;
mod headers;
mod project_table;
mod requires_python;
mod setup_cfg;
mod static_metadata;
mod wheel;

pub(crate) use files::{METADATA_LIMIT, describe_folder, read_bounded, read_metadata_file};
pub(crate) use requires_python::{declared_requires_python, excludes};
pub(crate) use setup_cfg::may_determine_metadata;
pub use static_metadata::{NotStatic, static_metadata};
pub use wheel::{WheelError, WheelProblem, wheel_extensions, wheel_metadata};
pub(crate) use wheel::{built_wheel_metadata, describe_built_wheel, describe_wheel, names_paths_in};

use headers::Headers;

use crate::extensions::Extension;
use crate::source::is_same_distribution;

/// What is read of a `.dist-info` folder.
#[derive(Debug)]
pub(crate) struct Described {
    pub metadata: CoreMetadata,
    pub extensions: Vec<Extension>,
}

/// The fields of a `METADATA` or `PKG-INFO` file that resolvers need, and its text. The
/// fields are not normalised; only surrounding space is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreMetadata {
    /// Metadata-Version, for example `2.4`.
    pub metadata_version: String,
    /// Name, not normalised.
    pub name: String,
    /// Version, not normalised.
    pub version: String,
    /// Every Requires-Dist: requirements (PEP 508).
    pub requires_dist: Vec<String>,
    /// Requires-Python, for example `>=3.9`.
    pub requires_python: Option<String>,
    /// Every Provides-Extra.
    pub provides_extra: Vec<String>,
    /// Every Dynamic: the fields that a build may set to other values (PEP 643).
    pub dynamic: Vec<String>,
    /// The whole text. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
}

/// Why bytes are not core metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A field is missing that every version of the specification requires.
    #[error("it has no field {field}")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field is empty.
    #[error("its field {field} is empty")]
    Empty {
        /// The field's name.
        field: &'static str,
    },
    /// A field that may occur once is there several times.
    #[error("it has the field {field} more than once")]
    Repeated {
        /// The field's name.
        field: &'static str,
    },
}

impl CoreMetadata {
    /// Parses the bytes of a `METADATA` or `PKG-INFO` file.
    ///
    /// They are read as Python's `email` module does, and so every installer: a line that
    /// is neither a field nor the continuation of one ends the fields.
    ///
    /// # Errors
    /// [`MetadataError`]: Metadata-Version, Name or Version is missing, empty or repeated,
    /// or Requires-Python is repeated.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        Self::parse_with_stray_line(bytes).map(|(metadata, _)| metadata)
    }

    /// Whether both belong to the same version of the same distribution, after
    /// normalisation.
    pub(crate) fn is_of_the_same(&self, other: &Self) -> bool {
        is_same_distribution((&self.name, &self.version), (&other.name, &other.version))
    }

    /// Also returns the number of the line that ended the fields, if that is not blank.
    fn parse_with_stray_line(bytes: &[u8]) -> Result<(Self, Option<usize>), MetadataError> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let headers = Headers::parse(&text);
        let metadata = Self {
            metadata_version: mandatory(&headers, "Metadata-Version")?,
            name: mandatory(&headers, "Name")?,
            version: mandatory(&headers, "Version")?,
            requires_dist: headers.all("Requires-Dist").collect(),
            requires_python: at_most_one(&headers, "Requires-Python")?,
            provides_extra: headers.all("Provides-Extra").collect(),
            dynamic: headers.all("Dynamic").collect(),
            text,
        };
        Ok((metadata, headers.stray_line))
    }
}

/// The first Name and the first Version, even if the metadata are malformed.
pub(crate) fn name_and_version(text: &str) -> Option<(String, String)> {
    let headers = Headers::parse(text);
    let (mut names, mut versions) = (headers.all("Name"), headers.all("Version"));
    names.next().zip(versions.next())
}

fn mandatory(headers: &Headers, field: &'static str) -> Result<String, MetadataError> {
    match at_most_one(headers, field)? {
        None => Err(MetadataError::Missing { field }),
        Some(value) if value.is_empty() => Err(MetadataError::Empty { field }),
        Some(value) => Ok(value),
    }
}

fn at_most_one(headers: &Headers, field: &'static str) -> Result<Option<String>, MetadataError> {
    let mut values = headers.all(field);
    let first = values.next();
    if values.next().is_some() {
        return Err(MetadataError::Repeated { field });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_resolvers_need() {
        let text = "Metadata-Version: 2.4\nNAME: Täst\nversion:1.0 \nSummary: é\nRequires-Dist: a>=1\n\
                    requires-dist: b ;\n  extra == 'x'\nProvides-Extra: x\nRequires-Python: >=3.9\n\
                    Dynamic: License-File\n\nRequires-Dist: in-the-body\n";
        let metadata = CoreMetadata::parse(text.as_bytes()).unwrap();
        assert_eq!(metadata.metadata_version, "2.4");
        assert_eq!((metadata.name.as_str(), metadata.version.as_str()), ("Täst", "1.0"));
        assert_eq!(metadata.requires_dist, ["a>=1", "b ; extra == 'x'"]);
        assert_eq!(metadata.requires_python.as_deref(), Some(">=3.9"));
        assert_eq!(metadata.provides_extra, ["x"]);
        assert_eq!(metadata.dynamic, ["License-File"]);
        assert_eq!(metadata.text, text);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let metadata =
            CoreMetadata::parse(b"Metadata-Version: 1.1\r\nName: a\r\nVersion: 1\r\nAuthor: J\xf6rg\r\n").unwrap();
        assert_eq!(metadata.version, "1");
        assert!(metadata.text.contains("J\u{fffd}rg"));
    }

    #[test]
    fn the_same_distribution_is_spelt_in_many_ways() {
        let of = |name: &str, version: &str| {
            CoreMetadata::parse(format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n").as_bytes())
                .unwrap()
        };
        assert!(of("Foo.Bar", "1.0").is_of_the_same(&of("foo_bar", "1.0.0")));
        assert!(of("foo", "no version").is_of_the_same(&of("foo", "no version")));
        assert!(!of("foo", "1.0").is_of_the_same(&of("foo", "1.0+local")));
        assert!(!of("foo", "1.0").is_of_the_same(&of("foo-bar", "1.0")));
    }

    #[test]
    fn errors_name_the_field() {
        let parse = |text: &str| CoreMetadata::parse(text.as_bytes()).unwrap_err();
        let missing = |field| MetadataError::Missing { field };
        assert_eq!(parse(""), missing("Metadata-Version"));
        assert_eq!(parse("Metadata-Version: 2.1\nVersion: 1\n"), missing("Name"));
        assert_eq!(parse("Metadata-Version: 2.1\nName: a\n\nVersion: 1\n"), missing("Version"));
        let empty = parse("Metadata-Version: 2.1\nName: \nVersion: 1\n");
        assert_eq!(empty, MetadataError::Empty { field: "Name" });
        let repeated = parse("Metadata-Version: 2.1\nName: a\nName: b\nVersion: 1\n");
        assert_eq!(repeated, MetadataError::Repeated { field: "Name" });
    }
}
