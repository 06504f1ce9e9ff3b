//! Fuzzes core metadata: parsing never panics, and static metadata come from the input.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run metadata -- -max_total_time=60`, in `crates/frontend`.
#![no_main]

use hookpool_frontend::{CoreMetadata, read_list, static_metadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let parsed = CoreMetadata::parse(input);
    if let Ok(found) = static_metadata(Some(input), None, false) {
        assert!(!found.dynamic.iter().any(|field| field.eq_ignore_ascii_case("Requires-Dist")));
        assert_eq!(Ok(found), parsed);
    }
    if let Ok(metadata) = parsed {
        let fields = [&metadata.name, &metadata.version].into_iter().chain(&metadata.requires_dist);
        assert!(fields.into_iter().all(|field| !field.contains(['\n', '\r'])), "one line each");
        assert_eq!(CoreMetadata::parse(metadata.text.as_bytes()), Ok(metadata));
    }
    let pkg_info = b"Metadata-Version: 2.2\nName: a\nVersion: 1\n";
    let _ = static_metadata(Some(pkg_info), Some(input), true);
    let _ = read_list(input);
});
