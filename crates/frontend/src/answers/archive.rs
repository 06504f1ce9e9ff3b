//! The digest of an archive, and what is read of it: remembered, so that an archive
//! whose answers are kept is not even opened.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use hookpool_supervisor::files::{FileStamp, Moment};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::store::{AnswerStore, Fact};
use crate::archive::{ArchiveError, UnpackLimits, Wanted, read_wanted};
use crate::metadata::{may_determine_metadata, read_metadata_file};

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
    /// Whether there is a `setup.py`, or a `setup.cfg` that may determine metadata.
    pub has_setup: bool,
}

impl TopFiles {
    const PYPROJECT: &str = "pyproject.toml";
    const PKG_INFO: &str = "PKG-INFO";
    const SETUP_PY: &str = "setup.py";
    const SETUP_CFG: &str = "setup.cfg";

    /// Those of a source tree. Blocks.
    pub fn of_tree(tree: &Path) -> Self {
        let [pyproject, pkg_info] =
            [Self::PYPROJECT, Self::PKG_INFO].map(|name| read_metadata_file(&tree.join(name)).ok());
        let is_there = |name| tree.join(name).symlink_metadata().is_ok();
        let setup_cfg = || read_metadata_file(&tree.join(Self::SETUP_CFG)).ok();
        let has_setup = is_there(Self::SETUP_PY) || (is_there(Self::SETUP_CFG) && may_determine_metadata(setup_cfg()));
        Self { pyproject, pkg_info, has_setup }
    }

    /// Those of an archive. Blocks, until it is done or `cancel` is set.
    pub fn of_archive(archive: &Path, cancel: &AtomicBool) -> Result<Self, ArchiveError> {
        let wanted = [
            Wanted::Content(Self::PYPROJECT),
            Wanted::Content(Self::PKG_INFO),
            Wanted::Presence(Self::SETUP_PY),
            // The two differ if it is a link, or too long.
            Wanted::Presence(Self::SETUP_CFG),
            Wanted::ContentIfShort(Self::SETUP_CFG),
        ];
        let [pyproject, pkg_info, setup_py, has_setup_cfg, setup_cfg] =
            read_wanted(archive, wanted, &UnpackLimits::default(), cancel)?;
        let has_setup = setup_py.is_some() || (has_setup_cfg.is_some() && may_determine_metadata(setup_cfg));
        Ok(Self { pyproject, pkg_info, has_setup })
    }
}

/// Those of an archive, as they are noted.
#[derive(Serialize, Deserialize)]
struct NotedTopFiles {
    pyproject: Option<String>,
    pkg_info: Option<String>,
    has_setup: bool,
}

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
        let NotedTopFiles { pyproject, pkg_info, has_setup } = noted;
        let [pyproject, pkg_info] = [pyproject, pkg_info].map(|text| text.map(String::into_bytes));
        Some(TopFiles { pyproject, pkg_info, has_setup })
    }

    /// Notes what was read of the archive with this digest, if it is text. Blocks.
    pub fn set_top_files(&self, digest: Digest, files: &TopFiles) {
        let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(String::from_utf8).transpose();
        if let (Ok(pyproject), Ok(pkg_info)) = (text(&files.pyproject), text(&files.pkg_info)) {
            self.note(Fact::Source, digest, &NotedTopFiles { pyproject, pkg_info, has_setup: files.has_setup });
        }
    }
}
