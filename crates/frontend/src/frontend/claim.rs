//! Comparing a product with the name and version that its source claims.

use std::fmt;
use std::path::Path;

use super::report::BuildWarning;
use crate::metadata::name_and_version;
use crate::source::{SdistName, is_same_distribution};

/// A name and a version.
type Built<'a> = (&'a str, &'a str);

/// The distribution that an archive claims to be. Empty for a source tree.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// By its file name, in all ways to read that.
    file_name: Vec<SdistName>,
    pkg_info: Option<(String, String)>,
}

/// Another distribution was built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was built as {} {}, but {by} says that it is {} {}", .built.0, .built.1, .expected.0, .expected.1)]
pub(super) struct InconsistentMetadata {
    built: (String, String),
    expected: (String, String),
    by: ClaimedBy,
}

/// The part of an archive that makes a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimedBy {
    FileName,
    PkgInfo,
}

impl fmt::Display for ClaimedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FileName => "the name of the archive",
            Self::PkgInfo => "its PKG-INFO",
        })
    }
}

impl Claim {
    /// The claim of an archive with this path and this `PKG-INFO`.
    pub fn of(archive: &Path, pkg_info: Option<&[u8]>) -> Self {
        let pkg_info = pkg_info.and_then(|bytes| name_and_version(&String::from_utf8_lossy(bytes)));
        Self { file_name: SdistName::readings(archive), pkg_info }
    }

    /// Compares the claim with what was built. The file name takes precedence: it is what
    /// users choose an archive by, while `PKG-INFO` may be out of date in an archive that was
    /// packed again.
    pub fn check(&self, built: Built<'_>) -> Result<Option<BuildWarning>, InconsistentMetadata> {
        let by_pkg_info = self.pkg_info.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
        let by_file_name = self.file_name.iter().map(|reading| (reading.name.as_str(), reading.version.as_str()));
        let (claims, by): (Vec<Built<'_>>, _) = match self.file_name.is_empty() {
            false => (by_file_name.collect(), ClaimedBy::FileName),
            true => (by_pkg_info.into_iter().collect(), ClaimedBy::PkgInfo),
        };
        let is_built = |claim: Built<'_>| is_same_distribution(claim, built);
        // The last reading has the longest name.
        if let Some(expected) = claims.last()
            && !claims.iter().copied().any(is_built)
        {
            return Err(InconsistentMetadata { built: owned(built), expected: owned(*expected), by });
        }
        Ok(match by_pkg_info {
            Some(claim) if !is_built(claim) => Some(BuildWarning::OtherPkgInfo { pkg_info: owned(claim) }),
            None if claims.is_empty() && is_same_distribution(built, NAMELESS) => Some(BuildWarning::NoName),
            _ => None,
        })
    }
}

/// The name and version that setuptools gives to a project without a name.
const NAMELESS: Built<'_> = ("unknown", "0.0.0");

impl InconsistentMetadata {
    /// Whether the backend found no name for the project.
    pub fn is_nameless(&self) -> bool {
        is_same_distribution((&self.built.0, &self.built.1), NAMELESS)
    }
}

fn owned((name, version): Built<'_>) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(archive: &str, pkg_info: Option<(&str, &str)>) -> Claim {
        Claim { file_name: SdistName::readings(Path::new(archive)), pkg_info: pkg_info.map(owned) }
    }

    #[test]
    fn what_was_claimed_was_built() {
        for (archive, pkg_info, built) in [
            ("a-1.tar.gz", None, ("a", "1")),
            ("Foo.Bar-1.0.zip", Some(("foo_bar", "1")), ("foo-bar", "1.0.0")),
            ("a-1.0-2.zip", None, ("a", "1.0.post2")),
            ("a-1-2.zip", None, ("a-1", "2")),
            ("a-main.zip", None, ("b", "2")),
            ("a-main.zip", Some(("b", "2")), ("b", "2")),
        ] {
            assert_eq!(claim(archive, pkg_info).check(built), Ok(None), "{archive} {pkg_info:?} {built:?}");
        }
    }

    #[test]
    fn something_else_was_built() {
        for (archive, pkg_info, built, expected, by) in [
            ("unk-2.0.tar.gz", None, ("unknown", "0.0.0"), ("unk", "2.0"), ClaimedBy::FileName),
            ("a-2.0.tar.gz", None, ("a", "1.0"), ("a", "2.0"), ClaimedBy::FileName),
            ("a-2.0.tar.gz", Some(("a", "1.0")), ("a", "1.0"), ("a", "2.0"), ClaimedBy::FileName),
            ("a-1-2.zip", None, ("b", "2"), ("a-1", "2"), ClaimedBy::FileName),
            ("a-main.zip", Some(("a", "1")), ("a", "2"), ("a", "1"), ClaimedBy::PkgInfo),
        ] {
            let other = claim(archive, pkg_info).check(built).unwrap_err();
            assert_eq!(other, InconsistentMetadata { built: owned(built), expected: owned(expected), by });
        }
        let other = claim("unk-2.0.tar.gz", None).check(("UNKNOWN", "0.0.0")).unwrap_err();
        assert!(other.is_nameless());
        let words = "it was built as UNKNOWN 0.0.0, but the name of the archive says that it is unk 2.0";
        assert_eq!(other.to_string(), words);
    }

    #[test]
    fn warnings() {
        let warning = |claim: Claim, built| claim.check(built).unwrap().unwrap();
        let other = BuildWarning::OtherPkgInfo { pkg_info: owned(("a", "1")) };
        assert_eq!(warning(claim("a-2.zip", Some(("a", "1"))), ("a", "2")), other);
        assert_eq!(warning(Claim::default(), ("UNKNOWN", "0.0.0")), BuildWarning::NoName);
        assert_eq!(Claim::default().check(("unknown", "1.0")), Ok(None));
    }
}
