//! What a worker might send: no bytes may panic, and what was understood survives.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run message -- -max_total_time=60`, in `crates/protocol`.
#![no_main]

use hookd_protocol::{Form, LineDecoder, LineTooLong, Message};
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
        let _ = Message::parse_as(Form::Plain, line).map(|message| message.encode_as(Form::Plain));
        if let Ok(message) = Message::parse(line) {
            let again = message.encode();
            let again = again.strip_suffix(b"\n").expect("ends its line");
            assert!(!again.contains(&b'\n'), "one line");
            assert_eq!(Message::parse(again), Ok(message));
        }
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
