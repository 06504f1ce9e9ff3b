//! Metadata of wheels (PEP 427).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{Links, open_regular_file};
use zip::ZipArchive;
use zip::result::ZipError;

use super::{CoreMetadata, Described, METADATA_LIMIT, MetadataError, read_bounded};
use crate::extensions::{self, Extension, MalformedExtensions};
use crate::source::{InvalidWheelName, WheelName, is_same_distribution};

/// A wheel cannot be read.
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
    /// The file does not have the name of a wheel.
    #[error("is not a wheel: {0}")]
    Name(#[from] InvalidWheelName),
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The content is not a zip file.
    #[error("is not a zip file, or a damaged one: {0}")]
    NotAZip(String),
    /// There is no `.dist-info` folder.
    #[error("has no .dist-info folder")]
    NoDistInfo,
    /// There are several `.dist-info` folders.
    #[error("has several .dist-info folders: {}", .0.join(", "))]
    SeveralDistInfo(Vec<String>),
    /// The `.dist-info` folder belongs to another wheel.
    #[error("has the folder {found}, which does not belong to a wheel of that name")]
    ForeignDistInfo {
        /// The name of the folder.
        found: String,
    },
    /// `METADATA` or `WHEEL` is missing.
    #[error("has no {member}")]
    Missing {
        /// The name of the file.
        member: String,
    },
    /// The core metadata belong to another wheel.
    #[error("has the name and version {name} {version} in {member}, which do not belong to a wheel of that name")]
    ForeignMetadata {
        /// The name of the `METADATA` file.
        member: String,
        /// Its Name.
        name: String,
        /// Its Version.
        version: String,
    },
    /// Several members have the same name. Readers disagree which one counts.
    #[error("has several members with the same name")]
    RepeatedMembers,
    /// A file of the `.dist-info` folder is too large.
    #[error("{member} has more than {METADATA_LIMIT} bytes")]
    TooLarge {
        /// The name of the file.
        member: String,
    },
    /// The `METADATA` file is not core metadata.
    #[error("{member} is not core metadata: {source}")]
    Malformed {
        /// The name of the `METADATA` file.
        member: String,
        /// What is wrong.
        source: MetadataError,
    },
    /// A file that declares extensions cannot be understood.
    #[error("{member} cannot be understood, and may require something: {source}")]
    MalformedExtensions {
        /// The name of the file.
        member: String,
        /// What is wrong.
        source: MalformedExtensions,
    },
}

/// Reads the metadata of a wheel from the `METADATA` in its `.dist-info` folder. Both have
/// to match the name and version in the wheel's file name, after normalisation. Blocks;
/// unpacks nothing.
///
/// # Errors
/// [`WheelError`], which names the wheel.
pub fn wheel_metadata(wheel: &Path) -> Result<CoreMetadata, WheelError> {
    read(wheel, OpenWheel::metadata)
}

/// Reads the extensions that a wheel declares, in the order of
/// [`EXTENSION_FILES`](crate::EXTENSION_FILES). Blocks; unpacks nothing.
///
/// # Errors
/// [`WheelError`], which names the wheel, and a file that is malformed.
pub fn wheel_extensions(wheel: &Path) -> Result<Vec<Extension>, WheelError> {
    read(wheel, OpenWheel::extensions)
}

/// Reads the metadata and the declared extensions of a wheel. Blocks.
pub(crate) fn describe_wheel(wheel: &Path) -> Result<Described, WheelError> {
    read(wheel, OpenWheel::describe)
}

/// The same of a wheel that was just built. It also has to be installable: with a `WHEEL`
/// file, and without two members of the same name.
pub(crate) fn describe_built_wheel(wheel: &Path) -> Result<Described, WheelError> {
    read(wheel, |wheel| {
        wheel.expect_installable()?;
        wheel.describe()
    })
}

/// Reads only the metadata of a wheel that was just built, which has to be installable.
pub(crate) fn built_wheel_metadata(wheel: &Path) -> Result<CoreMetadata, WheelError> {
    read(wheel, |wheel| {
        wheel.expect_installable()?;
        wheel.metadata()
    })
}

fn read<T>(wheel: &Path, get: impl FnOnce(&mut OpenWheel) -> Result<T, WheelProblem>) -> Result<T, WheelError> {
    let answer = OpenWheel::open(wheel).and_then(|mut wheel| get(&mut wheel));
    answer.map_err(|problem| WheelError { wheel: wheel.to_owned(), problem })
}

/// A wheel with its `.dist-info` folder.
struct OpenWheel {
    archive: ZipArchive<BufReader<File>>,
    name: WheelName,
    dist_info: String,
}

impl OpenWheel {
    fn open(wheel: &Path) -> Result<Self, WheelProblem> {
        let name = WheelName::parse(wheel)?;
        let file = open_regular_file(wheel, Links::Follow).map_err(WheelProblem::Unreadable)?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(problem)?;
        let dist_info = dist_info(&archive)?;
        if !belongs_to(&dist_info, &name) {
            return Err(WheelProblem::ForeignDistInfo { found: dist_info });
        }
        Ok(Self { archive, name, dist_info })
    }

    fn expect_installable(&mut self) -> Result<(), WheelProblem> {
        if self.archive.has_duplicate_names() {
            return Err(WheelProblem::RepeatedMembers);
        }
        let member = self.member("WHEEL");
        self.content(&member)?.map(drop).ok_or(WheelProblem::Missing { member })
    }

    fn describe(&mut self) -> Result<Described, WheelProblem> {
        Ok(Described { metadata: self.metadata()?, extensions: self.extensions()? })
    }

    fn metadata(&mut self) -> Result<CoreMetadata, WheelProblem> {
        let member = self.member("METADATA");
        let bytes = self.content(&member)?.ok_or_else(|| WheelProblem::Missing { member: member.clone() })?;
        match CoreMetadata::parse(&bytes) {
            Ok(metadata) if is_named((&metadata.name, &metadata.version), &self.name) => Ok(metadata),
            Ok(CoreMetadata { name, version, .. }) => Err(WheelProblem::ForeignMetadata { member, name, version }),
            Err(source) => Err(WheelProblem::Malformed { member, source }),
        }
    }

    fn extensions(&mut self) -> Result<Vec<Extension>, WheelProblem> {
        let dist_info = self.dist_info.clone();
        let malformed = |file, source| {
            let member = format!("{dist_info}/{file}");
            WheelProblem::MalformedExtensions { member, source }
        };
        extensions::read_all(|file| self.content(&self.member(file)), malformed)
    }

    fn member(&self, file: &str) -> String {
        format!("{}/{file}", self.dist_info)
    }

    /// Reads a member; `None` if it is missing.
    fn content(&mut self, member: &str) -> Result<Option<Vec<u8>>, WheelProblem> {
        let mut content = match self.archive.by_name(member) {
            Ok(content) => content,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(problem(error)),
        };
        let bytes = read_bounded(&mut content).map_err(|error| problem(ZipError::Io(error)))?;
        bytes.map(Some).ok_or_else(|| WheelProblem::TooLarge { member: member.to_owned() })
    }
}

/// Whether a file in the wheel contains a path in one of the folders: some build backends
/// write paths of their tools into editable wheels, to build again on import. A
/// wheel that cannot be read contains none. Blocks.
pub(crate) fn names_paths_in(wheel: &Path, folders: &[PathBuf]) -> bool {
    /// Loaders are small; larger files are data or compiled.
    const LARGEST: u64 = 1 << 20;
    let Ok(Ok(mut archive)) = File::open(wheel).map(ZipArchive::new) else { return false };
    let paths: Vec<Vec<u8>> = folders.iter().map(|folder| [folder.as_os_str().as_bytes(), b"/"].concat()).collect();
    (0..archive.len()).any(|index| {
        let Ok(member) = archive.by_index(index) else { return false };
        let mut content = Vec::new();
        let read = member.take(LARGEST).read_to_end(&mut content);
        read.is_ok() && paths.iter().any(|path| content.windows(path.len()).any(|part| part == path))
    })
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
    // A name that is not normalised may contain a `-`.
    let Some((name, version)) = stem.rsplit_once('-') else { return false };
    is_named((name, version), wheel)
}

/// Whether a name and version match the file name of a wheel. There, `_` stands for `-`
/// (PEP 427), also in versions that violate PEP 440.
fn is_named((name, version): (&str, &str), wheel: &WheelName) -> bool {
    let named = |version: &str| is_same_distribution((name, version), (&wheel.name, &wheel.version));
    named(version) || named(&version.replace('-', "_"))
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

    #[test]
    fn versions_outside_pep_440_are_escaped_in_the_name_of_a_wheel() {
        let wheel = WheelName::parse(Path::new("a-1_odd_thing-py3-none-any.whl")).unwrap();
        assert!(is_named(("A", "1-odd-thing"), &wheel));
        assert!(!is_named(("A", "1-odd.thing"), &wheel));
    }
}
