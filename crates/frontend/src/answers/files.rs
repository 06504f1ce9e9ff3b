//! The files that hooks made, each content once, under its digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hookpool_supervisor::files::{Links, kept, open_regular_file};
use tempfile::{NamedTempFile, TempPath};
use walkdir::WalkDir;

use super::answer::{Files, KeptFile};
use super::digest::Digest;

/// The name of the folder for them.
pub(super) const NAME: &str = "files";

/// Begins the names of files that are not complete; as [`kept::write`] has it.
pub(super) const DRAFT: &str = ".draft-";

/// The size up to which reading a file into memory takes less than what the system can do
/// for larger ones, in bytes.
const SMALL: u64 = 64 << 10;

/// The contents of files, `ab/abcd…`.
#[derive(Clone, Debug)]
pub(super) struct FileStore {
    folder: PathBuf,
}

/// Why files are not in their place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCopied {
    #[error("the kept file {0} is missing")]
    Missing(Digest),
    #[error("the kept file {0} is damaged")]
    Damaged(Digest),
    #[error("cannot write {path}: {source}", path = .path.display())]
    System { path: PathBuf, source: io::Error },
}

impl FileStore {
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join(NAME) }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, sha256: Digest) -> PathBuf {
        let name = sha256.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// Adds the content of an open file. To be called with the lock of the store,
    /// shared: until an entry names it, nothing else protects it. Blocks.
    pub fn add(&self, mut source: File) -> io::Result<(Digest, u64)> {
        let mut draft = self.draft()?;
        // Shares the blocks of the disk where the file system can. So the copy is
        // read for its digest, which also is the digest of what is kept, whatever
        // happens to the source meanwhile.
        let size = io::copy(&mut source, draft.as_file_mut())?;
        let sha256 = digest(draft.as_file_mut())?;
        self.persist(draft.into_temp_path(), sha256)?;
        Ok((sha256, size))
    }

    /// A file that will be [persisted](Self::persist).
    pub fn draft(&self) -> io::Result<NamedTempFile> {
        let make = || tempfile::Builder::new().prefix(DRAFT).tempfile_in(&self.folder);
        make().or_else(|_| {
            for folder in self.folder.ancestors().take(3).collect::<Vec<_>>().into_iter().rev() {
                kept::folder(folder).map_err(io::Error::other)?;
            }
            make()
        })
    }

    /// Gives a draft its name, in the place of what may be damaged. To be called with the
    /// lock of the store, as [`FileStore::add`].
    pub fn persist(&self, draft: TempPath, sha256: Digest) -> io::Result<()> {
        let path = self.path(sha256);
        draft.persist(&path).or_else(|refused| {
            kept::folder(path.parent().unwrap_or(&self.folder)).map_err(io::Error::other)?;
            if path.is_dir() {
                kept::remove(&path)?;
            }
            refused.path.persist(&path).map_err(|refused| refused.error)
        })
    }

    /// Writes a kept file to a path that does not exist, and checks what was written.
    /// Blocks.
    pub fn copy(&self, file: &KeptFile, to: &Path) -> Result<(), NotCopied> {
        let system = |source| NotCopied::System { path: to.to_owned(), source };
        let mut kept = match open_regular_file(&self.path(file.sha256), Links::Refuse) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotCopied::Missing(file.sha256)),
            Err(_) => return Err(NotCopied::Damaged(file.sha256)),
        };
        // The user's mask decides, as it did when the hook ran.
        let mode = if file.executable { 0o777 } else { 0o666 };
        let make = || OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(to).map_err(system);
        if file.size <= SMALL {
            // With room for the end, which is read, too.
            let mut content = Vec::with_capacity(file.size as usize + 1);
            let is_read = kept.take(SMALL + 1).read_to_end(&mut content).is_ok();
            if !is_read || Digest::of(&content) != file.sha256 {
                return Err(NotCopied::Damaged(file.sha256));
            }
            return make()?.write_all(&content).map_err(system);
        }
        let mut made = make()?;
        // Never a hard link: whoever changes the file would change the kept one.
        io::copy(&mut kept, &mut made).map_err(system)?;
        let is_whole = digest(&mut made).map_err(system)? == file.sha256;
        if is_whole { Ok(()) } else { Err(NotCopied::Damaged(file.sha256)) }
    }

    /// Whether a file is there, and what was kept. Blocks.
    pub fn has(&self, file: &KeptFile) -> bool {
        let path = self.path(file.sha256);
        path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == file.size)
            && Digest::of_file(&path).is_ok_and(|digest| digest == file.sha256)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, sha256: Digest) {
        let path = self.path(sha256);
        if let Err(error) = kept::remove(&path) {
            tracing::debug!("{} stays: {error}", path.display());
        }
    }
}

/// The digest of an open file, from its start.
fn digest(file: &mut File) -> io::Result<Digest> {
    file.rewind()?;
    Digest::of_content(file)
}

/// A file that a hook made: its path relative to the folder that the hook was given,
/// and the file, open.
pub(super) struct MadeFile {
    pub path: String,
    pub file: File,
    pub executable: bool,
}

/// Calls `each` with the files in these files and folders, each of which has its own
/// name in the folder that the hook was given. Blocks.
///
/// # Errors
/// Something is no regular file and no folder with files in it, or has a name that is
/// not UTF-8; or `each` fails.
pub(super) fn for_each_file(made: &[PathBuf], mut each: impl FnMut(MadeFile) -> io::Result<()>) -> io::Result<()> {
    let mut count = 0;
    for top in made {
        let parent = top.parent().unwrap_or(Path::new("/"));
        for entry in WalkDir::new(top).follow_root_links(false).sort_by_file_name() {
            let entry = entry?;
            let refused = |words: &str| invalid(format!("{} {words}", entry.path().display()));
            if entry.file_type().is_dir() {
                if entry.path().read_dir()?.next().is_none() {
                    return Err(refused("is an empty folder"));
                }
                continue;
            }
            count += 1;
            if count > Files::MOST {
                return Err(refused("is one of too many files"));
            }
            let path = entry.path().strip_prefix(parent).ok().and_then(Path::to_str);
            let path = path.ok_or_else(|| refused("has a name that is not UTF-8"))?.to_owned();
            let file = open_regular_file(entry.path(), Links::Refuse)
                .map_err(|error| refused(&format!("cannot be read as a regular file: {error}")))?;
            let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
            each(MadeFile { path, file, executable })?;
        }
    }
    Ok(())
}

/// The files in these files and folders. Blocks.
pub(super) fn list(made: &[PathBuf]) -> io::Result<Files> {
    let mut files = Vec::new();
    for_each_file(made, |MadeFile { path, mut file, executable }| {
        let (sha256, size) = (digest(&mut file)?, file.metadata()?.len());
        files.push(KeptFile { path, executable, sha256, size });
        Ok(())
    })?;
    Files::try_from(files).map_err(invalid)
}

/// The error for files that cannot be kept, wherever they are.
pub(super) fn invalid(words: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}
