//! The `[project]` table of `pyproject.toml`: the keys that determine core metadata.
//!
//! Specification: <https://packaging.python.org/en/latest/specifications/pyproject-toml/>.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, PackageName, Requirement, VerbatimUrl, VersionOrUrl};
use serde::Deserialize;

use super::CoreMetadata;
use crate::dependency_specifier;
use crate::source::same;

#[derive(Deserialize)]
struct Pyproject {
    project: Option<ProjectTable>,
}

/// Every build gives the same for the keys that are not listed in `dynamic`: a backend may
/// neither change nor add them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a table")]
pub(super) struct ProjectTable {
    name: String,
    version: Option<String>,
    pub requires_python: Option<String>,
    dependencies: Option<Vec<String>>,
    optional_dependencies: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    dynamic: Vec<String>,
}

impl ProjectTable {
    /// Parses the table of a `pyproject.toml`, if it has one.
    ///
    /// # Errors
    /// The file is no TOML, or the table is invalid.
    pub fn parse(pyproject: &[u8]) -> Result<Option<Self>, String> {
        let text = std::str::from_utf8(pyproject).map_err(|error| error.to_string())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let pyproject: Pyproject = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(pyproject.project)
    }

    /// The first field of `metadata` that contradicts the table.
    pub fn disagreement(&self, metadata: &CoreMetadata) -> Option<&'static str> {
        let agrees = [
            ("Name", same(&self.name, &metadata.name, |name| PackageName::from_str(name).ok())),
            ("Version", self.agrees_on_version(&metadata.version)),
            ("Requires-Python", self.agrees_on_python(metadata.requires_python.as_deref())),
            ("Provides-Extra", self.agrees_on_extras(&metadata.provides_extra)),
            ("Requires-Dist", self.agrees_on_requirements(&metadata.requires_dist) == Some(true)),
        ];
        agrees.into_iter().find(|(_, agrees)| !agrees).map(|(field, _)| field)
    }

    /// The first field that resolvers need, beside Name and Version, of which a build may have another value
    /// than the table. With `has_setup`, that may be any that the table does not mention.
    pub fn undetermined(&self, has_setup: bool) -> Option<&'static str> {
        let keys = [
            ("Requires-Python", "requires-python", self.requires_python.is_some()),
            ("Requires-Dist", "dependencies", self.dependencies.is_some()),
            ("Provides-Extra", "optional-dependencies", self.optional_dependencies.is_some()),
        ];
        let open = |key: &str, mentioned: bool| self.is_dynamic(key) || (has_setup && !mentioned);
        keys.into_iter().find(|(_, key, mentioned)| open(key, *mentioned)).map(|(field, ..)| field)
    }

    fn is_dynamic(&self, key: &str) -> bool {
        self.dynamic.iter().any(|dynamic| dynamic == key)
    }

    fn agrees_on_version(&self, version: &str) -> bool {
        match &self.version {
            Some(own) => same(own, version, |version| Version::from_str(version).ok()),
            None => self.is_dynamic("version"),
        }
    }

    fn agrees_on_python(&self, requires_python: Option<&str>) -> bool {
        let specifiers = |text: &str| VersionSpecifiers::from_str(text).ok().map(|all| sorted(&all));
        let (own, other) = (self.requires_python.as_deref().unwrap_or(""), requires_python.unwrap_or(""));
        self.is_dynamic("requires-python") || same(own, other, specifiers)
    }

    fn agrees_on_extras(&self, provides_extra: &[String]) -> bool {
        if self.is_dynamic("optional-dependencies") {
            return true;
        }
        let normalised = |extra: &String| ExtraName::from_str(extra).ok();
        let own: Option<BTreeSet<_>> =
            self.optional_dependencies.iter().flatten().map(|(extra, _)| extra).map(normalised).collect();
        own.is_some() && own == provides_extra.iter().map(normalised).collect()
    }

    /// `None` if a text is no requirement.
    fn agrees_on_requirements(&self, requires_dist: &[String]) -> Option<bool> {
        let (always, with_extras) = (!self.is_dynamic("dependencies"), !self.is_dynamic("optional-dependencies"));
        let mut other = BTreeSet::new();
        for text in requires_dist {
            let requirement = parse(text)?;
            // If one of the two lists is dynamic, the other can still be compared.
            let is_static = if requirement.marker.evaluate_extras(&[]) { always } else { with_extras };
            if is_static {
                other.insert(key(&requirement));
            }
        }
        let mut of_all = BTreeSet::new();
        for text in self.dependencies.iter().flatten().filter(|_| always) {
            of_all.insert(key(&parse(text)?));
        }
        let extras = if with_extras { self.extras()? } else { Extras::new() };
        let name = PackageName::from_str(&self.name).ok()?;
        // hatchling writes the requirements of other extras in place of their names.
        Some([None, Some(&name)].into_iter().any(|expanded| {
            let mut own = of_all.clone();
            add_expanded(&mut own, &extras, expanded, &other) && own == other
        }))
    }

    /// `None` if a text is no requirement, or a name is none of an extra.
    fn extras(&self) -> Option<Extras> {
        let mut extras = Extras::new();
        for (extra, texts) in self.optional_dependencies.iter().flatten() {
            let requirements: Option<Vec<_>> = texts.iter().map(|text| parse(text)).collect();
            // setuptools adds up extras with different spellings of one name.
            extras.entry(ExtraName::from_str(extra).ok()?).or_default().extend(requirements?);
        }
        Some(extras)
    }
}

/// The requirements of each extra.
type Extras = BTreeMap<ExtraName, Vec<Requirement<VerbatimUrl>>>;

/// Adds the keys of all requirements of extras; with a name, with the requirements of the extra
/// in place of `NAME[EXTRA]`. False if they are not all among `others`, or too many to tell.
fn add_expanded(
    keys: &mut BTreeSet<String>,
    extras: &Extras,
    name: Option<&PackageName>,
    others: &BTreeSet<String>,
) -> bool {
    /// With `n` extras that refer to each other, there may be `n * n`.
    const MOST_EXPANDED: usize = 10_000;
    let mut count = 0;
    for extra in extras.keys() {
        let (mut found, mut wanted) = (BTreeSet::new(), vec![extra]);
        while let Some(next) = wanted.pop() {
            if !found.insert(next) {
                continue;
            }
            for requirement in extras.get(next).into_iter().flatten() {
                count += 1;
                if count > MOST_EXPANDED {
                    return false;
                }
                let is_reference = name == Some(&requirement.name)
                    && requirement.version_or_url.is_none()
                    && requirement.marker.is_true();
                if is_reference {
                    wanted.extend(&requirement.extras);
                    continue;
                }
                let key = key(&requirement.clone().with_extra_marker(extra));
                if !others.contains(&key) {
                    return false;
                }
                keys.insert(key);
            }
        }
    }
    true
}

fn parse(text: &str) -> Option<Requirement<VerbatimUrl>> {
    dependency_specifier::parse(text).ok()
}

/// The same text for all spellings of a requirement.
fn key(requirement: &Requirement<VerbatimUrl>) -> String {
    let extras: BTreeSet<String> = requirement.extras.iter().map(ToString::to_string).collect();
    let version = match &requirement.version_or_url {
        None => Vec::new(),
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => sorted(specifiers),
        Some(VersionOrUrl::Url(url)) => vec![format!("@ {url}")],
    };
    let marker = requirement.marker.try_to_string().unwrap_or_default();
    format!("{}{extras:?}{version:?};{marker}", requirement.name)
}

fn sorted(specifiers: &VersionSpecifiers) -> Vec<String> {
    let mut texts: Vec<String> = specifiers.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Metadata-Version: 2.2\nName: a\nVersion: 1\n";

    fn disagreement(table: &str, pkg_info: &str) -> Option<&'static str> {
        let metadata = CoreMetadata::parse(pkg_info.as_bytes()).unwrap();
        ProjectTable::parse(format!("[project]\n{table}").as_bytes()).unwrap().unwrap().disagreement(&metadata)
    }

    #[test]
    fn spellings_do_not_matter() {
        let table = "name = 'A_b.c'\nversion = '1.0'\nrequires-python = '>=3.8, <4'\n\
                     dependencies = ['Foo.Bar [y, x] >=1,<2', \"d ; python_version < '3.9'\", 'e @ https://e/e.zip']\n\
                     optional-dependencies.X_y = ['z', \"w ; sys_platform == 'linux' or os_name == 'nt'\"]\n";
        let pkg_info = "Metadata-Version: 2.2\nName: a-b-c\nVersion: 1\nRequires-Python: <4,>=3.8\n\
                        Requires-Dist: foo-bar[x,y]<2,>=1\nRequires-Dist: d; python_version<\"3.9\"\n\
                        Requires-Dist: e@ https://e/e.zip\nRequires-Dist: z; extra == 'x-y'\n\
                        Requires-Dist: w; (sys_platform == 'linux' or os_name == 'nt') and extra == 'x-y'\n\
                        Provides-Extra: x-y\n";
        assert_eq!(disagreement(table, pkg_info), None);
    }

    #[test]
    fn edited_fields_are_found() {
        let head = "name = 'a'\nversion = '1'\n";
        assert_eq!(disagreement(head, HEAD), None);
        for (table, fields, expected) in [
            ("name = 'b'\nversion = '1'", "", "Name"),
            ("name = 'a'\nversion = '2'", "", "Version"),
            ("name = 'a'", "", "Version"),
            (&format!("{head}requires-python = '>=3.9'"), "", "Requires-Python"),
            (&format!("{head}requires-python = '>=3.9'"), "Requires-Python: >=3.8\n", "Requires-Python"),
            (head, "Requires-Python: >=3.8\n", "Requires-Python"),
            (&format!("{head}dependencies = ['b>=3']"), "Requires-Dist: b>=2\n", "Requires-Dist"),
            (head, "Requires-Dist: b>=2\n", "Requires-Dist"),
            (&format!("{head}dependencies = ['b']"), "", "Requires-Dist"),
            (&format!("{head}dependencies = ['no requirement']"), "Requires-Dist: no requirement\n", "Requires-Dist"),
            (&format!("{head}optional-dependencies.x = []"), "", "Provides-Extra"),
            (head, "Provides-Extra: x\n", "Provides-Extra"),
            (
                &format!("{head}optional-dependencies.x = ['b']"),
                "Provides-Extra: x\nRequires-Dist: b\n",
                "Requires-Dist",
            ),
        ] {
            assert_eq!(disagreement(table, &format!("{HEAD}{fields}")), Some(expected), "{table}\n{fields}");
        }
    }

    #[test]
    fn an_extra_may_name_others_of_its_project() {
        let table = "name = 'A'\nversion = '1'\ndependencies = ['b']\n\
                     optional-dependencies = { x = ['c', 'a[Y]', \"d; os_name == 'nt'\"], y = ['e', 'a[z,x]'], z = ['f>=1'] }\n";
        let head = "Metadata-Version: 2.2\nName: a\nVersion: 1\nProvides-Extra: x\nProvides-Extra: y\n\
                    Provides-Extra: z\nRequires-Dist: b\nRequires-Dist: f>=1; extra == 'z'\n";
        let of = |extra: &str, texts: &[&str]| {
            texts.iter().map(|text| format!("Requires-Dist: {text} extra == '{extra}'\n")).collect::<String>()
        };
        let all = ["c;", "d; os_name == 'nt' and", "e;", "f>=1;"];
        let written = of("x", &["c;", "a[y];", "d; os_name == 'nt' and"]) + &of("y", &["e;", "a[x,z];"]);
        let expanded = of("x", &all) + &of("y", &all);
        for fields in [&written, &expanded] {
            assert_eq!(disagreement(table, &format!("{head}{fields}")), None, "{fields}");
        }
        for edited in [of("x", &all[..3]) + &of("y", &all), of("x", &all) + &of("y", &["e;"]), String::new()] {
            assert_eq!(disagreement(table, &format!("{head}{edited}")), Some("Requires-Dist"), "{edited}");
        }
        // Of certain versions, or not always: hooks tell what becomes of these.
        for reference in ["a[y]>=1", "a[y]; os_name == 'nt'"] {
            let table =
                format!("name = 'a'\nversion = '1'\noptional-dependencies = {{ x = [\"{reference}\"], y = ['e'] }}");
            let fields = format!("Provides-Extra: x\nProvides-Extra: y\n{}{}", of("x", &["e;"]), of("y", &["e;"]));
            assert_eq!(disagreement(&table, &format!("{HEAD}{fields}")), Some("Requires-Dist"), "{reference}");
        }
    }

    #[test]
    fn extras_with_one_name_in_two_spellings_add_up() {
        let table = "name = 'a'\nversion = '1'\noptional-dependencies = { x-y = ['b'], x_y = ['c'] }\n";
        let head = format!("{HEAD}Provides-Extra: x-y\nRequires-Dist: c; extra == 'x-y'\n");
        assert_eq!(disagreement(table, &head), Some("Requires-Dist"));
        assert_eq!(disagreement(table, &format!("{head}Requires-Dist: b; extra == 'x-y'\n")), None);
    }

    #[test]
    fn extras_that_expand_to_too_much_are_not_expanded() {
        let count = 1000;
        let mut table = String::from("name = 'a'\nversion = '1'\n[project.optional-dependencies]\n");
        let mut pkg_info = String::from(HEAD);
        for number in 0..count {
            table += &format!("e{number} = ['a[e{}]', 'b']\n", (number + 1) % count);
            pkg_info += &format!("Provides-Extra: e{number}\nRequires-Dist: b; extra == 'e{number}'\n");
        }
        assert_eq!(disagreement(&table, &pkg_info), Some("Requires-Dist"));
    }

    #[test]
    fn dynamic_fields_are_not_compared() {
        let table = "name = 'a'\ndynamic = ['version', 'requires-python', 'dependencies', 'optional-dependencies']";
        let fields = "Requires-Python: >=3.8\nProvides-Extra: x\nRequires-Dist: b\nRequires-Dist: c; extra == 'x'\n";
        assert_eq!(disagreement(table, &format!("{HEAD}{fields}")), None);
        let one = |dynamic: &str, fields: &str| {
            let own =
                if dynamic == "dependencies" { "optional-dependencies.x = ['c']" } else { "dependencies = ['b']" };
            let table = format!("name = 'a'\nversion = '1'\n{own}\ndynamic = ['{dynamic}']");
            disagreement(&table, &format!("{HEAD}Provides-Extra: x\n{fields}"))
        };
        let (always, with_extra) = ("Requires-Dist: b\n", "Requires-Dist: c; extra == 'x'\n");
        let both = format!("{always}{with_extra}");
        assert_eq!([one("dependencies", &both), one("dependencies", with_extra)], [None, None]);
        assert_eq!(one("dependencies", always), Some("Requires-Dist"));
        assert_eq!([one("optional-dependencies", &both), one("optional-dependencies", always)], [None, None]);
        assert_eq!(one("optional-dependencies", with_extra), Some("Requires-Dist"));
    }

    #[test]
    fn files_without_a_table_and_invalid_files() {
        assert!(ProjectTable::parse(b"").unwrap().is_none());
        assert!(ProjectTable::parse("\u{feff}[build-system]\nrequires = []".as_bytes()).unwrap().is_none());
        for wrong in ["[project]\nversion = '1'", "[project]\nname = 1", "project = 1", "[project", "[project]\nname ="]
        {
            assert!(ProjectTable::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(ProjectTable::parse(b"\xff").is_err());
    }
}
