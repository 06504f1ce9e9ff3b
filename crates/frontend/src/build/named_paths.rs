//! Editable wheels that need their build environment later: some build backends
//! write paths of their tools into the wheel, to build again on import.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zip::ZipArchive;

/// Whether a file in the wheel names a path in the folder. What cannot be read is
/// no reason to lose the wheel, and has none. Blocks.
pub(super) fn names_paths_in(wheel: &Path, folder: &Path) -> bool {
    /// Loaders are small; what is larger is data or compiled.
    const LARGEST: u64 = 1 << 20;
    let Ok(Ok(mut archive)) = File::open(wheel).map(ZipArchive::new) else { return false };
    let mut path = folder.as_os_str().as_bytes().to_vec();
    path.push(b'/');
    (0..archive.len()).any(|index| {
        let Ok(member) = archive.by_index(index) else { return false };
        let mut content = Vec::new();
        let read = member.take(LARGEST).read_to_end(&mut content);
        read.is_ok() && content.windows(path.len()).any(|part| part == path)
    })
}
