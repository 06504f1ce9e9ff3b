//! Properties of all messages, requests and inputs.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use hookd_protocol::{Argument, Hook, HookCall, LineDecoder, LineTooLong, Message};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Number, Value};

/// The lines that a decoder returns for input in these pieces.
fn lines_of(pieces: &[&[u8]], limit: usize) -> (Vec<Result<Vec<u8>, LineTooLong>>, bool) {
    let mut decoder = LineDecoder::with_limit(limit);
    let mut lines = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        lines.extend(std::iter::from_fn(|| decoder.next_line().transpose()));
    }
    (lines, decoder.finish().is_ok())
}

/// The same lines by the standard library; `None` for a line that is too long.
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
    let kind = "(READY|EXPECT|DEBUG|STDOUT|KEEPING|OK|ERROR|ERROR HookCrashed|FATAL X|TRACEBACK|IMPORTED|PONG) ?";
    let payload = prop_oneof![vec(any::<u8>(), 0..40), "[\\[{\",:}\\]a0 ]{0,20}".prop_map(String::into_bytes)];
    (kind, payload).prop_map(|(kind, payload)| [kind.into_bytes(), payload].concat())
}

/// Any bytes that can be a path on a line of its own.
fn path() -> impl Strategy<Value = PathBuf> {
    let byte = any::<u8>().prop_filter("framing", |byte| !matches!(byte, b'\n' | b'\0'));
    vec(byte, 1..40).prop_map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| Number::from_f64(float).map_or(Value::Null, Value::Number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn settings() -> impl Strategy<Value = Map<String, Value>> {
    vec((any::<String>(), json()), 0..6).prop_map(|fields| fields.into_iter().collect())
}

/// A call with everything that its hook requires and nothing that it does not take.
fn call() -> impl Strategy<Value = HookCall> {
    let backend = any::<String>().prop_map(|text| text.replace(['\n', '\0'], "."));
    let paths = (option::of(path()), option::of(path()), option::of(path()), path());
    (
        select(&Hook::ALL[..]),
        option::of(backend.prop_filter("means none", |backend| !backend.is_empty())),
        vec(path(), 0..4),
        paths,
        option::of(settings()),
    )
        .prop_map(|(hook, build_backend, backend_path, paths, config_settings)| {
            let (wheel, sdist, metadata, mandatory) = paths;
            let metadata = match hook.requires(Argument::MetadataDirectory) {
                true => Some(mandatory),
                false => metadata,
            };
            HookCall {
                hook,
                build_backend,
                backend_path,
                wheel_directory: wheel.filter(|_| hook.takes(Argument::WheelDirectory)),
                sdist_directory: sdist.filter(|_| hook.takes(Argument::SdistDirectory)),
                metadata_directory: metadata.filter(|_| hook.takes(Argument::MetadataDirectory)),
                config_settings,
            }
        })
}

proptest! {
    #[test]
    fn each_value_of_a_request_is_one_line(call in call()) {
        let request = call.encode().unwrap();
        let mut lines = request.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n');
        prop_assert_eq!(lines.next(), Some(&b"run"[..]));
        prop_assert_eq!(lines.next(), Some(call.build_backend.as_deref().unwrap_or_default().as_bytes()));
        for folder in &call.backend_path {
            prop_assert_eq!(lines.next(), Some(folder.as_os_str().as_bytes()));
        }
        prop_assert_eq!(lines.next(), Some(&b""[..]));
        prop_assert_eq!(lines.next(), Some(call.hook.name().as_bytes()));
        for argument in call.hook.arguments() {
            let path = match argument {
                Argument::WheelDirectory => &call.wheel_directory,
                Argument::SdistDirectory => &call.sdist_directory,
                Argument::MetadataDirectory => &call.metadata_directory,
                Argument::ConfigSettings => &None,
            };
            let line = lines.next().unwrap();
            match (argument, &call.config_settings) {
                (Argument::ConfigSettings, Some(settings)) => {
                    prop_assert_eq!(&serde_json::from_slice::<Map<String, Value>>(line).unwrap(), settings);
                }
                _ => prop_assert_eq!(line, path.as_deref().map_or(&b""[..], |path| path.as_os_str().as_bytes())),
            }
        }
        prop_assert_eq!(lines.next(), None);
    }

    #[test]
    fn a_result_is_passed_on_exactly(value in json()) {
        prop_assert_eq!(Message::parse(format!("OK {value}").as_bytes()), Ok(Message::Ok(value)));
    }

    #[test]
    fn any_bytes_can_be_parsed(line in prop_oneof![vec(any::<u8>(), 0..80), nearly_message()]) {
        if let Err(error) = Message::parse(&line) {
            prop_assert!(error.line.chars().count() <= 201);
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
