//! What the names of source distributions and wheels say.

use std::path::Path;

use super::has_suffix;

/// The name of a source distribution's file, `NAME-VERSION.tar.gz` (PEP 625)
/// or, as it was before, `NAME-VERSION.zip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdistName {
    /// The project's name, as it is written.
    pub name: String,
    /// The version, as it is written.
    pub version: String,
}

/// A file's name is not that of a source distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file_name}: expected the name of a source distribution, NAME-VERSION.tar.gz or NAME-VERSION.zip")]
pub struct InvalidSdistName {
    file_name: String,
}

impl SdistName {
    /// Parses the last part of `path`. The version is what follows the last
    /// `-`: names that are older than PEP 625 have more of them.
    ///
    /// # Errors
    /// The file is called otherwise.
    pub fn parse(path: &Path) -> Result<Self, InvalidSdistName> {
        let file_name = file_name(path);
        let suffix = [".tar.gz", ".tgz", ".zip"].into_iter().find(|suffix| has_suffix(path, suffix));
        suffix
            .and_then(|suffix| file_name.get(..file_name.len() - suffix.len()))
            .and_then(|stem| stem.rsplit_once('-'))
            .filter(|(name, version)| !name.is_empty() && !version.is_empty())
            .map(|(name, version)| Self { name: name.to_owned(), version: version.to_owned() })
            .ok_or(InvalidSdistName { file_name })
    }
}

/// The name of a wheel's file,
/// `NAME-VERSION(-BUILD)-PYTHON-ABI-PLATFORM.whl` (PEP 427).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelName {
    /// The distribution's name, as it is written.
    pub name: String,
    /// The version, as it is written.
    pub version: String,
    /// The build tag, which most wheels do not have.
    pub build: Option<String>,
    /// The Python, ABI and platform tags with `-` between them.
    pub tags: String,
}

/// A file's name is not that of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file_name}: expected the name of a wheel, NAME-VERSION-PYTHON-ABI-PLATFORM.whl")]
pub struct InvalidWheelName {
    file_name: String,
}

impl WheelName {
    /// Parses the last part of `path`.
    ///
    /// # Errors
    /// The file is called otherwise.
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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_source_distributions() {
        let parse = |name: &str| SdistName::parse(Path::new(name)).map(|name| (name.name, name.version));
        let expected = |name: &str, version: &str| Ok((name.to_owned(), version.to_owned()));
        assert_eq!(parse("/x/python-dateutil-2.9.0.post0.tar.gz"), expected("python-dateutil", "2.9.0.post0"));
        assert_eq!(parse("a-1.TGZ"), expected("a", "1"));
        assert_eq!(parse("a-1.zip"), expected("a", "1"));
        for name in ["a.tar.gz", "a-1.tar", "-1.zip", "a-.zip", ""] {
            assert!(parse(name).unwrap_err().to_string().starts_with(name));
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
    fn names_that_are_not_utf_8_do_no_harm() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"\xff-1\xff.tar.gz"));
        assert_eq!(SdistName::parse(path).unwrap().version, "1\u{fffd}");
        assert!(WheelName::parse(path).is_err());
    }
}
