//! The digest of an archive, and what is read of it: remembered, so that an archive
//! whose answers are kept is not even opened.

use std::io;
use std::path::Path;

use hookpool_supervisor::files::{FileStamp, Moment};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::store::{AnswerStore, Fact};
use crate::metadata::read_metadata_file;

/// The digest of an archive, and the state of the file when it was computed.
#[derive(Serialize, Deserialize)]
struct KnownDigest {
    stamp: FileStamp,
    /// When its bytes were read.
    at: Moment,
    digest: Digest,
}

/// The files at the top of a source that the frontend reads. `None`: there is no such
/// file, or it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopFiles {
    pub pyproject: Option<Vec<u8>>,
    pub pkg_info: Option<Vec<u8>>,
}

impl TopFiles {
    /// Their names.
    pub const NAMES: [&str; 2] = ["pyproject.toml", "PKG-INFO"];

    /// Those of a source tree. Blocks.
    pub fn of_tree(tree: &Path) -> Self {
        let [pyproject, pkg_info] = Self::NAMES.map(|name| read_metadata_file(&tree.join(name)).ok());
        Self { pyproject, pkg_info }
    }
}

/// Those of an archive, as they are noted.
type NotedTopFiles = [Option<String>; 2];

impl AnswerStore {
    /// The SHA-256 digest of an archive. Blocks.
    pub fn digest_of_archive(&self, archive: &Path) -> io::Result<Digest> {
        let path = archive.canonicalize()?;
        let name = Digest::of_path(&path);
        let stamp = FileStamp::of(&path.metadata()?);
        if let Some(known) = self.recall::<KnownDigest>(Fact::Archive, name)
            && known.stamp.still_holds(&stamp, known.at)
        {
            return Ok(known.digest);
        }
        // The time before the bytes are read: what is written later has a later one.
        let at = Moment::now();
        let digest = Digest::of_file(&path)?;
        let after = FileStamp::of(&path.metadata()?);
        if after == stamp {
            self.note(Fact::Archive, name, &KnownDigest { stamp, at, digest });
        }
        Ok(digest)
    }

    /// What was read of the archive with this digest. Blocks.
    pub fn top_files(&self, digest: Digest) -> Option<TopFiles> {
        let noted = self.recall::<NotedTopFiles>(Fact::Source, digest)?;
        let [pyproject, pkg_info] = noted.map(|text| text.map(String::into_bytes));
        Some(TopFiles { pyproject, pkg_info })
    }

    /// Notes what was read of the archive with this digest, if it is text. Blocks.
    pub fn set_top_files(&self, digest: Digest, files: &TopFiles) {
        let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(String::from_utf8).transpose();
        if let (Ok(pyproject), Ok(pkg_info)) = (text(&files.pyproject), text(&files.pkg_info)) {
            self.note::<NotedTopFiles>(Fact::Source, digest, &[pyproject, pkg_info]);
        }
    }
}
