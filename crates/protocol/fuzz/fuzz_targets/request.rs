//! What a caller might send: no bytes may panic, and a request that was read is written the same.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run request -- -max_total_time=60`, in `crates/protocol`.
#![no_main]

use hookd_protocol::{Action, HookCall};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for line in input.split(|&byte| byte == b'\n') {
        if let Ok(action) = Action::parse(line) {
            let again = action.encode();
            assert_eq!(
                Action::parse(again.strip_suffix(b"\n").expect("a line")),
                Ok(action)
            );
        }
    }
    let mut lines = input.split(|&byte| byte == b'\n');
    while let Ok(call) = HookCall::decode(&mut lines) {
        let request = call.encode().expect("what was read can be written");
        let again = request.strip_suffix(b"\n").expect("ends its line");
        assert_eq!(
            HookCall::decode(again.split(|&byte| byte == b'\n')),
            Ok(call)
        );
    }
});
