//! Requests for hooks, one JSON object each.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::caller::Caller;
use crate::fields::{InvalidRequest, Unique, described, optional, required, shortened, typed, unexpected};

/// What a line asks for.
#[derive(Clone, Debug)]
pub enum RequestLine {
    /// Run a hook.
    Hook(Box<HookRequest>),
    /// Cancel the unanswered requests with this id.
    Cancel(Id),
    /// What the hooks of the following requests inherit, unless they name another one.
    Caller(Box<Caller>),
}

/// One hook to run in one source tree (PEP 517, PEP 660).
///
/// Paths are relative to the working directory of the program that reads the request;
/// over HTTP they have to be absolute.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct HookRequest {
    /// Returned in the response exactly as it was written; need not be unique.
    pub id: Id,
    /// The folder of the source tree.
    pub tree: String,
    /// The name of the hook, `build_wheel` for example.
    pub hook: String,
    /// The argument of the hook with this name; by default the tree itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wheel_directory: Option<String>,
    /// The argument of the hook with this name; by default the tree itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdist_directory: Option<String>,
    /// The argument of the hook with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_directory: Option<String>,
    /// Any JSON values; PEP 517 uses strings, and lists of strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub config_settings: Option<Map<String, Value>>,
    /// In place of `build-system.build-backend`: `module` or `module:object`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// In place of `build-system.backend-path`: folders relative to the tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_path: Option<Vec<String>>,
    /// In place of `build-system.requires`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
    /// The interpreter: a path, or a name on `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// How long the hook may run, `10s` for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Environment variables to add.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the hook inherits, in place of what the program that runs it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

impl HookRequest {
    /// A request with nothing but the fields that are required.
    #[must_use]
    pub fn new(id: Id, tree: impl Into<String>, hook: impl Into<String>) -> Self {
        Self {
            id,
            tree: tree.into(),
            hook: hook.into(),
            wheel_directory: None,
            sdist_directory: None,
            metadata_directory: None,
            config_settings: None,
            backend: None,
            backend_path: None,
            requires: None,
            python: None,
            priority: 0,
            timeout: None,
            env: BTreeMap::new(),
            caller: None,
        }
    }
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
    /// What an id has to be.
    const EXPECTED: &str = "a string or a number";

    /// The JSON text of the id.
    #[must_use]
    pub fn as_json(&self) -> &RawValue {
        &self.json
    }

    /// Reads an id from the value of `field`.
    fn parse(field: &'static str, value: Option<&RawValue>) -> Result<Self, InvalidRequest> {
        let value = required(field, value, Self::EXPECTED)?;
        Self::of(value.to_owned()).ok_or_else(|| unexpected(field, value.get(), Self::EXPECTED))
    }

    fn of(json: Box<RawValue>) -> Option<Self> {
        let key = match json.get().as_bytes().first() {
            Some(b'"') => IdKey::String(serde_json::from_str(json.get()).ok()?),
            Some(b'-' | b'0'..=b'9') => IdKey::Number(json.get().to_owned()),
            _ => return None,
        };
        Some(Self { json, key })
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        let json = RawValue::from_string(number.to_string()).expect("a number is JSON");
        Self { json, key: IdKey::Number(number.to_string()) }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        let json = serde_json::value::to_raw_value(text).expect("a string can be written as JSON");
        Self { json, key: IdKey::String(text.to_owned()) }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Id {}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        let of_type = |kind: Type| ObjectBuilder::new().schema_type(kind).build();
        let either = OneOfBuilder::new().item(of_type(Type::String)).item(of_type(Type::Number));
        either.description(Some("Chosen by the caller.")).into()
    }
}

impl ToSchema for Id {}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Self::of(json).ok_or_else(|| D::Error::custom(format!("expected {}", Self::EXPECTED)))
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
    caller: Option<&'line RawValue>,
    #[serde(borrow)]
    cancel: Option<&'line RawValue>,
}

impl RequestLine {
    /// Parses a line; `None` for a blank one.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, InvalidRequest> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = std::str::from_utf8(line).map_err(|error| {
            InvalidRequest(format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1))
        })?;
        // The derived code would also accept an array of the values.
        if !line.trim_start().starts_with('{') {
            return Err(InvalidRequest(format!("expected a JSON object, got {}", shortened(line.trim()))));
        }
        let fields: Fields = serde_json::from_str(line).map_err(|error| InvalidRequest(described(&error)))?;
        fields.resolve().map(Some)
    }
}

impl Fields<'_> {
    fn resolve(self) -> Result<RequestLine, InvalidRequest> {
        if self.cancel.is_some() {
            return self.resolve_cancel();
        }
        if self.caller.is_some() && self.others_than_caller().all(|field| field.is_none()) {
            return Ok(RequestLine::Caller(Box::new(caller(self.caller)?.unwrap_or_default())));
        }
        Ok(RequestLine::Hook(Box::new(HookRequest {
            id: Id::parse("id", self.id)?,
            tree: typed("tree", required("tree", self.tree, "a path")?, "a path")?,
            hook: typed("hook", required("hook", self.hook, "the name of a hook")?, "the name of a hook")?,
            backend: self.backend()?,
            backend_path: self.backend_path()?,
            requires: optional("requires", self.requires, "a list of strings")?,
            wheel_directory: optional("wheel_directory", self.wheel_directory, "a path")?,
            sdist_directory: optional("sdist_directory", self.sdist_directory, "a path")?,
            metadata_directory: optional("metadata_directory", self.metadata_directory, "a path")?,
            config_settings: optional::<Unique<Value>>("config_settings", self.config_settings, "an object")?
                .map(|settings| settings.0.into_iter().collect()),
            python: optional("python", self.python, "a path")?,
            env: environment(self.env)?,
            priority: optional("priority", self.priority, "a whole number of 32 bits")?.unwrap_or(0),
            timeout: optional("timeout", self.timeout, "a duration such as \"10s\"")?,
            caller: caller(self.caller)?,
        })))
    }

    fn resolve_cancel(self) -> Result<RequestLine, InvalidRequest> {
        let id = Id::parse("cancel", self.cancel)?;
        let is_alone = self.caller.is_none() && self.others_than_caller().all(|field| field.is_none());
        if !is_alone {
            return Err(InvalidRequest("cancel: expected no other field".into()));
        }
        Ok(RequestLine::Cancel(id))
    }

    /// All fields but `caller` and `cancel`.
    fn others_than_caller(&self) -> impl Iterator<Item = Option<&RawValue>> {
        let directories = [self.wheel_directory, self.sdist_directory, self.metadata_directory];
        let of_tree = [self.tree, self.backend, self.backend_path, self.requires, self.python];
        let others = [self.id, self.hook, self.config_settings, self.priority, self.timeout, self.env];
        directories.into_iter().chain(of_tree).chain(others)
    }

    fn backend(&self) -> Result<Option<String>, InvalidRequest> {
        let expected = "a string, `module` or `module:object`";
        let backend: Option<String> = optional("backend", self.backend, expected)?;
        match (self.backend, &backend) {
            (Some(written), Some(name)) if name.is_empty() => Err(unexpected("backend", written.get(), expected)),
            _ => Ok(backend),
        }
    }

    fn backend_path(&self) -> Result<Option<Vec<String>>, InvalidRequest> {
        let expected = "a list of paths, none of them empty";
        let folders: Option<Vec<String>> = optional("backend_path", self.backend_path, expected)?;
        match (self.backend_path, &folders) {
            (Some(written), Some(paths)) if paths.iter().any(String::is_empty) => {
                Err(unexpected("backend_path", written.get(), expected))
            }
            _ => Ok(folders),
        }
    }
}

fn caller(value: Option<&RawValue>) -> Result<Option<Caller>, InvalidRequest> {
    optional("caller", value, "an object with variables, umask and limits")
}

/// Variables that the system accepts (environ(7)).
fn environment(value: Option<&RawValue>) -> Result<BTreeMap<String, String>, InvalidRequest> {
    let variables =
        optional::<Unique<String>>("env", value, "an object of strings")?.map_or_else(Vec::new, |map| map.0);
    let check = |(name, value): (String, String)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(InvalidRequest(format!(
                "env: {name:?} is not the name of a variable, expected one without = and NUL"
            )));
        }
        if value.contains('\0') {
            return Err(InvalidRequest(format!("env: {name}: the value {value:?} contains a NUL, expected none")));
        }
        Ok((name, value))
    };
    variables.into_iter().map(check).collect()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
