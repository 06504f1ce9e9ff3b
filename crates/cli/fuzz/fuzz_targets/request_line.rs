//! What might come on standard input of `hookpool run`: no line may panic, and each that is no
//! request gets a message that a terminal and a reader of JSON can bear.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run request_line -- -max_total_time=60`, in `crates/cli`.
#![no_main]

use libfuzzer_sys::fuzz_target;

use self::request_line::RequestLine;

// The program is no library: the parser's files are taken as they are.
#[allow(dead_code, reason = "only the parser is of interest")]
#[path = "../../src/arguments/values.rs"]
mod arguments;
#[allow(dead_code, reason = "only the parser is of interest")]
#[path = "../../src/commands/run/field.rs"]
mod field;
#[allow(dead_code, reason = "only the parser is of interest")]
#[path = "../../src/commands/run/id.rs"]
mod id;
#[allow(dead_code, reason = "ids are not looked at")]
// Its tests would be looked for in another place than they are in.
#[rustfmt::skip]
#[path = "../../src/commands/run/request_line.rs"]
mod request_line;

/// A value is repeated once, and shortened; the names of all fields are listed.
const LONGEST_MESSAGE: usize = 2000;

fuzz_target!(|input: &[u8]| {
    for line in input.split(|&byte| byte == b'\n') {
        match RequestLine::parse(line) {
            Ok(None) => assert!(line.trim_ascii().is_empty()),
            Ok(Some(RequestLine::Hook { request, .. })) => {
                // What was accepted can be asked for: the lines for the worker, or an error.
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
