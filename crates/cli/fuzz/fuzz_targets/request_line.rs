//! Parses arbitrary lines as requests of `hookpool run`: no line may panic, and the
//! message for an invalid one is not empty and not too long.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run request_line -- -max_total_time=60`, in `crates/cli`.
#![no_main]

use libfuzzer_sys::fuzz_target;

use self::request::RequestLine;

// The program has no library, so the files of the parser are included here.
#[allow(dead_code, reason = "only the parser is of interest")]
#[path = "../../src/arguments/values.rs"]
mod arguments;
#[allow(dead_code, reason = "only the parser is of interest")]
#[path = "../../src/commands/run/fields.rs"]
mod fields;
#[allow(dead_code, reason = "ids are not looked at")]
// rustfmt would look for its tests in the wrong folder.
#[rustfmt::skip]
#[path = "../../src/commands/run/request.rs"]
mod request;

/// A message quotes one shortened value, or lists the names of all fields.
const LONGEST_MESSAGE: usize = 2000;

fuzz_target!(|input: &[u8]| {
    for line in input.split(|&byte| byte == b'\n') {
        match RequestLine::parse(line) {
            Ok(None) => assert!(line.trim_ascii().is_empty()),
            Ok(Some(RequestLine::Hook { request, .. })) => {
                // An accepted request can be used.
                let _ = format!("{request:?}");
            }
            Ok(Some(_)) => {}
            Err(error) => {
                let message = error.to_string();
                assert!(!message.is_empty() && message.len() <= LONGEST_MESSAGE, "{message}");
            }
        }
    }
});
