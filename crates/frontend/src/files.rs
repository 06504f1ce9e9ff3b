//! Helpers for files: their digests, their contents, their times and names, blocking
//! work on them.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hookpool_supervisor::files::{Links, kept, open_regular_file, unblock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// Runs blocking work that can be stopped: it has to look at the flag, which is
/// set when `stop` completes, or when this future is dropped. `None` if it was
/// stopped.
pub(crate) async fn unblock_until<T: Send + 'static>(
    stop: impl Future<Output = ()>,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Option<T> {
    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let cancel = Arc::new(AtomicBool::new(false));
    let set = SetOnDrop(cancel.clone());
    let mut working = std::pin::pin!(unblock(move || work(&cancel)));
    tokio::select! {
        biased;
        result = &mut working => Some(result),
        () = stop => {
            drop(set);
            // It removes what it has written.
            working.await;
            None
        }
    }
}

/// The SHA-256 digest of a regular file. Blocks.
pub(crate) fn digest_of_file(path: &Path) -> io::Result<[u8; 32]> {
    digest_of_content(&mut open_regular_file(path, Links::Follow)?)
}

/// The SHA-256 digest of what is left to be read. Blocks.
pub(crate) fn digest_of_content(content: &mut impl Read) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    io::copy(content, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// The SHA-256 digest of a list of texts. Other lists have other digests, however
/// they are cut.
pub(crate) fn digest_of_list<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}

/// A random number.
pub(crate) fn random() -> u64 {
    // Its keys are random. The standard library has no other source of random numbers.
    RandomState::new().hash_one(std::process::id())
}

/// The first half of a SHA-256 digest in hexadecimal digits, which is enough for
/// a name.
pub(crate) fn short(digest: &[u8]) -> String {
    hexadecimal(&digest[..digest.len().min(16)])
}

/// The bytes in hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two files have the same content. Reads them up to the first
/// difference. Blocks.
pub(crate) fn has_same_content(one: &Path, two: &Path) -> io::Result<bool> {
    const PART: u64 = 1 << 20;
    let (mut one, mut two) = (File::open(one)?, File::open(two)?);
    if one.metadata()?.len() != two.metadata()?.len() {
        return Ok(false);
    }
    let mut parts = [Vec::new(), Vec::new()];
    loop {
        for (file, part) in [&mut one, &mut two].into_iter().zip(&mut parts) {
            part.clear();
            file.take(PART).read_to_end(part)?;
        }
        if parts[0] != parts[1] {
            return Ok(false);
        }
        if parts[0].is_empty() {
            return Ok(true);
        }
    }
}

/// The disk space of a file, or of a folder with its content, in bytes. Blocks.
pub(crate) fn disk_space(path: &Path) -> u64 {
    let entries = WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    entries.map(|metadata| metadata.blocks() * 512).sum()
}

/// Reads a JSON file of the cache folder; `None` if it is missing or damaged.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&kept::read(path).ok()?).ok()
}

/// Writes a JSON file of the cache folder, by a rename.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    kept::write(path, &serde_json::to_vec(value)?)
}

/// Writes what only saves time when it is there.
pub(crate) fn try_write_json(path: &Path, value: &impl Serialize) {
    if let Err(error) = write_json(path, value) {
        tracing::debug!("{}: {error}", path.display());
    }
}
