//! Lists of requirements (PEP 508).

use std::collections::BTreeMap;
use std::str::FromStr;

use hookpool_supervisor::Interpreter;
use pep508_rs::pep440_rs::Version;
use pep508_rs::{MarkerEnvironment, MarkerTree, Requirement, VerbatimUrl, VersionOrUrl};

use super::contents::Distribution;
use super::error::EnvironmentError;
use crate::dependency_specifier;
use crate::redact::redact;

/// The requirements of a list that apply to an interpreter: sorted, normalised, without
/// repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequirementList {
    requirements: Vec<Requirement<VerbatimUrl>>,
    texts: Vec<String>,
}

impl RequirementList {
    pub fn parse(list: &[String], interpreter: &Interpreter) -> Result<Self, EnvironmentError> {
        let markers = marker_environment(interpreter)?;
        let mut sorted = BTreeMap::new();
        for text in list {
            let requirement = parse(text)?;
            if !requirement.evaluate_markers(&markers, &[]) {
                continue;
            }
            // It applies, so its marker is not needed any more.
            let requirement = Requirement { marker: MarkerTree::TRUE, ..requirement };
            sorted.insert(requirement.to_string(), requirement);
        }
        let (texts, requirements) = sorted.into_iter().unzip();
        Ok(Self { requirements, texts })
    }

    /// For an installer. It cannot take one for an option: names begin with a letter or digit.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Without credentials, for people.
    pub fn redacted(&self) -> Vec<String> {
        self.texts.iter().map(|text| redact(text).into_owned()).collect()
    }

    /// Whether there are addresses, of folders, repositories or files: the content at an
    /// address may change.
    pub fn has_urls(&self) -> bool {
        self.requirements.iter().any(|requirement| matches!(requirement.version_or_url, Some(VersionOrUrl::Url(_))))
    }

    /// Whether all requirements are installed. Requirements with extras or addresses never
    /// count as installed: extras may require anything, and addresses may contain anything.
    pub fn is_satisfied_by(&self, installed: &[Distribution]) -> bool {
        self.requirements.iter().all(|requirement| {
            let name = requirement.name.to_string();
            let found = installed.iter().find(|distribution| distribution.name == name);
            let version = found.and_then(|distribution| Version::from_str(&distribution.version).ok());
            match (&requirement.version_or_url, version) {
                _ if !requirement.extras.is_empty() => false,
                (None, version) => version.is_some(),
                (Some(VersionOrUrl::VersionSpecifier(specifiers)), Some(version)) => specifiers.contains(&version),
                (Some(_), _) => false,
            }
        })
    }
}

/// Checks that a text is a requirement.
///
/// # Errors
/// [`EnvironmentError::InvalidRequirement`].
pub(crate) fn check_requirement(text: &str) -> Result<(), EnvironmentError> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Requirement<VerbatimUrl>, EnvironmentError> {
    let invalid = |reason: String| EnvironmentError::InvalidRequirement {
        requirement: redact(text).into_owned(),
        // It contains the text again, with a mark below it.
        reason: redact(&reason).into_owned(),
    };
    // Before the text is parsed: pep508_rs replaces variables too.
    if let Some(part) = address(text).and_then(|address| UNQUOTABLE.iter().find(|part| address.contains(**part))) {
        return Err(invalid(format!("an address cannot have `{part}` in it (RFC 3986); variables are not replaced")));
    }
    dependency_specifier::parse(text).map_err(|error| invalid(error.message.to_string()))
}

/// Installers would replace the first by the value of a variable, which the server of the
/// address would see, and take the second for the continuation of a line.
const UNQUOTABLE: [&str; 2] = ["${", "\\"];

/// What may be an address, with a marker after it: pep508_rs and installers may disagree where
/// an address ends.
fn address(text: &str) -> Option<&str> {
    text[text.find(['@', ';'])?..].strip_prefix('@')
}

fn marker_environment(interpreter: &Interpreter) -> Result<MarkerEnvironment, EnvironmentError> {
    let values = serde_json::to_value(&interpreter.markers).and_then(serde_json::from_value);
    values.map_err(|error| EnvironmentError::NotMade {
        python: interpreter.executable.clone(),
        words: format!("its environment markers are not those of PEP 508: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_variables_are_refused() {
        // It is set wherever tests run.
        let home = std::env::var("HOME").unwrap();
        for text in [
            "a @ https://host/${HOME}",
            "a@https://${HOME}/b ; os_name == 'posix'",
            "a[b] @ https://user:${HOME}@host/",
            "a @ ${HOME}/b",
            "a @ git+https://host/b@${HOME}",
            "a @ https://host/b\\",
            "a @ https://host/b?c=${lower}",
            "a @ https://host/b ${HOME}",
            "a @ https://host/b;c=${HOME}",
            "a @ https://host/b\n--index-url ${HOME}",
            "https://host/${HOME}",
            "${HOME}",
            "a ${HOME}",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains(&home), "{error}");
        }
        for text in ["a @ https://host/$b", "a ; os_name != '@${HOME}'"] {
            assert!(!parse(text).unwrap().to_string().contains(&home), "{text}");
        }
    }
}
