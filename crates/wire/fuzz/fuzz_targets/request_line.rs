//! Parses arbitrary lines as requests for hooks: no line may panic, a request is
//! written as it was read, and the message for an invalid one is not empty and not
//! too long.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run request_line -- -max_total_time=60`, in `crates/wire`.
#![no_main]

use hookpool_wire::{RequestLine, to_line};
use libfuzzer_sys::fuzz_target;

/// A message quotes one shortened value, or lists the names of all fields.
const LONGEST_MESSAGE: usize = 2000;

fuzz_target!(|input: &[u8]| {
    for line in input.split(|&byte| byte == b'\n') {
        match RequestLine::parse(line) {
            Ok(None) => assert!(line.trim_ascii().is_empty()),
            Ok(Some(RequestLine::Hook(request))) => match RequestLine::parse(&to_line(&request)) {
                Ok(Some(RequestLine::Hook(read))) => assert_eq!(read, request),
                other => panic!("{other:?}"),
            },
            Ok(Some(_)) => {}
            Err(error) => {
                let message = error.to_string();
                assert!(!message.is_empty() && message.len() <= LONGEST_MESSAGE, "{message}");
            }
        }
    }
});
