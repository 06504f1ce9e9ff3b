//! Digests of files.

use std::io;
use std::path::Path;

use hookpool_supervisor::{Links, open_regular_file};
use sha2::{Digest, Sha256};

/// The SHA-256 of what is in a regular file. Blocks.
pub(crate) fn digest_of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    io::copy(&mut open_regular_file(path, Links::Follow)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// The first half of a digest, in hexadecimal digits: enough for a name.
pub(crate) fn short(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
