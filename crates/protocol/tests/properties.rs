//! What holds for every message, every request and every input.

mod strategies;

use hookd_protocol::{Action, Form, HookCall, LineDecoder, LineTooLong, Message};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use strategies::{call, message, plain};

/// Everything that a decoder gives when the input comes in these pieces.
fn lines_of(pieces: &[&[u8]], limit: usize) -> (Vec<Result<Vec<u8>, LineTooLong>>, bool) {
    let mut decoder = LineDecoder::with_limit(limit);
    let mut lines = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        lines.extend(std::iter::from_fn(|| decoder.next_line().transpose()));
    }
    (lines, decoder.finish().is_ok())
}

/// The same by the standard library, with what is too long reported by its place alone.
fn expected_lines(input: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines: Vec<_> = input.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().filter(|rest| rest.len() > limit);
    (lines.into_iter().chain(last)).map(|line| (line.len() <= limit).then(|| line.to_vec())).collect()
}

/// Bytes with many newlines and few else, so that interesting lines are likely.
fn input() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![2 => Just(b'\n'), 5 => b'a'..=b'z', 1 => any::<u8>()], 0..200)
}

/// Lines that look like messages, with anything after the kind.
fn nearly_message() -> impl Strategy<Value = Vec<u8>> {
    let kind = "(READY|EXPECT|DEBUG|STDOUT|HOOK|OK|ERROR|ERROR HookCrashed|FATAL X|TRACEBACK|IMPORTED|PONG) ?";
    let payload = prop_oneof![vec(any::<u8>(), 0..40), "[\\[{\",:}\\]a0 ]{0,20}".prop_map(String::into_bytes)];
    (kind, payload).prop_map(|(kind, payload)| [kind.into_bytes(), payload].concat())
}

proptest! {
    #[test]
    fn every_message_survives(message in message()) {
        let line = message.encode();
        prop_assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(line.len() - 1));
        prop_assert_eq!(Message::parse(&line[..line.len() - 1]), Ok(message));
    }

    #[test]
    fn every_message_is_one_readable_line_in_plain_form(message in message()) {
        let line = message.encode_as(Form::Plain);
        prop_assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(line.len() - 1));
        let read = Message::parse_as(Form::Plain, &line[..line.len() - 1]).unwrap();
        prop_assert_eq!(read.kind(), message.kind());
    }

    #[test]
    fn every_call_survives(call in call()) {
        let request = call.encode().unwrap();
        let lines = request.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n');
        prop_assert_eq!(HookCall::decode(lines), Ok(call));
    }

    #[test]
    fn requests_written_ahead_are_read_one_by_one(calls in vec(call(), 1..4)) {
        let request: Vec<u8> = calls.iter().flat_map(|call| call.encode().unwrap()).collect();
        let mut lines = request.split(|&byte| byte == b'\n');
        for call in calls {
            prop_assert_eq!(HookCall::decode(&mut lines), Ok(call));
        }
        prop_assert_eq!(lines.collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn every_action_survives(token in plain().prop_filter("means none", |token| !token.is_empty())) {
        for action in [Action::Run, Action::Shutdown, Action::Ping(token.clone()), Action::Cancel(token)] {
            let line = action.encode();
            prop_assert_eq!(Action::parse(line.strip_suffix(b"\n").unwrap()), Ok(action));
        }
    }

    #[test]
    fn any_bytes_can_be_parsed(line in prop_oneof![vec(any::<u8>(), 0..80), nearly_message()]) {
        for form in [Form::Json, Form::Plain] {
            if let Err(error) = Message::parse_as(form, &line) {
                prop_assert!(error.line.chars().count() <= 201);
            }
        }
        let _ = Action::parse(&line);
    }

    #[test]
    fn whatever_was_parsed_survives(line in nearly_message()) {
        prop_assume!(!line.contains(&b'\n'));
        if let Ok(message) = Message::parse(&line) {
            let again = message.encode();
            prop_assert_eq!(Message::parse(again.strip_suffix(b"\n").unwrap()), Ok(message));
        }
    }

    #[test]
    fn any_lines_can_be_decoded(
        start in select(vec!["", "run", "run\n\n", "run\n\n\nbuild_wheel"]),
        lines in vec(vec(any::<u8>(), 0..20), 0..12),
    ) {
        let lines = start.as_bytes().split(|&byte| byte == b'\n').chain(lines.iter().map(Vec::as_slice));
        if let Ok(call) = HookCall::decode(lines) {
            prop_assert!(call.encode().is_ok());
        }
    }

    #[test]
    fn any_pieces_give_the_same_lines(
        input in input(),
        limit in 0..20usize,
        sizes in vec(1..30usize, 1..20),
    ) {
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        for size in sizes.iter().cycle() {
            let (piece, tail) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let (lines, finished) = lines_of(&pieces, limit);
        prop_assert_eq!(finished, input.last().is_none_or(|&byte| byte == b'\n'));
        prop_assert_eq!(&(lines.clone(), finished), &lines_of(&[&input], limit));
        let lines: Vec<_> = lines.into_iter().map(Result::ok).collect();
        prop_assert_eq!(lines, expected_lines(&input, limit));
    }
}
