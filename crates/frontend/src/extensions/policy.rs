//! Which extensions are supported, and what happens to a distribution that requires
//! another one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pep508_rs::PackageName;

use super::Extension;
use crate::source::Source;

/// Extensions that the installer supports: one, or all with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionPattern {
    /// The extension with this name.
    Name(String),
    /// All extensions with this prefix, which ends in a `.`.
    Prefix(String),
}

/// A text is not an [`ExtensionPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of an extension, such as example.hooks, or a prefix and .*, such as example.*")]
pub struct InvalidExtensionPattern;

impl FromStr for ExtensionPattern {
    type Err = InvalidExtensionPattern;

    fn from_str(text: &str) -> Result<Self, InvalidExtensionPattern> {
        let is_name = |name: &str| !name.is_empty() && !name.contains('*') && name.trim() == name;
        match text.strip_suffix(".*") {
            Some(prefix) if is_name(prefix) => Ok(Self::Prefix(format!("{prefix}."))),
            None if is_name(text) => Ok(Self::Name(text.to_owned())),
            _ => Err(InvalidExtensionPattern),
        }
    }
}

impl fmt::Display for ExtensionPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
        }
    }
}

impl ExtensionPattern {
    fn matches(&self, extension: &str) -> bool {
        match self {
            Self::Name(name) => name == extension,
            Self::Prefix(prefix) => extension.len() > prefix.len() && extension.starts_with(prefix),
        }
    }
}

/// What happens to metadata that require an extension that is not supported.
#[derive(Clone, Copy, Debug, Default)]
pub enum WhenRequired {
    /// It is an error.
    #[default]
    Fail,
    /// The metadata of a wheel are replaced by those of its source, if the policy has one.
    UseSource,
}

/// A source cannot be added to an [`ExtensionPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceForError {
    /// The name of the distribution is invalid.
    #[error("{distribution}: expected the name of a distribution")]
    InvalidName {
        /// What was given.
        distribution: String,
    },
    /// The distribution already has another source.
    #[error("{distribution}: expected one source, found two")]
    Repeated {
        /// The distribution, as it was named for the second source.
        distribution: String,
    },
}

/// Which extensions are supported, and what happens to metadata that require others.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtensionPolicy {
    /// The extensions that the installer supports.
    pub supported: Vec<ExtensionPattern>,
    /// What happens to metadata that require another extension.
    pub when_required: WhenRequired,
    sources: BTreeMap<PackageName, Source>,
}

impl ExtensionPolicy {
    /// A policy without sources.
    #[must_use]
    pub fn new(supported: Vec<ExtensionPattern>, when_required: WhenRequired) -> Self {
        Self { supported, when_required, sources: BTreeMap::new() }
    }

    /// Adds the source of a distribution. Its name need not be normalised.
    ///
    /// # Errors
    /// The name is invalid, or the distribution already has another source.
    pub fn add_source(&mut self, distribution: &str, source: Source) -> Result<(), SourceForError> {
        let owned = || distribution.to_owned();
        let name = PackageName::from_str(distribution);
        let name = name.map_err(|_| SourceForError::InvalidName { distribution: owned() })?;
        match self.sources.insert(name, source.clone()) {
            Some(first) if first != source => Err(SourceForError::Repeated { distribution: owned() }),
            _ => Ok(()),
        }
    }

    /// The source of a distribution. Its name need not be normalised.
    #[must_use]
    pub fn source_of(&self, distribution: &str) -> Option<&Source> {
        self.sources.get(&PackageName::from_str(distribution).ok()?)
    }

    /// Whether the extension with this name is supported.
    #[must_use]
    pub fn supports(&self, extension: &str) -> bool {
        self.supported.iter().any(|pattern| pattern.matches(extension))
    }

    /// The names of the extensions that are required and not supported, each once.
    #[must_use]
    pub fn missing(&self, extensions: &[Extension]) -> Vec<String> {
        let mut missing = Vec::new();
        for extension in extensions.iter().filter(|extension| extension.required && !self.supports(&extension.name)) {
            if !missing.contains(&extension.name) {
                missing.push(extension.name.clone());
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(supported: &[&str]) -> ExtensionPolicy {
        let supported = supported.iter().map(|text| text.parse().unwrap()).collect();
        ExtensionPolicy::new(supported, WhenRequired::Fail)
    }

    #[test]
    fn patterns_are_names_or_prefixes() {
        let policy = policy(&["example.hooks", "python.*", "a.b.*"]);
        for name in ["example.hooks", "python.details", "python.a.b", "a.b.c"] {
            assert!(policy.supports(name), "{name}");
        }
        for name in ["example", "example.hooks2", "example.hooks.more", "python", "python.", "pythonic.x", "a.c", ""] {
            assert!(!policy.supports(name), "{name}");
        }
        for text in ["", "*", ".*", "a*", "*.a", "a.*.b", "a.*.*", " a", "a\n"] {
            assert_eq!(text.parse::<ExtensionPattern>(), Err(InvalidExtensionPattern), "{text}");
        }
        for text in ["a", "a.b", "a.*"] {
            assert_eq!(text.parse::<ExtensionPattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn missing_extensions_are_listed_once() {
        let extension = |name: &str, required, file| Extension { name: name.into(), required, file };
        let extensions = [
            extension("python.details", false, "pydist.json"),
            extension("example.hooks", true, "pydist.json"),
            extension("known", true, "pydist.json"),
            extension("example.hooks", true, "metadata.json"),
        ];
        assert_eq!(policy(&["known"]).missing(&extensions), ["example.hooks"]);
        assert!(policy(&["known", "example.*"]).missing(&extensions).is_empty());
    }

    #[test]
    fn names_of_distributions_are_normalised() {
        let mut policy = ExtensionPolicy::default();
        let source = Source::Tree("tree".into());
        assert_eq!(policy.add_source("Foo.Bar", source.clone()), Ok(()));
        assert_eq!(policy.source_of("foo_bar"), Some(&source));
        assert_eq!(policy.source_of("foo"), None);
        assert_eq!(policy.source_of("-"), None);
        assert_eq!(policy.add_source("foo-bar", source), Ok(()));
        let error = policy.add_source("foo-bar", Source::Tree("other".into())).unwrap_err();
        assert_eq!(error.to_string(), "foo-bar: expected one source, found two");
        let error = policy.add_source("-x", Source::Tree("other".into())).unwrap_err();
        assert_eq!(error.to_string(), "-x: expected the name of a distribution");
    }
}
