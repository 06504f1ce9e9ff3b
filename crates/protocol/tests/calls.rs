//! Requests: their lines, and the values that are refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use hookd_protocol::{Action, Argument, Hook, HookCall};
use serde_json::json;

/// A call with all arguments of the hook.
fn full(hook: Hook) -> HookCall {
    let path = |argument, path: &str| hook.takes(argument).then(|| PathBuf::from(path));
    HookCall {
        hook,
        build_backend: Some("a.b:c.d".into()),
        backend_path: vec!["x".into(), "y z".into()],
        wheel_directory: path(Argument::WheelDirectory, "/wheel"),
        sdist_directory: path(Argument::SdistDirectory, "/sdist"),
        metadata_directory: path(Argument::MetadataDirectory, "/metadata"),
        config_settings: json!({"b": ["1\n", "2"], "a": ""}).as_object().cloned(),
    }
}

fn encode(call: &HookCall) -> String {
    String::from_utf8(call.encode().unwrap()).unwrap()
}

#[test]
fn lines_of_every_hook() {
    let settings = r#"{"b":["1\n","2"],"a":""}"#;
    let table = [
        (Hook::BuildWheel, "build_wheel", format!("/wheel\n{settings}\n/metadata")),
        (Hook::BuildEditable, "build_editable", format!("/wheel\n{settings}\n/metadata")),
        (Hook::BuildSdist, "build_sdist", format!("/sdist\n{settings}")),
        (Hook::PrepareMetadataForBuildWheel, "prepare_metadata_for_build_wheel", format!("/metadata\n{settings}")),
        (
            Hook::PrepareMetadataForBuildEditable,
            "prepare_metadata_for_build_editable",
            format!("/metadata\n{settings}"),
        ),
        (Hook::GetRequiresForBuildWheel, "get_requires_for_build_wheel", settings.into()),
        (Hook::GetRequiresForBuildSdist, "get_requires_for_build_sdist", settings.into()),
        (Hook::GetRequiresForBuildEditable, "get_requires_for_build_editable", settings.into()),
    ];
    for (hook, name, arguments) in table {
        assert_eq!(encode(&full(hook)), format!("run\na.b:c.d\nx\ny z\n\n{name}\n{arguments}\n"));
    }
}

#[test]
fn absent_values_are_empty_lines() {
    assert_eq!(encode(&HookCall::new(Hook::BuildWheel)), "run\n\n\nbuild_wheel\n\n\n\n");
    assert_eq!(encode(&HookCall::new(Hook::BuildSdist)), "run\n\n\nbuild_sdist\n\n\n");
    let empty =
        HookCall { config_settings: Some(json!({}).as_object().cloned().unwrap()), ..HookCall::new(Hook::BuildSdist) };
    assert_eq!(encode(&empty), "run\n\n\nbuild_sdist\n\n{}\n");
}

#[test]
fn paths_are_bytes() {
    let mut call = HookCall::new(Hook::BuildSdist);
    call.sdist_directory = Some(OsStr::from_bytes(b"/\xff\r ").into());
    assert_eq!(call.encode().unwrap(), b"run\n\n\nbuild_sdist\n/\xff\r \n\n");
}

/// Sets one value of a call.
type Set = fn(&mut HookCall, String);

#[test]
fn values_that_break_the_framing_are_refused() {
    let breaking: [(&str, Set); 4] = [
        ("build_backend", |call, value| call.build_backend = Some(value)),
        ("backend_path", |call, value| call.backend_path = vec!["ok".into(), value.into()]),
        ("wheel_directory", |call, value| call.wheel_directory = Some(value.into())),
        ("metadata_directory", |call, value| call.metadata_directory = Some(value.into())),
    ];
    for (name, set) in breaking {
        for value in ["", "\n", "a\nb", "a\0", "a\n"] {
            let mut call = HookCall::new(Hook::BuildWheel);
            set(&mut call, value.into());
            let error = call.encode().unwrap_err();
            assert_eq!((error.argument, error.value.as_str()), (name, value));
        }
    }
}

#[test]
fn arguments_of_other_hooks_are_refused() {
    let table = [
        (Hook::BuildSdist, Argument::WheelDirectory),
        (Hook::BuildSdist, Argument::MetadataDirectory),
        (Hook::BuildWheel, Argument::SdistDirectory),
        (Hook::GetRequiresForBuildWheel, Argument::MetadataDirectory),
    ];
    for (hook, argument) in table {
        let mut call = HookCall::new(hook);
        match argument {
            Argument::WheelDirectory => call.wheel_directory = Some("/x".into()),
            Argument::SdistDirectory => call.sdist_directory = Some("/x".into()),
            _ => call.metadata_directory = Some("/x".into()),
        }
        assert_eq!(call.encode().unwrap_err().argument, argument.name(), "{hook}");
    }
}

#[test]
fn the_prepare_hooks_need_a_metadata_directory() {
    for hook in Hook::ALL {
        let needs = hook.requires(Argument::MetadataDirectory);
        assert_eq!(needs, hook.name().starts_with("prepare_"));
        assert_eq!(HookCall::new(hook).encode().is_err(), needs, "{hook}");
    }
    let error = HookCall::new(Hook::PrepareMetadataForBuildWheel).encode().unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata_directory is missing or empty: expected a path, which this hook cannot do without"
    );
}

#[test]
fn actions() {
    let table = [
        ("run", Action::Run),
        ("shutdown", Action::Shutdown),
        ("ping 1 2", Action::Ping("1 2".into())),
        ("tree /a b", Action::Tree("/a b".into())),
        ("cancel SIGTERM", Action::Cancel("SIGTERM".into())),
    ];
    for (line, action) in table {
        assert_eq!(action.encode(), format!("{line}\n").into_bytes());
    }
    assert_eq!(Action::Ping("a\nrun".into()).encode(), b"ping a\\nrun\n");
}

/// `FromStr`, `Display` and serde know the same names, and errors list them.
#[test]
fn names() {
    for hook in Hook::ALL {
        assert_eq!(hook.to_string().parse(), Ok(hook));
        assert_eq!(serde_json::to_value(hook).unwrap(), json!(hook.name()));
        assert_eq!(serde_json::from_value::<Hook>(json!(hook.name())).unwrap(), hook);
        assert!("x".parse::<Hook>().unwrap_err().to_string().contains(hook.name()));
    }
}
