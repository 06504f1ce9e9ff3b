//! Metadata of wheels (PEP 427).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep508_rs::PackageName;
use pep508_rs::pep440_rs::Version;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{CoreMetadata, METADATA_LIMIT, MetadataError, open_regular_file, read_bounded};
use crate::source::{InvalidWheelName, WheelName};

/// A wheel gives no metadata.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .wheel.display())]
pub struct WheelError {
    /// The wheel.
    pub wheel: PathBuf,
    /// What is wrong with it.
    pub problem: WheelProblem,
}

/// What is wrong with a wheel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WheelProblem {
    /// The file is called otherwise.
    #[error("is not a wheel: {0}")]
    Name(#[from] InvalidWheelName),
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The bytes are not a zip file.
    #[error("is not a zip file, or a damaged one: {0}")]
    NotAZip(String),
    /// No folder of metadata.
    #[error("has no .dist-info folder")]
    NoDistInfo,
    /// More than one.
    #[error("has several .dist-info folders: {}", .0.join(", "))]
    SeveralDistInfo(Vec<String>),
    /// Not the one that its name promises.
    #[error("has the folder {found}, which does not belong to a wheel of that name")]
    ForeignDistInfo {
        /// The `.dist-info` folder's name.
        found: String,
    },
    /// The folder has no `METADATA`.
    #[error("has no {member}")]
    NoMetadata {
        /// The name that was looked for.
        member: String,
    },
    /// It has more bytes than are read.
    #[error("{member} has more than {METADATA_LIMIT} bytes")]
    TooLarge {
        /// The `METADATA`'s name.
        member: String,
    },
    /// It is not core metadata.
    #[error("{member} is not core metadata: {source}")]
    Malformed {
        /// The `METADATA`'s name.
        member: String,
        /// What is wrong.
        source: MetadataError,
    },
}

/// The metadata of a wheel, from the `METADATA` in its one `.dist-info` folder,
/// which has to be that of the distribution and version in the wheel's name,
/// both normalised. Blocking; nothing is unpacked.
///
/// # Errors
/// [`WheelError`], which names the wheel.
pub fn wheel_metadata(wheel: &Path) -> Result<CoreMetadata, WheelError> {
    read(wheel).map_err(|problem| WheelError { wheel: wheel.to_owned(), problem })
}

fn read(wheel: &Path) -> Result<CoreMetadata, WheelProblem> {
    let name = WheelName::parse(wheel)?;
    let file = open_regular_file(wheel).map_err(WheelProblem::Unreadable)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(problem)?;
    let dist_info = dist_info(&archive)?;
    if !belongs_to(&dist_info, &name) {
        return Err(WheelProblem::ForeignDistInfo { found: dist_info });
    }
    let member = format!("{dist_info}/METADATA");
    let bytes = read_member(&mut archive, &member)?;
    CoreMetadata::parse(&bytes).map_err(|source| WheelProblem::Malformed { member, source })
}

fn dist_info(archive: &ZipArchive<BufReader<File>>) -> Result<String, WheelProblem> {
    let mut found = BTreeSet::new();
    for name in archive.file_names() {
        if let Some((folder, _)) = name.map_err(problem)?.split_once('/')
            && folder.ends_with(".dist-info")
        {
            found.insert(folder.to_owned());
        }
    }
    let mut found: Vec<String> = found.into_iter().collect();
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(WheelProblem::NoDistInfo),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(WheelProblem::SeveralDistInfo(found))
        }
    }
}

fn belongs_to(dist_info: &str, wheel: &WheelName) -> bool {
    let stem = dist_info.strip_suffix(".dist-info").unwrap_or_default();
    // Names that are not normalised may have a `-` too.
    let Some((name, version)) = stem.rsplit_once('-') else { return false };
    same(name, &wheel.name, |name| PackageName::from_str(name).ok())
        && same(version, &wheel.version, |version| Version::from_str(version).ok())
}

/// Whether two texts are written the same, or mean the same.
fn same<T: PartialEq>(one: &str, other: &str, normalise: impl Fn(&str) -> Option<T>) -> bool {
    one == other || normalise(one).is_some_and(|one| normalise(other) == Some(one))
}

fn read_member(archive: &mut ZipArchive<BufReader<File>>, member: &str) -> Result<Vec<u8>, WheelProblem> {
    let mut content = archive.by_name(member).map_err(|error| match error {
        ZipError::FileNotFound => WheelProblem::NoMetadata { member: member.to_owned() },
        error => problem(error),
    })?;
    let bytes = read_bounded(&mut content).map_err(|error| problem(ZipError::Io(error)))?;
    bytes.ok_or_else(|| WheelProblem::TooLarge { member: member.to_owned() })
}

fn problem(error: ZipError) -> WheelProblem {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => WheelProblem::Unreadable(error),
        error => WheelProblem::NotAZip(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dist_info_folder_belongs_to_its_wheel() {
        let belongs =
            |dist_info: &str, wheel: &str| belongs_to(dist_info, &WheelName::parse(Path::new(wheel)).unwrap());
        for (dist_info, wheel) in [
            ("Foo.Bar-1.0.dist-info", "foo_bar-1.0-py3-none-any.whl"),
            ("foo-bar-1.0.0.dist-info", "Foo_Bar-1.0-py3-none-any.whl"),
            ("a-1.0+local.1.dist-info", "a-1.0+local_1-py3-none-any.whl"),
            ("a-no.version.dist-info", "a-no.version-py3-none-any.whl"),
        ] {
            assert!(belongs(dist_info, wheel), "{dist_info} in {wheel}");
        }
        for (dist_info, wheel) in [
            ("b-1.0.dist-info", "a-1.0-py3-none-any.whl"),
            ("a-1.1.dist-info", "a-1.0-py3-none-any.whl"),
            ("a.dist-info", "a-1.0-py3-none-any.whl"),
            ("-.dist-info", "a-1.0-py3-none-any.whl"),
        ] {
            assert!(!belongs(dist_info, wheel), "{dist_info} in {wheel}");
        }
    }
}
