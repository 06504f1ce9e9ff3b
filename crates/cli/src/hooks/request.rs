//! From a request as it was written to one for the supervisor.

use std::path::PathBuf;
use std::sync::Arc;

use hookpool_supervisor::{CallerProcess, Hook, HookRequest, UnknownHook};
use hookpool_wire::InvalidRequest;

use crate::arguments::duration;

/// A valid request, except that no hook may have its name.
pub type Resolved = Result<HookRequest, UnknownHook>;

/// The request for the supervisor, without its build environment.
///
/// # Errors
/// A field has a value that its hook does not take.
pub fn resolve(wire: &hookpool_wire::HookRequest) -> Result<Resolved, InvalidRequest> {
    // A hook stands in for an unknown one: only a well-formed line is answered with
    // its id.
    let hook = wire.hook.parse::<Hook>();
    let path = |path: &String| PathBuf::from(path);
    let mut request = HookRequest::new(&wire.tree, hook.as_ref().map_or(Hook::BuildWheel, |hook| *hook));
    request.backend.clone_from(&wire.backend);
    request.backend_path = wire.backend_path.as_ref().map(|folders| folders.iter().map(path).collect());
    request.wheel_directory = wire.wheel_directory.as_ref().map(path);
    request.sdist_directory = wire.sdist_directory.as_ref().map(path);
    request.metadata_directory = wire.metadata_directory.as_ref().map(path);
    request.config_settings.clone_from(&wire.config_settings);
    request.python = wire.python.as_ref().map(path);
    request.env = wire.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    request.priority = wire.priority;
    request.caller = wire.caller.as_ref().map(caller).transpose()?;
    if let Some(timeout) = &wire.timeout {
        let limit = duration(timeout);
        request.timeout = Some(limit.map_err(|expected| InvalidRequest(format!("timeout: {timeout:?}: {expected}")))?);
    }
    Ok(match hook {
        Ok(hook) => {
            check_arguments(wire, hook)?;
            Ok(request)
        }
        Err(unknown) => Err(unknown),
    })
}

/// The process that hooks inherit from.
///
/// # Errors
/// A variable, the umask or a limit is none that a process can have.
pub fn caller(wire: &hookpool_wire::Caller) -> Result<Arc<CallerProcess>, InvalidRequest> {
    let json = serde_json::to_value(wire).expect("it can be written as JSON");
    let caller = serde_json::from_value(json);
    caller.map(Arc::new).map_err(|error| InvalidRequest(format!("caller: {error}")))
}

/// Whoever sends a request from another process may have another working directory.
///
/// # Errors
/// A path of the request is relative.
pub fn check_absolute(wire: &hookpool_wire::HookRequest) -> Result<(), InvalidRequest> {
    let has_folder = |python: &&String| python.contains('/');
    let given = [
        ("tree", Some(&wire.tree)),
        ("wheel_directory", wire.wheel_directory.as_ref()),
        ("sdist_directory", wire.sdist_directory.as_ref()),
        ("metadata_directory", wire.metadata_directory.as_ref()),
        ("python", wire.python.as_ref().filter(has_folder)),
    ];
    for (name, value) in given {
        if let Some(path) = value.filter(|path| !path.starts_with('/')) {
            return Err(InvalidRequest(format!("{name}: expected an absolute path, got {path:?}")));
        }
    }
    Ok(())
}

/// PEP 517 names the arguments. Without this check an argument of another hook would
/// be silently ignored.
fn check_arguments(wire: &hookpool_wire::HookRequest, hook: Hook) -> Result<(), InvalidRequest> {
    let given = [
        ("wheel_directory", &wire.wheel_directory),
        ("sdist_directory", &wire.sdist_directory),
        ("metadata_directory", &wire.metadata_directory),
    ];
    for (name, value) in given {
        if value.is_some() && !hook.arguments().iter().any(|argument| argument.name() == name) {
            return Err(InvalidRequest(format!("{name}: {hook} does not take it, expected it to be absent")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_supervisor::Timeout;
    use hookpool_wire::RequestLine;
    use std::time::Duration;

    fn resolved(fields: &str) -> Result<Resolved, InvalidRequest> {
        match RequestLine::parse(format!(r#"{{"id": 1, "tree": "t", {fields}}}"#).as_bytes()) {
            Ok(Some(RequestLine::Hook(request))) => resolve(&request),
            other => panic!("{fields}: {other:?}"),
        }
    }

    #[test]
    fn every_field_arrives() {
        let request = resolved(
            r#""hook": "build_wheel", "wheel_directory": "out", "metadata_directory": "m", "config_settings": {"a": 1},
               "backend": "b:o", "backend_path": [".", "x"], "python": "py", "priority": -3, "timeout": "250ms",
               "env": {"A": "1", "B": ""}"#,
        );
        let request = request.unwrap().unwrap();
        assert_eq!((request.tree, request.hook), (PathBuf::from("t"), Hook::BuildWheel));
        assert_eq!((request.wheel_directory, request.sdist_directory), (Some("out".into()), None));
        assert_eq!(request.metadata_directory, Some("m".into()));
        assert_eq!(request.config_settings.unwrap()["a"], 1);
        assert_eq!((request.backend, request.backend_path), (Some("b:o".into()), Some(vec![".".into(), "x".into()])));
        assert_eq!((request.python, request.priority), (Some("py".into()), -3));
        assert_eq!(request.timeout.map(Timeout::get), Some(Duration::from_millis(250)));
        assert_eq!(request.env, [("A", "1"), ("B", "")].map(|(name, value)| (name.into(), value.into())).into());
    }

    #[test]
    fn what_the_hook_does_not_take_is_refused() {
        let table = [
            (r#""hook": "build_wheel", "sdist_directory": "x""#, "sdist_directory: build_wheel does not take it"),
            (
                r#""hook": "build_wheel", "timeout": "10""#,
                "timeout: \"10\": expected a duration such as 250ms, 10s or 1h30m (time unit needed",
            ),
            (r#""hook": "h", "timeout": "0""#, "timeout: \"0\": expected a duration above zero"),
        ];
        for (fields, expected) in table {
            let message = resolved(fields).unwrap_err().to_string();
            assert!(message.contains(expected), "{fields}\n{message}");
        }
    }

    #[test]
    fn an_unknown_hook_is_told_from_an_invalid_request() {
        let unknown = resolved(r#""hook": "build-wheel""#).unwrap().unwrap_err();
        assert!(unknown.to_string().contains("\"build-wheel\", expected one of build_wheel"));
    }
}
