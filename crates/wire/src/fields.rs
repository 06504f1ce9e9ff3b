//! Reads the value of one field of a request. Errors name the field, the value and
//! what was expected.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Why something is not a valid request: names the field, the value and what was
/// expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRequest(pub String);

/// A field that must be present.
pub fn required<'line>(
    field: &'static str,
    value: Option<&'line RawValue>,
    expected: &'static str,
) -> Result<&'line RawValue, InvalidRequest> {
    value.ok_or_else(|| InvalidRequest(format!("{field}: missing, expected {expected}")))
}

/// A field that may be absent.
pub fn optional<T: DeserializeOwned>(
    field: &'static str,
    value: Option<&RawValue>,
    expected: &'static str,
) -> Result<Option<T>, InvalidRequest> {
    value.map(|value| typed(field, value, expected)).transpose()
}

/// A value of type `T`.
pub fn typed<T: DeserializeOwned>(field: &'static str, value: &RawValue, expected: &str) -> Result<T, InvalidRequest> {
    serde_json::from_str(value.get()).map_err(|error| {
        let mut unexpected = unexpected(field, value.get(), expected);
        // An error about the type would only repeat the message.
        if !error.is_data() || error.to_string().starts_with(Unique::<Value>::TWICE) {
            unexpected.0 = format!("{} ({})", unexpected.0, described(&error));
        }
        unexpected
    })
}

/// An object whose names are unique. [`serde_json::Map`] would silently keep the last
/// value of a repeated name.
pub struct Unique<V>(pub Vec<(String, V)>);

impl<V> Unique<V> {
    const TWICE: &'static str = "twice the name";
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{} {name:?}", Unique::<V>::TWICE)));
                    }
                    entries.push((name, value));
                }
                Ok(Unique(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// The error for a value that is not what was expected.
pub fn unexpected(field: &str, value: &str, expected: &str) -> InvalidRequest {
    InvalidRequest(format!("{field}: expected {expected}, got {}", shortened(value)))
}

/// The parser's message without the line, which is always 1.
pub fn described(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// The start of a value, short enough for a message.
pub fn shortened(value: &str) -> String {
    const LONGEST: usize = 100;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}
