//! What a person names on the command line: source trees, source archives and
//! wheels.

mod copies;
mod list;
mod names;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::environment::redact;

pub use list::{ListError, read_list};
pub use names::{InvalidWheelName, SdistName, WheelName};

/// What the names of source archives end in.
const ARCHIVE_SUFFIXES: [&str; 3] = [".tar.gz", ".tgz", ".zip"];

/// Something that metadata can be asked of, or a wheel. The path is as its user
/// wrote it, which is what messages should show.
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

/// Which file or folder a source is: the thing itself, not its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    device: u64,
    inode: u64,
}

/// Why a path is no source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is nothing of this name.
    #[error(
        "{} does not exist: expected a source tree, a source archive (.tar.gz, .tgz, .zip) or a wheel (.whl)",
        // It may be an address.
        redact(&format!("{path:?}"))
    )]
    Missing {
        /// What was named.
        path: PathBuf,
    },
    /// It is there, and the system does not let us read it.
    #[error("{path:?} cannot be read: {source}")]
    Unreadable {
        /// What was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file whose name says nothing that is known.
    #[error("{path:?}: expected a folder, or a file whose name ends in .tar.gz, .tgz, .zip or .whl")]
    UnknownSuffix {
        /// What was named.
        path: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("{path:?} is a {kind}: expected a folder or a regular file")]
    Special {
        /// What was named.
        path: PathBuf,
        /// What it is, such as a named pipe.
        kind: &'static str,
    },
    /// A file without content.
    #[error("{path:?} is empty: expected a source archive or a wheel")]
    Empty {
        /// What was named.
        path: PathBuf,
    },
}

impl Source {
    /// Looks at what is at `path`. A folder is a tree, whatever it is called;
    /// a file is what its name ends in, in upper or lower case.
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

    /// The path as it was written.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Tree(path) | Self::SourceArchive(path) | Self::Wheel(path) => path,
        }
    }

    /// What tells two sources apart: two spellings of one path, or a path and
    /// a symbolic link to it, have the same identity.
    ///
    /// # Errors
    /// [`SourceError::Missing`] and [`SourceError::Unreadable`].
    pub fn identity(&self) -> Result<SourceId, SourceError> {
        let metadata = look_at(self.path())?;
        Ok(SourceId { device: metadata.dev(), inode: metadata.ino() })
    }
}

fn look_at(path: &Path) -> Result<std::fs::Metadata, SourceError> {
    path.metadata().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned() },
        _ => SourceError::Unreadable { path: path.to_owned(), source },
    })
}

/// Whether the file's name ends so, and has something before it.
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
    fn a_source_is_what_lies_on_the_disk() {
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
    fn what_is_no_source_is_refused_with_its_path() {
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
}
