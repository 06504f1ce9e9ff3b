//! Misspelt names in `pyproject.toml`, for example `[build_system]`. Nothing reads them, and
//! nothing complains: setuptools builds the tree without them.

use super::report::BuildWarning;

const TABLES: &[&str] = &["build-system", "project", "tool"];
const KEYS: &[&str] = &["requires", "build-backend", "backend-path"];

/// The least similarity, from 0 to 1: that of `requirements` and `requires` is greater.
const SIMILAR: f64 = 0.65;

/// The misspelt names in a `pyproject.toml`; none if it is not valid, which is an error
/// elsewhere.
pub(super) fn misspelt_names(pyproject: &[u8]) -> Vec<BuildWarning> {
    std::str::from_utf8(pyproject).map(find).unwrap_or_default()
}

fn find(pyproject: &str) -> Vec<BuildWarning> {
    let text = pyproject.strip_prefix('\u{feff}').unwrap_or(pyproject);
    let Ok(document) = text.parse::<toml::Table>() else { return Vec::new() };
    let mut found = misses(&document, TABLES, |name| format!("[{name}]"));
    if let Some(table) = document.get("build-system").and_then(toml::Value::as_table) {
        found.extend(misses(table, KEYS, |key| format!("`{key}` in [build-system]")));
    }
    found
}

/// For each expected name that is missing, the most similar one that nothing reads.
fn misses(table: &toml::Table, expected: &[&str], written: impl Fn(&str) -> String) -> Vec<BuildWarning> {
    let unread = || table.keys().filter(|name| !expected.contains(&name.as_str()));
    let missing = expected.iter().filter(|name| !table.contains_key(**name));
    let closest = missing.filter_map(|name| {
        let similarity = |other: &String| strsim::normalized_levenshtein(&other.to_lowercase().replace('_', "-"), name);
        let other = unread().max_by(|one, other| similarity(one).total_cmp(&similarity(other)))?;
        (similarity(other) >= SIMILAR)
            .then(|| BuildWarning::Misspelt { found: written(other), expected: written(name) })
    });
    closest.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names() {
        let found = |text: &str| {
            let pair = |warning| match warning {
                BuildWarning::Misspelt { found, expected } => format!("{found}: {expected}"),
                other => other.to_string(),
            };
            find(text).into_iter().map(pair).collect::<Vec<_>>()
        };
        assert_eq!(found("[build_sytem]\nrequires = []"), ["[build_sytem]: [build-system]"]);
        assert_eq!(found("[Build-System]"), ["[Build-System]: [build-system]"]);
        assert_eq!(found("[[buildsystem]]\n[projects]"), ["[buildsystem]: [build-system]", "[projects]: [project]"]);
        let keys = "[build-system]\nrequirements = []\nbuild_backend = 'x'\nbackend_path = '.'";
        assert_eq!(
            found(keys),
            [
                "`requirements` in [build-system]: `requires` in [build-system]",
                "`build_backend` in [build-system]: `build-backend` in [build-system]",
                "`backend_path` in [build-system]: `backend-path` in [build-system]"
            ]
        );
        for right in [
            "",
            "[project]\nname = 'x'",
            "[build-system]\nrequires = []\nbuild-backend = 'x'\nbackend-path = ['.']\n[tool.x]",
            "[build-system]\nrequires = []\n[projects]\n[project]",
            "[dependency-groups]\n[other]",
            "[[",
        ] {
            assert_eq!(found(right), [""; 0], "{right}");
        }
    }
}
