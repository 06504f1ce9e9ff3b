//! A line of the input as a request, or as what is wrong with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use hookpool_supervisor::{Hook, HookRequest, Timeout, UnknownHook};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::field::{InvalidLine, Unique, described, optional, required, shortened, typed, wrong};
use super::id::Id;
use crate::arguments::duration;

/// What a line asks for.
#[derive(Debug)]
pub enum RequestLine {
    /// A hook is to be run.
    Hook {
        id: Id,
        request: Box<HookRequest>,
        /// In place of what the tree itself requires for its build.
        requires: Option<Vec<String>>,
    },
    /// The line is a request in every respect but that there is no such hook.
    UnknownHook { id: Id, tree: String, error: UnknownHook },
    /// The requests of this id are to be cancelled.
    Cancel(Id),
}

/// The fields as they are written. `null` is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'line> {
    #[serde(borrow)]
    id: Option<&'line RawValue>,
    #[serde(borrow)]
    tree: Option<&'line RawValue>,
    #[serde(borrow)]
    hook: Option<&'line RawValue>,
    #[serde(borrow)]
    wheel_directory: Option<&'line RawValue>,
    #[serde(borrow)]
    sdist_directory: Option<&'line RawValue>,
    #[serde(borrow)]
    metadata_directory: Option<&'line RawValue>,
    #[serde(borrow)]
    config_settings: Option<&'line RawValue>,
    #[serde(borrow)]
    backend: Option<&'line RawValue>,
    #[serde(borrow)]
    backend_path: Option<&'line RawValue>,
    #[serde(borrow)]
    requires: Option<&'line RawValue>,
    #[serde(borrow)]
    python: Option<&'line RawValue>,
    #[serde(borrow)]
    priority: Option<&'line RawValue>,
    #[serde(borrow)]
    timeout: Option<&'line RawValue>,
    #[serde(borrow)]
    env: Option<&'line RawValue>,
    #[serde(borrow)]
    cancel: Option<&'line RawValue>,
}

impl RequestLine {
    /// Reads a line; `None` for a blank one.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, InvalidLine> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = std::str::from_utf8(line)
            .map_err(|error| InvalidLine(format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1)))?;
        // Derived code would take a list of the fields' values too.
        if !line.trim_start().starts_with('{') {
            return Err(InvalidLine(format!("expected a JSON object, got {}", shortened(line.trim()))));
        }
        let fields: Fields = serde_json::from_str(line).map_err(|error| InvalidLine(described(&error)))?;
        fields.resolve().map(Some)
    }
}

impl Fields<'_> {
    fn resolve(self) -> Result<RequestLine, InvalidLine> {
        if self.cancel.is_some() {
            return self.resolve_cancel();
        }
        let id = Id::parse("id", self.id)?;
        let tree: String = typed("tree", required("tree", self.tree, "a path")?, "a path")?;
        let hook = required("hook", self.hook, "the name of a hook")?;
        let hook: String = typed("hook", hook, "the name of a hook")?;
        // Everything else is looked at first: only a line that is well-formed
        // is answered under its id.
        let rest = self.rest()?;
        match hook.parse::<Hook>() {
            Ok(hook) => {
                self.check_arguments(hook)?;
                let requires = optional("requires", self.requires, "a list of strings")?;
                Ok(RequestLine::Hook { id, request: Box::new(rest.request(tree, hook)), requires })
            }
            Err(error) => Ok(RequestLine::UnknownHook { id, tree, error }),
        }
    }

    fn resolve_cancel(self) -> Result<RequestLine, InvalidLine> {
        let id = Id::parse("cancel", self.cancel)?;
        let Self { id: own_id, tree, hook, wheel_directory, sdist_directory, metadata_directory, .. } = self;
        let Self { config_settings, backend, backend_path, requires, python, priority, timeout, env, .. } = self;
        let directories = [wheel_directory, sdist_directory, metadata_directory];
        let others = [own_id, tree, hook, config_settings, backend, backend_path, requires, python];
        let is_alone = directories.iter().chain(&others).chain(&[priority, timeout, env]).all(Option::is_none);
        if !is_alone {
            return Err(InvalidLine("cancel: expected no other field beside it".into()));
        }
        Ok(RequestLine::Cancel(id))
    }

    fn rest(&self) -> Result<Rest, InvalidLine> {
        if let Some(requires) = self.requires {
            typed::<Vec<String>>("requires", requires, "a list of strings")?;
        }
        Ok(Rest {
            backend: self.backend()?,
            backend_path: self.backend_path()?,
            wheel_directory: optional("wheel_directory", self.wheel_directory, "a path")?,
            sdist_directory: optional("sdist_directory", self.sdist_directory, "a path")?,
            metadata_directory: optional("metadata_directory", self.metadata_directory, "a path")?,
            config_settings: optional::<Unique<Value>>("config_settings", self.config_settings, "an object")?
                .map(|settings| settings.0.into_iter().collect()),
            python: optional("python", self.python, "a path")?,
            env: environment(self.env)?,
            priority: optional("priority", self.priority, "a whole number of 32 bits")?.unwrap_or(0),
            timeout: timeout(self.timeout)?,
        })
    }

    fn backend(&self) -> Result<Option<String>, InvalidLine> {
        let expected = "a string, `module` or `module:object`";
        let backend: Option<String> = optional("backend", self.backend, expected)?;
        match (self.backend, &backend) {
            (Some(written), Some(name)) if name.is_empty() => Err(wrong("backend", written.get(), expected)),
            _ => Ok(backend),
        }
    }

    fn backend_path(&self) -> Result<Option<Vec<PathBuf>>, InvalidLine> {
        let expected = "a list of paths, none of them empty";
        let folders: Option<Vec<PathBuf>> = optional("backend_path", self.backend_path, expected)?;
        let is_empty = |folder: &PathBuf| folder.as_os_str().is_empty();
        match (self.backend_path, &folders) {
            (Some(written), Some(paths)) if paths.iter().any(is_empty) => {
                Err(wrong("backend_path", written.get(), expected))
            }
            _ => Ok(folders),
        }
    }

    /// PEP 517 names the arguments; another hook's would be lost in silence.
    fn check_arguments(&self, hook: Hook) -> Result<(), InvalidLine> {
        let given = [
            ("wheel_directory", self.wheel_directory),
            ("sdist_directory", self.sdist_directory),
            ("metadata_directory", self.metadata_directory),
        ];
        for (name, value) in given {
            if value.is_some() && !hook.arguments().iter().any(|argument| argument.name() == name) {
                return Err(InvalidLine(format!("{name}: {hook} does not take it, expected it to be absent")));
            }
        }
        Ok(())
    }
}

/// The fields that are not required.
struct Rest {
    backend: Option<String>,
    backend_path: Option<Vec<PathBuf>>,
    wheel_directory: Option<PathBuf>,
    sdist_directory: Option<PathBuf>,
    metadata_directory: Option<PathBuf>,
    config_settings: Option<Map<String, Value>>,
    python: Option<PathBuf>,
    env: BTreeMap<OsString, OsString>,
    priority: i32,
    timeout: Option<Timeout>,
}

impl Rest {
    fn request(self, tree: String, hook: Hook) -> HookRequest {
        let mut request = HookRequest::new(tree, hook);
        request.backend = self.backend;
        request.backend_path = self.backend_path;
        request.wheel_directory = self.wheel_directory;
        request.sdist_directory = self.sdist_directory;
        request.metadata_directory = self.metadata_directory;
        request.config_settings = self.config_settings;
        request.python = self.python;
        request.env = self.env;
        request.priority = self.priority;
        request.timeout = self.timeout;
        request
    }
}

fn timeout(value: Option<&RawValue>) -> Result<Option<Timeout>, InvalidLine> {
    let Some(value) = value else { return Ok(None) };
    let text: String = typed("timeout", value, "a duration such as \"10s\"")?;
    duration(&text)
        .map(Some)
        .map_err(|expected| InvalidLine(format!("timeout: {}: {expected}", shortened(value.get()))))
}

/// The variables, as the system can carry them (environ(7)).
fn environment(value: Option<&RawValue>) -> Result<BTreeMap<OsString, OsString>, InvalidLine> {
    let variables =
        optional::<Unique<String>>("env", value, "an object of strings")?.map_or_else(Vec::new, |map| map.0);
    let check = |(name, value): (String, String)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(InvalidLine(format!("env: {name:?} is no name of a variable, expected one without = and NUL")));
        }
        if value.contains('\0') {
            return Err(InvalidLine(format!("env: {name}: the value {value:?} has a NUL in it, expected none")));
        }
        Ok((name.into(), value.into()))
    };
    variables.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests;
