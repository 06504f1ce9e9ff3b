//! The tree of a source, unpacked where need be.

use std::io;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{ErrorKind, HookError};

use super::claim::Claim;
use super::errors::invalid_source;
use super::event::Step;
use super::run::Run;
use super::spelling::near_misses;
use super::warning::BuildWarning;
use crate::archive::{UnpackLimits, unpack};
use crate::digest::{self, digest_of_file};
use crate::run_folder::WorkFolder;
use crate::source::Source;
use crate::unblock::unblock;

/// A source tree that can be built, and if it was unpacked its end.
pub(super) struct Tree {
    pub path: PathBuf,
    pub claim: Claim,
    pub unpacked: Option<WorkFolder>,
}

impl Tree {
    /// Removes what was unpacked.
    pub(super) async fn remove(self) {
        if let Some(folder) = self.unpacked {
            folder.remove().await;
        }
    }
}

impl Run<'_> {
    pub(super) async fn tree(&mut self, source: &Source) -> Result<Tree, HookError> {
        Ok(match source {
            Source::SourceArchive(archive) => self.unpack(archive).await?,
            Source::Tree(path) | Source::Wheel(path) => {
                Tree { path: path.clone(), claim: Claim::default(), unpacked: None }
            }
        })
    }

    /// Looks for what is worth a warning.
    pub(super) async fn look_over(&mut self, tree: &Tree) {
        let path = tree.path.clone();
        for miss in unblock(move || near_misses(&path)).await {
            self.warn(BuildWarning::NearMiss(miss));
        }
        // An error only where that is wanted, and then it was looked for before.
        let _ = self.check_python_of(&tree.path, tree.unpacked.is_some()).await;
    }

    pub(super) async fn unpack(&self, archive: &Path) -> Result<Tree, HookError> {
        self.step(Step::Unpacking);
        let (archive, source) = (archive.to_owned(), self.name.to_owned());
        let unpack = move |cancel: &_| {
            let folder = folder_for(&archive)?;
            let path = unpack(&archive, folder.path(), &UnpackLimits::default(), cancel)?;
            expect_project(&source, &archive, &path)?;
            Ok(Tree { claim: Claim::of(&archive, &path), path, unpacked: Some(folder) })
        };
        self.frontend.unblock_unless_interrupted(unpack).await?
    }
}

/// Where an archive is unpacked to. The path is the same each time, because
/// compilers write it into what they make, and caches of theirs look at it.
fn folder_for(archive: &Path) -> Result<WorkFolder, HookError> {
    let failed = |what: &Path, error: io::Error| {
        HookError::at_file(ErrorKind::InvalidSource, &error, format!("{}: {error}", what.display()))
    };
    let digest = digest_of_file(archive).map_err(|error| failed(archive, error))?;
    WorkFolder::of_content("sources", &digest::short(&digest)).map_err(|error| failed(&error.parent, error.source))
}

/// What was unpacked is looked at before anybody is told where it lies.
fn expect_project(source: &Path, archive: &Path, tree: &Path) -> Result<(), HookError> {
    if ["pyproject.toml", "setup.py"].iter().any(|name| tree.join(name).is_file()) {
        return Ok(());
    }
    let (source, archive) = (source.display(), archive.file_name().unwrap_or_default().display());
    Err(invalid_source(format!("{source}: expected pyproject.toml or setup.py at the top of {archive}")))
}
