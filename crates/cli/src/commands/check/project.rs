//! The projects that are checked, and the decoys that run before them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use hookpool_frontend::{Source, UnpackLimits, unpack};
use hookpool_supervisor::BuildSystem;

use crate::exit::Failure;

/// A source tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project {
    /// As the user named it.
    pub name: String,
    pub tree: PathBuf,
    /// The interpreter of its build environment; `None`: the one of the pool.
    pub python: Option<PathBuf>,
}

impl Project {
    /// Finds the source tree of a source; unpacks an archive into `folder`.
    pub fn find(source: &Path, folder: &Path) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("source {}: {error}", source.display()));
        let tree = match Source::find(source).map_err(|error| Failure::usage(error.to_string()))? {
            Source::Tree(tree) => fs::canonicalize(tree).map_err(|error| wrong(&error))?,
            Source::SourceArchive(archive) => {
                let into = tempfile::Builder::new().prefix("source-").tempdir_in(folder);
                // Removed with the folder.
                let into = into.map_err(|error| wrong(&error))?.keep();
                let unpacked = unpack(&archive, &into, &UnpackLimits::default(), &AtomicBool::new(false));
                unpacked.map_err(|error| Failure::usage(error.to_string()))?
            }
            Source::Wheel(_) => {
                return Err(wrong(&"expected a source tree or a source distribution, not a wheel"));
            }
        };
        Ok(Self { name: source.display().to_string(), tree, python: None })
    }

    /// The backend that it names; `None` if the backend is part of the tree.
    fn backend(&self) -> Option<String> {
        let build_system = BuildSystem::read(&self.tree).ok()?;
        let backend = build_system.backend.unwrap_or_else(|| Self::LEGACY.into());
        build_system.backend_path.is_empty().then_some(backend)
    }

    /// The backend of a tree that names none (PEP 517).
    const LEGACY: &str = "setuptools.build_meta:__legacy__";
}

/// A small project for each template, whose hooks run before those of the projects
/// that are checked. Whether they succeed does not matter.
pub fn decoys(projects: &[Project], folder: &Path) -> Result<Vec<Project>, Failure> {
    let templates: BTreeSet<(String, Option<PathBuf>)> =
        projects.iter().filter_map(|project| Some((project.backend()?, project.python.clone()))).collect();
    let make = |(number, (backend, python)): (usize, &(String, Option<PathBuf>))| {
        let tree = folder.join(format!("decoy-{number}"));
        write_decoy(&tree, backend)
            .map_err(|error| Failure::pool(format!("cannot write a project in {}: {error}", tree.display())))?;
        Ok(Project { name: format!("decoy {number} for {backend}"), tree, python: python.clone() })
    };
    templates.iter().enumerate().map(make).collect()
}

fn write_decoy(tree: &Path, backend: &str) -> std::io::Result<()> {
    fs::create_dir(tree)?;
    let backend = toml::Value::from(backend);
    let pyproject = format!(
        "[build-system]\nrequires = []\nbuild-backend = {backend}\n\n\
         [project]\nname = \"hookpool-decoy\"\nversion = \"9.9.9\"\ndescription = \"A decoy of hookpool check\"\n"
    );
    fs::write(tree.join("pyproject.toml"), pyproject)?;
    fs::write(tree.join("hookpool_decoy.py"), "\"\"\"A decoy of hookpool check.\"\"\"\n")
}
