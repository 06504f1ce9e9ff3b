//! What a user builds: source trees, source archives and wheels.

mod list;
mod names;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::files::has_same_content;
use crate::redact::redact;

pub use list::{ListError, read_list};
pub use names::InvalidWheelName;
pub(crate) use names::{SdistName, WheelName, is_same_distribution, same};

/// The suffixes of source archives.
const ARCHIVE_SUFFIXES: [&str; 3] = [".tar.gz", ".tgz", ".zip"];

/// A source, or a wheel. The path is the one that the user wrote, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The folder of a source tree.
    Tree(PathBuf),
    /// A source distribution or another archive of a tree: `.tar.gz`, `.tgz`
    /// or `.zip`.
    SourceArchive(PathBuf),
    /// A wheel, `.whl`.
    Wheel(PathBuf),
}

/// Identifies the file or folder of a source, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    device: u64,
    inode: u64,
}

/// Why a path is not a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing exists at the path.
    #[error(
        "{} does not exist: expected a source tree, a source archive (.tar.gz, .tgz, .zip) or a wheel (.whl)",
        // An address may contain credentials.
        redact(&format!("{path:?}"))
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// It exists, but cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file without a known suffix.
    #[error("{path:?}: expected a folder, or a file whose name ends in .tar.gz, .tgz, .zip or .whl")]
    UnknownSuffix {
        /// The path.
        path: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("{path:?} is a {kind}: expected a folder or a regular file")]
    Special {
        /// The path.
        path: PathBuf,
        /// Its kind, for example a named pipe.
        kind: &'static str,
    },
    /// An empty file.
    #[error("{path:?} is empty: expected a source archive or a wheel")]
    Empty {
        /// The path.
        path: PathBuf,
    },
}

impl SourceError {
    /// The error for a reader who knows the source by this name.
    #[must_use]
    pub fn named(mut self, name: &Path) -> Self {
        match &mut self {
            Self::Missing { path }
            | Self::Unreadable { path, .. }
            | Self::UnknownSuffix { path }
            | Self::Special { path, .. }
            | Self::Empty { path } => *path = name.to_owned(),
        }
        self
    }
}

impl Source {
    /// Finds out what is at `path`. A folder is a tree, whatever its name; the kind of a
    /// file is its suffix, in upper or lower case.
    ///
    /// # Errors
    /// [`SourceError`], which names the path and says what was expected.
    pub fn find(path: &Path) -> Result<Self, SourceError> {
        let owned = || path.to_owned();
        let unreadable = |source| SourceError::Unreadable { path: owned(), source };
        let metadata = look_at(path)?;
        if metadata.is_dir() {
            std::fs::read_dir(path).map_err(unreadable)?;
            return Ok(Self::Tree(owned()));
        }
        if !metadata.is_file() {
            return Err(SourceError::Special { path: owned(), kind: kind_of(metadata.file_type()) });
        }
        let source = Self::by_suffix(path).ok_or_else(|| SourceError::UnknownSuffix { path: owned() })?;
        if metadata.len() == 0 {
            return Err(SourceError::Empty { path: owned() });
        }
        File::open(path).map_err(unreadable)?;
        Ok(source)
    }

    fn by_suffix(path: &Path) -> Option<Self> {
        if has_suffix(path, ".whl") {
            return Some(Self::Wheel(path.to_owned()));
        }
        let archive = ARCHIVE_SUFFIXES.iter().any(|suffix| has_suffix(path, suffix));
        archive.then(|| Self::SourceArchive(path.to_owned()))
    }

    /// The path, as the user wrote it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Tree(path) | Self::SourceArchive(path) | Self::Wheel(path) => path,
        }
    }

    /// The identity of the source, which is the same for two spellings of a path, and for a
    /// path and a symbolic link to it.
    ///
    /// # Errors
    /// [`SourceError::Missing`] and [`SourceError::Unreadable`].
    pub fn identity(&self) -> Result<SourceId, SourceError> {
        let metadata = look_at(self.path())?;
        Ok(SourceId { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Whether both are archives with the same content, and with the same distribution and
    /// version in their names. Reads them, to the end if necessary. An archive that cannot
    /// be read is not a copy: building it gives the reason.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SourceArchive(one), Self::SourceArchive(two)) => {
                have_same_name(one, two) && has_same_content(one, two).unwrap_or(false)
            }
            _ => false,
        }
    }
}

fn have_same_name(one: &Path, two: &Path) -> bool {
    let (one, two) = (SdistName::readings(one), SdistName::readings(two));
    let pair = |reading: &SdistName| (reading.name.clone(), reading.version.clone());
    one.len() == two.len()
        && one
            .iter()
            .map(pair)
            .zip(two.iter().map(pair))
            .all(|(one, two)| is_same_distribution((&one.0, &one.1), (&two.0, &two.1)))
}

fn look_at(path: &Path) -> Result<std::fs::Metadata, SourceError> {
    path.metadata().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned() },
        _ => SourceError::Unreadable { path: path.to_owned(), source },
    })
}

/// Whether the file's name has this suffix, in upper or lower case, after something else.
pub(crate) fn has_suffix(path: &Path, suffix: &str) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() > suffix.len() && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

fn kind_of(file_type: std::fs::FileType) -> &'static str {
    if file_type.is_fifo() {
        "named pipe"
    } else if file_type.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn sources_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let find = |name: &str| Source::find(&file(folder.path(), name, "x")).unwrap();
        assert!(matches!(find("a-1.tar.gz"), Source::SourceArchive(_)));
        assert!(matches!(find("a-1.tgz"), Source::SourceArchive(_)));
        assert!(matches!(find("a-1.ZIP"), Source::SourceArchive(_)));
        assert!(matches!(find("a-1-py3-none-any.whl"), Source::Wheel(_)));
        let tree = folder.path().join("looks-like-1.0.tar.gz.whl");
        std::fs::create_dir(&tree).unwrap();
        assert_eq!(Source::find(&tree).unwrap(), Source::Tree(tree));
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            let error = Source::find(path).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            error
        };
        assert!(matches!(refused(&folder.path().join("nothing")), SourceError::Missing { .. }));
        let unknown = file(folder.path(), "a-1.tar.bz2", "x");
        assert!(matches!(refused(&unknown), SourceError::UnknownSuffix { .. }));
        assert!(matches!(refused(&file(folder.path(), ".whl", "x")), SourceError::UnknownSuffix { .. }));
        assert!(matches!(refused(&file(folder.path(), "a.zip", "")), SourceError::Empty { .. }));
        assert!(matches!(refused(Path::new("/dev/null")), SourceError::Special { kind: "device", .. }));
        let pipe = folder.path().join("pipe.whl");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(matches!(refused(&pipe), SourceError::Special { kind: "named pipe", .. }));
        let below_a_file = unknown.join("x");
        assert!(matches!(refused(&below_a_file), SourceError::Unreadable { .. }));
    }

    #[test]
    fn two_spellings_have_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = file(folder.path(), "a.whl", "x");
        let link = folder.path().join("b.whl");
        std::os::unix::fs::symlink(&wheel, &link).unwrap();
        let other = file(folder.path(), "c.whl", "x");
        let identity = |path: &Path| Source::find(path).unwrap().identity().unwrap();
        assert_eq!(identity(&wheel), identity(&link));
        assert_eq!(identity(&wheel), identity(&folder.path().join("./a.whl")));
        assert_ne!(identity(&wheel), identity(&other));
    }

    #[test]
    fn archives_with_the_same_content_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("other")).unwrap();
        let long = "x".repeat(3 << 20);
        let find = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Source::find(&path).unwrap()
        };
        let archive = find("Foo.bar-1.0.zip", &long);
        assert!(archive.is_copy_of(&find("other/foo_bar-1.0.0.zip", &long)));
        assert!(find("main.zip", "x").is_copy_of(&find("other/main.zip", "x")));
        for (name, content) in [
            ("other/foo_bar-1.1.zip", long.clone()),
            ("other/main.zip", long.clone()),
            ("other/Foo.bar-1.0.zip", "x".into()),
            ("other/Foo.bar-1.0.zip", format!("{}y", &long[1..])),
            ("other/foo_bar-1.0-py3-none-any.whl", long.clone()),
        ] {
            assert!(!archive.is_copy_of(&find(name, &content)), "{name}");
        }
        std::fs::remove_file(archive.path()).unwrap();
        assert!(!archive.is_copy_of(&find("other/Foo.bar-1.0.zip", &long)));
    }
}
