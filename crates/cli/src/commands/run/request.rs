//! Parses a line of the input: a request, its cancellation, or an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use hookpool_supervisor::{Hook, HookRequest, Timeout, UnknownHook};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{InvalidLine, Unique, described, optional, required, shortened, typed, unexpected};
use crate::arguments::duration;

/// What a line asks for.
#[derive(Debug)]
pub enum RequestLine {
    /// Run a hook.
    Hook {
        id: Id,
        request: Box<HookRequest>,
        /// Replaces the build requirements of the tree.
        requires: Option<Vec<String>>,
    },
    /// A valid request, except that no hook has this name.
    UnknownHook { id: Id, tree: String, error: UnknownHook },
    /// Cancel the requests with this id.
    Cancel(Id),
}

/// The id that the caller gave to a request. It keeps the JSON text, since a number
/// may be too large or too precise for any Rust type.
#[derive(Clone, Debug)]
pub struct Id {
    json: Box<RawValue>,
    key: IdKey,
}

/// Two ids are the same if they are equal strings, or numbers with the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IdKey {
    String(String),
    Number(String),
}

impl Id {
    /// The JSON text of the id.
    pub fn as_json(&self) -> &RawValue {
        &self.json
    }

    /// Reads an id from the value of `field`.
    fn parse(field: &'static str, value: Option<&RawValue>) -> Result<Self, InvalidLine> {
        let expected = "a string or a number";
        let value = required(field, value, expected)?;
        let key = match value.get().as_bytes().first() {
            Some(b'"') => IdKey::String(typed(field, value, expected)?),
            Some(b'-' | b'0'..=b'9') => IdKey::Number(value.get().to_owned()),
            _ => return Err(unexpected(field, value.get(), expected)),
        };
        Ok(Self { json: value.to_owned(), key })
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The fields of a line, not parsed yet. `null` is the same as absent.
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
    /// Parses a line; `None` for a blank one.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, InvalidLine> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = std::str::from_utf8(line)
            .map_err(|error| InvalidLine(format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1)))?;
        // The derived code would also accept an array of the values.
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
        // The other fields come first: only a well-formed line is answered with its id.
        let mut request = self.request(&tree)?;
        match hook.parse::<Hook>() {
            Ok(hook) => {
                self.check_arguments(hook)?;
                request.hook = hook;
                let requires = optional("requires", self.requires, "a list of strings")?;
                Ok(RequestLine::Hook { id, request: Box::new(request), requires })
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
            return Err(InvalidLine("cancel: expected no other field".into()));
        }
        Ok(RequestLine::Cancel(id))
    }

    /// The request without its hook, which may be unknown: another one stands in.
    fn request(&self, tree: &str) -> Result<HookRequest, InvalidLine> {
        if let Some(requires) = self.requires {
            typed::<Vec<String>>("requires", requires, "a list of strings")?;
        }
        let mut request = HookRequest::new(tree, Hook::BuildWheel);
        request.backend = self.backend()?;
        request.backend_path = self.backend_path()?;
        request.wheel_directory = optional("wheel_directory", self.wheel_directory, "a path")?;
        request.sdist_directory = optional("sdist_directory", self.sdist_directory, "a path")?;
        request.metadata_directory = optional("metadata_directory", self.metadata_directory, "a path")?;
        request.config_settings = optional::<Unique<Value>>("config_settings", self.config_settings, "an object")?
            .map(|settings| settings.0.into_iter().collect());
        request.python = optional("python", self.python, "a path")?;
        request.env = environment(self.env)?;
        request.priority = optional("priority", self.priority, "a whole number of 32 bits")?.unwrap_or(0);
        request.timeout = timeout(self.timeout)?;
        Ok(request)
    }

    fn backend(&self) -> Result<Option<String>, InvalidLine> {
        let expected = "a string, `module` or `module:object`";
        let backend: Option<String> = optional("backend", self.backend, expected)?;
        match (self.backend, &backend) {
            (Some(written), Some(name)) if name.is_empty() => Err(unexpected("backend", written.get(), expected)),
            _ => Ok(backend),
        }
    }

    fn backend_path(&self) -> Result<Option<Vec<PathBuf>>, InvalidLine> {
        let expected = "a list of paths, none of them empty";
        let folders: Option<Vec<PathBuf>> = optional("backend_path", self.backend_path, expected)?;
        let is_empty = |folder: &PathBuf| folder.as_os_str().is_empty();
        match (self.backend_path, &folders) {
            (Some(written), Some(paths)) if paths.iter().any(is_empty) => {
                Err(unexpected("backend_path", written.get(), expected))
            }
            _ => Ok(folders),
        }
    }

    /// PEP 517 names the arguments. Without this check an argument of another hook
    /// would be silently ignored.
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

fn timeout(value: Option<&RawValue>) -> Result<Option<Timeout>, InvalidLine> {
    let Some(value) = value else { return Ok(None) };
    let text: String = typed("timeout", value, "a duration such as \"10s\"")?;
    duration(&text)
        .map(Some)
        .map_err(|expected| InvalidLine(format!("timeout: {}: {expected}", shortened(value.get()))))
}

/// Variables that the system accepts (environ(7)).
fn environment(value: Option<&RawValue>) -> Result<BTreeMap<OsString, OsString>, InvalidLine> {
    let variables =
        optional::<Unique<String>>("env", value, "an object of strings")?.map_or_else(Vec::new, |map| map.0);
    let check = |(name, value): (String, String)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(InvalidLine(format!(
                "env: {name:?} is not the name of a variable, expected one without = and NUL"
            )));
        }
        if value.contains('\0') {
            return Err(InvalidLine(format!("env: {name}: the value {value:?} contains a NUL, expected none")));
        }
        Ok((name.into(), value.into()))
    };
    variables.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests;
