//! Fuzzes archives: unpacking never panics, and never writes outside.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run archive -- -max_total_time=60`, in `crates/frontend`.
#![no_main]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use flate2::{Compression, write::GzEncoder};
use hookpool_frontend::{UnpackLimits, read_files, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The first byte selects the format of the rest.
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let (name, bytes) = match choice % 3 {
        0 => ("a-1.zip", input.to_vec()),
        1 => ("a-1.tar.gz", input.to_vec()),
        _ => ("a-1.tar.gz", gzip(&with_checksums(input))),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (archive, into) = (folder.path().join(name), folder.path().join("into"));
    std::fs::write(&archive, &bytes).expect("an archive");
    std::fs::create_dir(&into).expect("a folder");

    let mut limits = UnpackLimits::default();
    limits.total_bytes = 1 << 20;
    let cancel = AtomicBool::new(false);
    let tree = unpack(&archive, &into, &limits, &cancel);
    let _ = read_files(&archive, ["PKG-INFO", "pyproject.toml"], &limits, &cancel);

    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 2, "nothing beside `into`");
    assert_eq!(std::fs::read(&archive).expect("an archive"), bytes);
    if let Ok(tree) = tree {
        let tree = tree.canonicalize().expect("a tree");
        check(&tree, &tree);
    }
});

/// No link leads out of the tree.
fn check(folder: &Path, tree: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.symlink_metadata().expect("it is there").is_dir() {
            check(&path, tree);
        } else if let Ok(target) = path.canonicalize() {
            assert!(target.starts_with(tree), "{} leads to {}", path.display(), target.display());
        }
    }
}

/// A tar file whose headers all have the right checksum, which a fuzzer would not find.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        let mut header = tar::Header::from_byte_slice(block).clone();
        if header.as_ustar().is_some() || header.as_gnu().is_some() {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}
