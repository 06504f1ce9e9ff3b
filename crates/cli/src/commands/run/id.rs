//! The ids that callers give to their requests.

use serde_json::value::RawValue;

use super::field::{InvalidLine, required, typed, wrong};

/// The caller's name of a request, kept as it was written: numbers need not fit
/// into any type of ours.
#[derive(Clone, Debug)]
pub struct Id {
    written: Box<RawValue>,
    key: IdKey,
}

/// What makes two ids the same: equal strings, or numbers that are written
/// the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IdKey {
    String(String),
    Number(String),
}

impl Id {
    /// The id's JSON, as the request had it.
    pub fn written(&self) -> &RawValue {
        &self.written
    }

    /// Reads an id from the field of this name.
    pub fn parse(field: &'static str, value: Option<&RawValue>) -> Result<Self, InvalidLine> {
        let expected = "a string or a number";
        let value = required(field, value, expected)?;
        let key = match value.get().as_bytes().first() {
            Some(b'"') => IdKey::String(typed(field, value, expected)?),
            Some(b'-' | b'0'..=b'9') => IdKey::Number(value.get().to_owned()),
            _ => return Err(wrong(field, value.get(), expected)),
        };
        Ok(Self { written: value.to_owned(), key })
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
