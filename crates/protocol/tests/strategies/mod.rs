//! Arbitrary calls and messages, within what the protocol can carry.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use hookd_protocol::{Argument, Expectation, Failure, Hook, HookCall, HookErrorKind, ImportedModule, Message};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Number, Value};

/// Any bytes that can be a path on a line of its own.
pub fn path() -> impl Strategy<Value = PathBuf> {
    let byte = any::<u8>().prop_filter("framing", |byte| !matches!(byte, b'\n' | b'\0'));
    vec(byte, 1..40).prop_map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

/// Text that can be a plain value: no newline.
pub fn plain() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\n', " "))
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

/// A call with all that its hook requires and nothing that it does not take.
pub fn call() -> impl Strategy<Value = HookCall> {
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

fn failure<K: std::fmt::Debug>(kind: impl Strategy<Value = K>) -> impl Strategy<Value = Failure<K>> {
    let how = (option::of(any::<String>()), option::of(any::<i32>()));
    (kind, any::<String>(), option::of(any::<String>()), any::<bool>(), how).prop_map(
        |(kind, message, exception, unsupported_operation, (signal, exit_code))| Failure {
            kind,
            message,
            exception,
            unsupported_operation,
            signal,
            exit_code,
        },
    )
}

fn imported() -> impl Strategy<Value = ImportedModule> {
    (any::<String>(), option::of(any::<String>()), any::<Option<i64>>(), any::<Option<u64>>())
        .prop_map(|(name, file, mtime_ns, size)| ImportedModule { name, file, mtime_ns, size })
}

/// A message of any kind.
pub fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        Just(Message::Ready),
        Just(Message::Shutdown),
        Just(Message::Silent),
        (1..=i32::MAX.unsigned_abs()).prop_map(Message::Keeping),
        select(&Expectation::ALL[..]).prop_map(Message::Expect),
        plain().prop_map(Message::Debug),
        path().prop_map(Message::Stdout),
        path().prop_map(Message::Stderr),
        (1..=i32::MAX as u32).prop_map(Message::HookStarted),
        json().prop_map(Message::Ok),
        failure(select(&HookErrorKind::ALL[..])).prop_map(Message::Error),
        failure("[A-Za-z_.é]{1,20}".prop_map(String::from)).prop_map(Message::Fatal),
        any::<String>().prop_map(Message::Traceback),
        vec(imported(), 0..5).prop_map(Message::Imported),
        plain().prop_map(|text| Message::Pong(format!("{text}1"))),
        ("X[A-Z_]{0,9}", plain()).prop_map(|(kind, rest)| Message::Unknown { kind, rest }),
    ]
}
