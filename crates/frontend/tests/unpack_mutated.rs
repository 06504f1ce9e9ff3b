//! Archives with changed bytes: unpacking never panics, and never writes outside.

mod evil;

use evil::raw_zip::{entry, zip};
use evil::{Lab, file, folder, gzip, hard_link, pax, symlink, tar};
use proptest::collection::vec;
use proptest::prelude::*;

fn members() -> Vec<Vec<u8>> {
    vec![
        folder("a-1"),
        file("a-1/PKG-INFO", "Metadata-Version: 2.2\nName: a\nVersion: 1\n"),
        symlink("a-1/d", "e/../f"),
        pax(&[("path", "a-1/g/h"), ("size", "4")]),
        file("x", "four"),
        hard_link("a-1/i", "a-1/g/h"),
        symlink("a-1/g/j", "../d"),
    ]
}

fn mutated(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)], fix: impl Fn(&mut [u8])) -> Vec<u8> {
    for (index, value) in changes {
        let index = index.index(bytes.len());
        bytes[index] = *value;
    }
    fix(&mut bytes);
    bytes
}

/// Puts the right checksum into each block that might be a header.
fn fix_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        let header: &mut [u8; 512] = block.try_into().expect("a block");
        let mut fixed = tar::Header::from_byte_slice(header).clone();
        fixed.set_cksum();
        header.copy_from_slice(fixed.as_bytes());
    }
}

/// Bytes that often have a meaning in names and numbers.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![Just(b'/'), Just(b'.'), Just(0), b'0'..=b'7', any::<u8>()];
    vec((any::<prop::sample::Index>(), byte), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn of_tar(changes in changes()) {
        let lab = Lab::new("a-1.tar.gz", &gzip(&mutated(tar(&members()), &changes, fix_checksums)));
        let _ = lab.unpack();
        let _ = lab.pkg_info();
    }

    #[test]
    fn of_gzip(changes in changes()) {
        let lab = Lab::new("a-1.tar.gz", &mutated(gzip(&tar(&members())), &changes, |_| ()));
        let _ = lab.unpack();
    }

    #[test]
    fn of_zip(changes in changes()) {
        let mut link = entry("a-1/d", "e/../f");
        link.mode = 0o120_777;
        let archive = zip(&[entry("a-1/", ""), entry("a-1/PKG-INFO", "Name: a"), link, entry("a-1/g/h", "x")]);
        let lab = Lab::new("a-1.zip", &mutated(archive, &changes, |_| ()));
        let _ = lab.unpack();
        let _ = lab.pkg_info();
    }
}
