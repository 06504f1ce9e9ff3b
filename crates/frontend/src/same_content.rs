//! Whether two files hold the same.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads both as far as they are the same. Blocks.
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
