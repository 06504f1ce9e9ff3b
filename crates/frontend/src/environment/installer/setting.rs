//! Single settings of installers, parsed from the texts of variables and files.

use std::path::{Path, PathBuf};

use configparser::ini::Ini;

use super::key::setting_decides;
use super::variables::is_yes_or_no;
use crate::environment::settings::IndexOptions;
use crate::redact::redact;

/// A setting that an installer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InstallerSetting {
    /// Its name in files, for example `find-links`; in tables with their names before
    /// it, for example `index.url`.
    pub name: String,
    pub value: String,
    /// The folder that relative places are relative to.
    pub folder: PathBuf,
    /// The variable or the file that it comes from.
    pub origin: String,
}

/// Settings whose values are places: folders, files, addresses.
const PLACES: [&str; 9] = [
    "build-constraint",
    "constraint",
    "default-index",
    "extra-index-url",
    "find-links",
    "index",
    "index-url",
    "path",
    "url",
];

impl InstallerSetting {
    /// Its name without those of tables.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// Whether it tells where to look for distributions.
    pub fn says_where(&self) -> bool {
        const NAMES: [&str; 6] = ["default-index", "extra-index-url", "find-links", "index", "index-url", "no-index"];
        let is_index = self.name.starts_with("index.");
        !self.value.is_empty() && (is_index || NAMES.contains(&self.short_name()))
    }

    /// What of it belongs to the key of an environment; empty if nothing does.
    pub fn key(&self) -> Vec<String> {
        let table = self.name.split('.').next().unwrap_or(&self.name);
        if !setting_decides(table) || !setting_decides(self.short_name()) {
            return Vec::new();
        }
        let mut texts = vec![self.name.clone(), redact(&self.value).into_owned()];
        if self.is_relative() {
            texts.push(self.folder.display().to_string());
        }
        texts
    }

    /// Whether its meaning may depend on the folder.
    fn is_relative(&self) -> bool {
        if PLACES.contains(&self.short_name()) {
            !is_the_same_everywhere(&self.value)
        } else {
            self.value.contains('/') && !is_the_same_everywhere(&self.value)
        }
    }
}

/// Whether a value certainly means the same in any folder: it is a number, a yes or
/// no, or consists of absolute paths and addresses only, however an installer
/// splits it.
fn is_the_same_everywhere(value: &str) -> bool {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit()) || is_yes_or_no(value);
    let is_address = |part: &str| {
        let scheme = part.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let mut parts = value.split(|letter: char| letter.is_whitespace() || letter == ',');
    is_plain || (!value.contains('$') && parts.all(|part| part.starts_with('/') || is_address(part)))
}

/// Our own settings, as those of an installer.
pub(super) fn of_index_options(index: &IndexOptions, folder: &Path) -> Vec<InstallerSetting> {
    let setting = |name: &str, value: &str| InstallerSetting {
        name: name.into(),
        value: value.into(),
        folder: folder.to_owned(),
        ..InstallerSetting::default()
    };
    let mut all: Vec<InstallerSetting> = index.index_url.iter().map(|url| setting("index-url", url)).collect();
    all.extend(index.extra_index_urls.iter().map(|url| setting("extra-index-url", url)));
    all.extend(index.find_links.iter().map(|place| setting("find-links", place)));
    if index.no_index {
        all.push(setting("no-index", "true"));
    }
    all
}

/// The settings for `pip install` in a configuration file of pip. Names may have
/// underscores. pip fails if it cannot parse the file.
pub(super) fn in_pip_file(text: &str, folder: &Path, file: &Path) -> Vec<InstallerSetting> {
    // As pip's parser, which is Python's `RawConfigParser`.
    let mut parser = Ini::new_cs();
    parser.set_multiline(true);
    parser.set_inline_comment_symbols(Some(&[]));
    let mut sections = parser.read(text.to_owned()).unwrap_or_default();
    let mut found = Vec::new();
    for section in ["global", "install"] {
        for (name, value) in sections.remove(section).unwrap_or_default() {
            found.push(InstallerSetting {
                name: name.to_ascii_lowercase().replace('_', "-"),
                value: value.unwrap_or_default().trim().to_owned(),
                folder: folder.to_owned(),
                origin: file.display().to_string(),
            });
        }
    }
    // The parser's order is random.
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// The settings in a table of uv: each text, number and boolean in it.
pub(super) fn in_uv_table(table: &toml::Table, folder: &Path) -> Vec<InstallerSetting> {
    let mut settings = Vec::new();
    for (name, value) in table {
        add(name, value, folder, &mut settings);
    }
    settings
}

fn add(name: &str, value: &toml::Value, folder: &Path, settings: &mut Vec<InstallerSetting>) {
    match value {
        toml::Value::Array(values) => values.iter().for_each(|value| add(name, value, folder, settings)),
        toml::Value::Table(table) => {
            for (key, value) in table {
                add(&format!("{name}.{key}"), value, folder, settings);
            }
        }
        value => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            settings.push(InstallerSetting {
                name: name.to_owned(),
                value,
                folder: folder.to_owned(),
                ..InstallerSetting::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_tell_where_to_look() {
        let says = |name: &str, value: &str| {
            InstallerSetting { name: name.into(), value: value.into(), ..InstallerSetting::default() }.says_where()
        };
        for name in ["index-url", "extra-index-url", "find-links", "index.url", "pip.index-url", "no-index"] {
            assert!(says(name, "x"), "{name}");
        }
        for (name, value) in [("timeout", "10"), ("index-strategy", "first-index"), ("index-url", "")] {
            assert!(!says(name, value), "{name}");
        }
    }

    #[test]
    fn relative_values_are_recognised() {
        let is_relative = |name: &str, value: &str| {
            InstallerSetting { name: name.into(), value: value.into(), ..InstallerSetting::default() }.is_relative()
        };
        for value in [
            "wheels",
            ".",
            "./wheels",
            "wh=x",
            "/tmp,my wh",
            "/tmp, ",
            "wh(x)",
            "file:w%2B1",
            "name=https://example.org/simple",
            "$HOME/wheels",
            "/wheels/${NAME}",
            "://x",
            "~/wheels",
        ] {
            assert!(is_relative("find-links", value), "{value}");
            assert_eq!(is_relative("a-setting-of-tomorrow", value), value.contains('/'), "{value}");
        }
        for value in [
            "",
            "180",
            "1",
            "true",
            "No",
            "/wheels",
            "/wheels,/more /and",
            "https://user:secret@example.org/simple/",
            "https://example.org/simple/ file:///wheels",
        ] {
            assert!(!is_relative("index.url", value), "{value}");
        }
    }

    #[test]
    fn a_configuration_file_of_pip_is_parsed() {
        let text = "[global]\nindex_url = https://u:p@example.org/simple\n# a note\nfind-links =\n    /wheels\n    more\n\
                    timeout: 10\n[list]\nformat = columns\n  x\n[install]\nno-binary = :all:\n";
        let settings = in_pip_file(text, Path::new("/here"), Path::new("/pip.conf"));
        let found: Vec<(&str, &str)> =
            settings.iter().map(|setting| (setting.name.as_str(), setting.value.as_str())).collect();
        let expected = [
            ("find-links", "/wheels\nmore"),
            ("index-url", "https://u:p@example.org/simple"),
            ("no-binary", ":all:"),
            ("timeout", "10"),
        ];
        assert_eq!(found, expected);
        let keys: Vec<Vec<String>> = settings.iter().map(InstallerSetting::key).collect();
        let expected = [
            &["find-links", "/wheels\nmore", "/here"][..],
            &["index-url", "https://***@example.org/simple"],
            &["no-binary", ":all:"],
            &[],
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_table_of_uv_is_parsed() {
        let text = "find-links = ['/a', 'b']\nprerelease = 'allow'\ncache-dir = '/c'\n\
                    [[index]]\nname = 'own'\nurl = 'https://example.org'\n[pip]\nno-binary = ['x']\n";
        let settings = in_uv_table(&text.parse().unwrap(), Path::new("/here"));
        let keys: Vec<Vec<String>> = settings.iter().map(InstallerSetting::key).collect();
        let mut expected: Vec<Vec<String>> = [
            &["find-links", "/a"][..],
            &["find-links", "b", "/here"],
            &["prerelease", "allow"],
            &[],
            &["index.name", "own"],
            &["index.url", "https://example.org"],
            &["pip.no-binary", "x"],
        ]
        .map(|texts| texts.iter().map(|&text| text.to_owned()).collect())
        .to_vec();
        let sort = |mut list: Vec<Vec<String>>| {
            list.sort();
            list
        };
        assert_eq!(sort(keys), sort(std::mem::take(&mut expected)));
    }
}
