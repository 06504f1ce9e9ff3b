//! What a worker might write: no bytes may panic, and the pieces that they come in do not matter.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run message -- -max_total_time=60`, in `crates/protocol`.
#![no_main]

use hookd_protocol::{LineDecoder, LineTooLong, Message};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 256;

fuzz_target!(|input: &[u8]| {
    // The first byte chooses how the rest is cut into pieces.
    let Some((&size, input)) = input.split_first() else {
        return;
    };
    let lines = lines_of(input.chunks(usize::from(size).max(1)));
    assert_eq!(lines, lines_of([input]));

    for line in lines.iter().flatten() {
        let _ = Message::parse(line);
    }
});

fn lines_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Vec<u8>, LineTooLong>> {
    let mut decoder = LineDecoder::with_limit(LIMIT);
    let mut lines = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        lines.extend(std::iter::from_fn(|| decoder.next_line().transpose()));
    }
    let _ = decoder.finish();
    lines
}
