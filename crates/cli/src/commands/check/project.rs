//! What is checked, and what is built beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::Failure;

/// A source tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project {
    /// As the user named it.
    pub name: String,
    pub tree: PathBuf,
}

#[derive(Deserialize)]
struct Pyproject {
    #[serde(rename = "build-system")]
    build_system: Option<BuildSystem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildSystem {
    build_backend: Option<String>,
    backend_path: Option<toml::Value>,
}

impl Project {
    pub fn find(source: &Path) -> Result<Self, Failure> {
        let name = source.display().to_string();
        match fs::canonicalize(source) {
            Ok(tree) if tree.is_dir() => Ok(Self { name, tree }),
            Ok(_) => Err(Failure::usage(format!("source {name}: expected the folder of a source tree"))),
            Err(error) => Err(Failure::usage(format!("source {name}: {error}"))),
        }
    }

    /// The backend that it names, if that comes from the environment.
    fn backend(&self) -> Option<String> {
        let text = fs::read_to_string(self.tree.join("pyproject.toml")).unwrap_or_default();
        let pyproject: Pyproject = toml::from_str(&text).ok()?;
        let Some(table) = pyproject.build_system else { return Some(Self::LEGACY.into()) };
        if table.backend_path.is_some() {
            return None;
        }
        Some(table.build_backend.unwrap_or_else(|| Self::LEGACY.into()))
    }

    /// The backend of trees that name none (PEP 517).
    const LEGACY: &str = "setuptools.build_meta:__legacy__";
}

/// A small project for each backend, to be built in the same template before
/// the ones that are checked. Whether it can be built does not matter.
pub fn decoys(projects: &[Project], folder: &Path) -> Result<Vec<Project>, Failure> {
    let backends: BTreeSet<String> = projects.iter().filter_map(Project::backend).collect();
    let make = |(number, backend): (usize, &String)| {
        let tree = folder.join(format!("decoy-{number}"));
        write_decoy(&tree, backend)
            .map_err(|error| Failure::pool(format!("cannot write a project in {}: {error}", tree.display())))?;
        Ok(Project { name: format!("a decoy for {backend}"), tree })
    };
    backends.iter().enumerate().map(make).collect()
}

fn write_decoy(tree: &Path, backend: &str) -> std::io::Result<()> {
    fs::create_dir(tree)?;
    let backend = toml::Value::from(backend);
    let pyproject = format!(
        "[build-system]\nrequires = []\nbuild-backend = {backend}\n\n\
         [project]\nname = \"hookpool-decoy\"\nversion = \"9.9.9\"\ndescription = \"Built before the project in question\"\n"
    );
    fs::write(tree.join("pyproject.toml"), pyproject)?;
    fs::write(tree.join("hookpool_decoy.py"), "\"\"\"Built before the project in question.\"\"\"\n")
}
