//! Parsing the files that declare extensions.
//!
//! In the drafts, the object `extensions` has an object for each extension. Before the
//! summer of 2014 these were at the top level, among the fields of core metadata: there an
//! object is an extension if it has a flag, or a name with a dot.
//!
//! The visitors here, and not `serde_json::Value`, because a name may be repeated: no
//! occurrence may hide that another requires the extension.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The flag of March 2014, and its name since July.
const FLAGS: [&str; 2] = ["required_extension", "installer_must_handle"];

/// The object of the drafts.
const TABLE: &str = "extensions";

/// A file that declares extensions is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedExtensions(String);

/// Returns the names, and whether each extension is required.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(String, bool)>, MalformedExtensions> {
    let malformed = |error: serde_json::Error| MalformedExtensions(error.to_string());
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut declared = Vec::new();
    let extensions = Extensions { declared: &mut declared, at_top: true };
    extensions.deserialize(&mut json).map_err(malformed)?;
    json.end().map_err(malformed)?;
    Ok(declared)
}

type Declared = Vec<(String, bool)>;

/// If a name is repeated, the extension is required if any occurrence requires it.
fn declare(declared: &mut Declared, name: String, required: bool) {
    match declared.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known |= required,
        None => declared.push((name, required)),
    }
}

/// The objects that may be extensions: those at the top level, or those in [`TABLE`].
struct Extensions<'a> {
    declared: &'a mut Declared,
    at_top: bool,
}

impl<'de> DeserializeSeed<'de> for Extensions<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Extensions<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.at_top { "an object" } else { "an object of extensions" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.at_top && name == TABLE {
                map.next_value_seed(Extensions { declared: &mut *self.declared, at_top: false })?;
                continue;
            }
            let value = map.next_value_seed(ExtensionValue { may_be_anything: self.at_top });
            let flags = value.map_err(|error: A::Error| A::Error::custom(format!("extension {name}: {error}")))?;
            if let Some(flags) = flags
                && (!self.at_top || flags.exist || name.contains('.'))
            {
                declare(self.declared, name, flags.required);
            }
        }
        Ok(())
    }
}

/// The flags in the object of an extension.
#[derive(Default)]
struct Flags {
    exist: bool,
    required: bool,
}

/// A value that may be the object of an extension. Its flags, if it is an object.
struct ExtensionValue {
    may_be_anything: bool,
}

impl<'de> DeserializeSeed<'de> for ExtensionValue {
    type Value = Option<Flags>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.may_be_anything { deserializer.deserialize_any(self) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for ExtensionValue {
    type Value = Option<Flags>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut flags = Flags::default();
        while let Some(name) = map.next_key::<String>()? {
            if FLAGS.contains(&name.as_str()) {
                // A value that is no boolean must not count as false.
                let flag: bool = map.next_value().map_err(|error| A::Error::custom(format!("{name}: {error}")))?;
                flags.required |= flag;
                flags.exist = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Some(flags))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(text: &str) -> Vec<(String, bool)> {
        parse(text.as_bytes()).unwrap()
    }

    fn expected(list: &[(&str, bool)]) -> Vec<(String, bool)> {
        list.iter().map(|(name, required)| ((*name).to_owned(), *required)).collect()
    }

    #[test]
    fn the_object_of_the_drafts() {
        for flag in FLAGS {
            let text = format!(
                r#"{{"name": "a", "extensions": {{"python.details": {{"license": "MIT"}}, "example.hooks": {{"{flag}": true}},
                   "plain": {{"{flag}": false, "more": [{{"{flag}": true}}]}}}}, "run_requires": [null, 1, -1, 1.5]}}"#
            );
            let list = [("python.details", false), ("example.hooks", true), ("plain", false)];
            assert_eq!(declared(&text), expected(&list));
        }
        let both = r#"{"extensions": {"a": {"required_extension": true, "installer_must_handle": false}}}"#;
        assert_eq!(declared(both), expected(&[("a", true)]));
    }

    #[test]
    fn extensions_at_the_top_level() {
        // The keys of the wheel of wheel 0.22.0.
        let text = r#"{"exports": {"console_scripts": {"wheel": "wheel.tool:main"}}, "commands": {"wrap_console": {}},
            "document_names": {"license": "LICENSE.txt"}, "project_urls": {"Home": "h"}, "version": "0.22.0",
            "run_requires": [{"requires": ["a"]}], "name": "wheel", "obsolete": null, "x": true}"#;
        assert_eq!(declared(text), []);
        let text = r#"{"name": "a", "commands": {"installer_must_handle": true}, "example.hooks": {"required_extension": true},
            "example.plain": {}, "exports": {"required_extension": false}, "some.text": "no table"}"#;
        let list = [("commands", true), ("example.hooks", true), ("example.plain", false), ("exports", false)];
        assert_eq!(declared(text), expected(&list));
    }

    #[test]
    fn a_name_that_occurs_twice_is_required_if_it_was_once() {
        let twice = r#"{"extensions": {"a": {"required_extension": true}, "a": {}}}"#;
        assert_eq!(declared(twice), expected(&[("a", true)]));
        let flag = r#"{"extensions": {"a": {"required_extension": true, "required_extension": false}}}"#;
        assert_eq!(declared(flag), expected(&[("a", true)]));
        let shapes = r#"{"a": {"required_extension": true}, "extensions": {"a": {}}}"#;
        assert_eq!(declared(shapes), expected(&[("a", true)]));
    }

    #[test]
    fn errors_name_the_extension_and_the_line() {
        for (text, words) in [
            ("", "EOF while parsing"),
            ("[]", "invalid type: sequence, expected an object at line 1 column 0"),
            ("{} x", "trailing characters"),
            (r#"{"extensions": null}"#, "expected an object of extensions"),
            (r#"{"extensions": ["example.hooks"]}"#, "expected an object of extensions"),
            (r#"{"extensions": {"a.b": true}}"#, "extension a.b: invalid type: boolean `true`, expected an object"),
            (r#"{"extensions": {"a.b": [true]}}"#, "extension a.b: invalid type: sequence"),
            (
                r#"{"extensions": {"a.b": {"required_extension": "true"}}}"#,
                "extension a.b: required_extension: invalid type: string \"true\", expected a boolean at line 1",
            ),
            (r#"{"a.b": {"installer_must_handle": 1}}"#, "extension a.b: installer_must_handle: invalid type: integer"),
            (r#"{"a.b": {"installer_must_handle": null}}"#, "expected a boolean"),
            (r#"{"extensions": {"a": {"required_extension": true}}"#, "EOF"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
        let deep = format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
