//! The file names of source distributions and wheels.

use std::path::Path;
use std::str::FromStr;

use pep508_rs::PackageName;
use pep508_rs::pep440_rs::Version;

use super::{ARCHIVE_SUFFIXES, has_suffix};

/// The name and version in the file name of a source distribution,
/// `NAME-VERSION.tar.gz` (PEP 625), or `NAME-VERSION.zip` as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdistName {
    /// The name, not normalised.
    pub name: String,
    /// The version, not normalised.
    pub version: String,
}

impl SdistName {
    /// All ways to read the file name of `path`: at each `-` before a version (PEP 440).
    /// File names that are older than PEP 625 may have several. Empty if it is not the file
    /// name of a source distribution, but for example of a snapshot of a repository.
    #[must_use]
    pub fn readings(path: &Path) -> Vec<Self> {
        let file_name = file_name(path);
        let suffix = ARCHIVE_SUFFIXES.into_iter().find(|suffix| has_suffix(path, suffix)).unwrap_or(&file_name);
        let stem = file_name.get(..file_name.len() - suffix.len()).unwrap_or_default();
        let split = |(at, _)| (&stem[..at], &stem[at + 1..]);
        let is_sdist = |(name, version): &(&str, &str)| {
            !name.is_empty() && PackageName::from_str(name).is_ok() && Version::from_str(version).is_ok()
        };
        let readings = stem.match_indices('-').map(split).filter(is_sdist);
        readings.map(|(name, version)| Self { name: name.to_owned(), version: version.to_owned() }).collect()
    }
}

/// The file name of a wheel,
/// `NAME-VERSION(-BUILD)-PYTHON-ABI-PLATFORM.whl` (PEP 427).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelName {
    /// The name, not normalised.
    pub name: String,
    /// The version, not normalised.
    pub version: String,
    /// The build tag, which is optional.
    pub build: Option<String>,
    /// The Python, ABI and platform tags with `-` between them.
    pub tags: String,
}

/// A file does not have the name of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file_name}: expected the name of a wheel, NAME-VERSION-PYTHON-ABI-PLATFORM.whl")]
pub struct InvalidWheelName {
    file_name: String,
}

impl WheelName {
    /// Parses the file name of `path`.
    ///
    /// # Errors
    /// It is not the file name of a wheel.
    pub fn parse(path: &Path) -> Result<Self, InvalidWheelName> {
        let file_name = file_name(path);
        let stem = file_name.get(..file_name.len().saturating_sub(".whl".len())).unwrap_or_default();
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, version, build, tags) = match parts[..] {
            _ if !has_suffix(path, ".whl") || parts.contains(&"") => return Err(InvalidWheelName { file_name }),
            [name, version, ref tags @ ..] if tags.len() == 3 => (name, version, None, tags),
            [name, version, build, ref tags @ ..] if tags.len() == 3 => (name, version, Some(build), tags),
            _ => return Err(InvalidWheelName { file_name }),
        };
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            build: build.map(str::to_owned),
            tags: tags.join("-"),
        })
    }
}

/// Whether two pairs of name and version are the same after normalisation.
pub(crate) fn is_same_distribution(one: (&str, &str), other: (&str, &str)) -> bool {
    same(one.0, other.0, |name| PackageName::from_str(name).ok())
        && same(one.1, other.1, |version| Version::from_str(version).ok())
}

/// Whether two texts are the same, as they are or after normalisation.
pub(crate) fn same<T: PartialEq>(one: &str, other: &str, normalise: impl Fn(&str) -> Option<T>) -> bool {
    one == other || normalise(one).is_some_and(|one| normalise(other) == Some(one))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_source_distributions() {
        let readings = |file: &str| -> Vec<String> {
            let readings = SdistName::readings(Path::new(file)).into_iter();
            readings.map(|reading| format!("{} {}", reading.name, reading.version)).collect()
        };
        assert_eq!(readings("/x/python-dateutil-2.9.0.post0.tar.gz"), ["python-dateutil 2.9.0.post0"]);
        assert_eq!(readings("a-1.TGZ"), ["a 1"]);
        assert_eq!(readings("a-1.zip"), ["a 1"]);
        assert_eq!(readings("a-1.0-2.zip"), ["a 1.0-2", "a-1.0 2"]);
        for file in ["a.tar.gz", "a-1.tar", "-1.zip", "a-.zip", "", "a-main.zip", "a-abc123def.tar.gz", "a b-1.zip"] {
            assert!(readings(file).is_empty(), "{file}");
        }
    }

    #[test]
    fn names_of_wheels() {
        let parse = |name: &str| WheelName::parse(Path::new(name));
        let plain = parse("/x/six-1.16.0-py2.py3-none-any.whl").unwrap();
        assert_eq!((plain.name.as_str(), plain.version.as_str()), ("six", "1.16.0"));
        assert_eq!((plain.build, plain.tags.as_str()), (None, "py2.py3-none-any"));
        assert_eq!(parse("six-1-2b-py3-none-any.whl").unwrap().build.as_deref(), Some("2b"));
        for name in ["six.whl", "six-1.whl", "six-1-py3-none.whl", "a-1-2-3-py3-none-any.whl", "a--py3-none-any.whl"] {
            assert!(parse(name).is_err(), "{name}");
        }
        assert!(parse("six-1-py3-none-any.zip").is_err());
    }

    #[test]
    fn names_that_are_not_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"\xff-1\xff.tar.gz"));
        assert!(SdistName::readings(path).is_empty());
        assert!(WheelName::parse(path).is_err());
    }
}
