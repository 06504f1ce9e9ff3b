//! The configuration that uv gets, where its user's has what is not meant for
//! build environments: the same without that.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// A file of uv's, and the settings in it.
#[derive(Clone, Debug)]
pub(super) struct UvFile {
    pub path: PathBuf,
    pub table: Table,
}

/// They constrain what a project needs when it runs.
const OF_RUN_TIME: [&str; 3] = ["constraint-dependencies", "exclude-dependencies", "override-dependencies"];

/// For what the user installs by `uv pip`: they would lead what is installed
/// elsewhere, or leave something out.
const OF_PIP: [&str; 12] = [
    "all-extras",
    "extra",
    "group",
    "no-build-isolation",
    "no-deps",
    "prefix",
    "python",
    "python-platform",
    "python-version",
    "require-hashes",
    "system",
    "target",
];

/// `pyproject.toml` may have them, `uv.toml` may not.
const OF_PROJECTS: [&str; 12] = [
    "build-backend",
    "conflicts",
    "default-groups",
    "dependency-groups",
    "dev-dependencies",
    "environments",
    "managed",
    "minimum-libc-version",
    "package",
    "required-environments",
    "sources",
    "workspace",
];

/// All files in one, of which the first counts most, without what is not meant
/// for build environments. Nothing where uv can read them by itself.
pub(super) fn without_run_time(files: &[UvFile]) -> Option<String> {
    let has_unwanted = files.iter().any(|file| {
        let of_pip = file.table.get("pip").and_then(Value::as_table);
        let has_of_pip = of_pip.is_some_and(|table| OF_PIP.iter().any(|name| table.contains_key(*name)));
        has_of_pip || OF_RUN_TIME.iter().any(|name| file.table.contains_key(*name))
    });
    if !has_unwanted {
        return None;
    }
    let mut all = Table::new();
    for file in files {
        let mut table = file.table.clone();
        table.retain(|name, _| !OF_RUN_TIME.contains(&name) && !OF_PROJECTS.contains(&name));
        let folder = file.path.parent().unwrap_or(Path::new("/"));
        make_absolute(&mut table, folder);
        if let Some(Value::Table(of_pip)) = table.get_mut("pip") {
            of_pip.retain(|name, _| !OF_PIP.contains(&name));
            make_absolute(of_pip, folder);
        }
        merge(&mut all, table);
    }
    Some(all.to_string())
}

/// As uv does: lists are joined, of other settings the first counts.
fn merge(all: &mut Table, more: Table) {
    for (name, value) in more {
        match (all.get_mut(&name), value) {
            (Some(Value::Array(first)), Value::Array(second)) => first.extend(second),
            (Some(Value::Table(first)), Value::Table(second)) => merge(first, second),
            (Some(_), _) => {}
            (None, value) => {
                all.insert(name, value);
            }
        }
    }
}

/// The file lies elsewhere, and uv takes places as seen from it.
fn make_absolute(table: &mut Table, folder: &Path) {
    for name in ["index-url", "extra-index-url", "find-links"] {
        match table.get_mut(name) {
            Some(Value::String(place)) => make_place_absolute(place, folder),
            Some(Value::Array(places)) => {
                for place in places {
                    if let Value::String(place) = place {
                        make_place_absolute(place, folder);
                    }
                }
            }
            _ => {}
        }
    }
    let indexes = table.get_mut("index").and_then(Value::as_array_mut).into_iter().flatten();
    for index in indexes {
        if let Some(Value::String(place)) = index.get_mut("url") {
            make_place_absolute(place, folder);
        }
    }
}

fn make_place_absolute(place: &mut String, folder: &Path) {
    if !place.contains("://") && !place.starts_with("file:") {
        *place = folder.join(&*place).display().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> UvFile {
        UvFile { path: path.into(), table: text.parse().unwrap() }
    }

    #[test]
    fn what_is_meant_for_build_environments_alone_stays_as_it_is() {
        let own = file("/a/uv.toml", "find-links = ['x']\nbuild-constraint-dependencies = ['a<1']\n[pip]\npre = true");
        assert_eq!(without_run_time(&[own]), None);
        assert_eq!(without_run_time(&[]), None);
    }

    #[test]
    fn run_time_constraints_are_left_out_and_places_stay_where_they_are() {
        let project = file(
            "/project/pyproject.toml",
            "constraint-dependencies = ['a<1']\noverride-dependencies = ['b']\nexclude-dependencies = ['c']\n\
             managed = true\nprerelease = 'allow'\nfind-links = ['wheels', '/w', 'https://h/w']\n\
             [workspace]\nmembers = []\n[[index]]\nurl = 'own'\n[pip]\nno-deps = true\nindex-url = 'simple'\n",
        );
        let user = file("/home/uv/uv.toml", "prerelease = 'never'\nfind-links = ['more']\nno-build = true\n");
        let found: Table = without_run_time(&[project, user]).unwrap().parse().unwrap();
        let expected: Table = "prerelease = 'allow'\nno-build = true\n\
                               find-links = ['/project/wheels', '/w', 'https://h/w', '/home/uv/more']\n\
                               [[index]]\nurl = '/project/own'\n[pip]\nindex-url = '/project/simple'\n"
            .parse()
            .unwrap();
        assert_eq!(found, expected);
    }
}
