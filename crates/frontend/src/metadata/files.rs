//! Core metadata on the disk.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{Links, read_regular_file};

use super::{CoreMetadata, Described, MetadataError};
use crate::extensions::{self, Extension, MalformedExtensions};

/// The limit for the size of a file, in bytes. The largest real ones have change logs in
/// their description, and a few hundred KiB.
pub(crate) const METADATA_LIMIT: u64 = 16 << 20;

/// Why a `.dist-info` folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DistInfoError {
    /// `METADATA` is missing, or a file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not core metadata: {source}")]
    Malformed { path: PathBuf, source: MetadataError },
    #[error("{path} cannot be understood, and may require something: {source}")]
    MalformedExtensions { path: PathBuf, source: MalformedExtensions },
}

/// Reads the metadata and the declared extensions of a `.dist-info` folder. Blocks.
pub(crate) fn describe_folder(dist_info: &Path) -> Result<Described, DistInfoError> {
    Ok(Described { metadata: folder_metadata(dist_info)?, extensions: folder_extensions(dist_info)? })
}

fn folder_metadata(dist_info: &Path) -> Result<CoreMetadata, DistInfoError> {
    let path = dist_info.join("METADATA");
    let bytes = match read_metadata_file(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(DistInfoError::Unreadable { path, source }),
    };
    CoreMetadata::parse(&bytes).map_err(|source| DistInfoError::Malformed { path, source })
}

/// In the order of [`EXTENSION_FILES`](crate::EXTENSION_FILES).
fn folder_extensions(dist_info: &Path) -> Result<Vec<Extension>, DistInfoError> {
    let read = |file| {
        let path = dist_info.join(file);
        match read_metadata_file(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DistInfoError::Unreadable { path, source }),
        }
    };
    let malformed = |file, source| DistInfoError::MalformedExtensions { path: dist_info.join(file), source };
    extensions::read_all(read, malformed)
}

/// Reads a regular file of a source tree or a `.dist-info` folder that has at most
/// [`METADATA_LIMIT`] bytes. Blocks.
pub(crate) fn read_metadata_file(path: &Path) -> io::Result<Vec<u8>> {
    read_regular_file(path, Links::Follow, METADATA_LIMIT)
}

/// Reads to the end; `None` if there are more than [`METADATA_LIMIT`] bytes.
pub(crate) fn read_bounded(reader: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(METADATA_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= METADATA_LIMIT).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PKG_INFO: &str = "Metadata-Version: 2.2\nName: a\nVersion: 1\n";

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("METADATA");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(read_metadata_file(&path).unwrap_err().to_string().contains("regular file"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(read_metadata_file(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(METADATA_LIMIT + 1).unwrap();
        assert!(read_metadata_file(&path).unwrap_err().to_string().contains("16777216"));
    }

    #[test]
    fn a_dist_info_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("METADATA");
        let error = folder_metadata(folder.path()).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::write(&path, PKG_INFO).unwrap();
        assert_eq!(folder_metadata(folder.path()).unwrap().name, "a");
        std::fs::write(&path, "Metadata-Version: 2.2\nName: a\n").unwrap();
        let error = folder_metadata(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("it has no field Version"), "{error}");
    }

    #[test]
    fn the_extensions_of_a_folder_are_those_of_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(folder_extensions(folder.path()).unwrap().is_empty());
        for (index, file) in extensions::EXTENSION_FILES.into_iter().enumerate() {
            let text = format!(r#"{{"extensions": {{"e{index}": {{"required_extension": {}}}}}}}"#, index % 2 == 0);
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let found = folder_extensions(folder.path()).unwrap();
        let found: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.required, found.file)).collect();
        let expected = [
            ("e0", true, "pydist.json"),
            ("e1", false, "pysdist.json"),
            ("e2", true, "metadata.json"),
            ("e3", false, "pep426-20131213.json"),
        ];
        assert_eq!(found, expected);
        let path = folder.path().join("pysdist.json");
        std::fs::write(&path, "{").unwrap();
        let error = folder_extensions(folder.path()).unwrap_err();
        assert!(matches!(error, DistInfoError::MalformedExtensions { .. }));
        assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = folder_extensions(folder.path()).unwrap_err();
        assert!(matches!(error, DistInfoError::Unreadable { .. }), "{error}");
    }
}
