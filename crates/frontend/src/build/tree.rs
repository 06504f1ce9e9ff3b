//! The tree of a source, unpacked where need be.

use std::path::{Path, PathBuf};

use hookpool_supervisor::HookError;

use super::claim::Claim;
use super::errors::invalid_source;
use super::event::Step;
use super::run::Run;
use super::spelling::near_misses;
use super::warning::BuildWarning;
use crate::archive::{UnpackLimits, unpack};
use crate::run_folder::WorkFolder;
use crate::source::Source;
use crate::unblock::{unblock, unblock_until_dropped};

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
        let (folder, archive, source) = (self.scratch().await?, archive.to_owned(), self.name.to_owned());
        let unpack = unblock_until_dropped(move |cancel| {
            let unpacked = unpack(&archive, folder.path(), &UnpackLimits::default(), cancel);
            let unpacked = unpacked.map_err(HookError::from).and_then(|tree| {
                expect_project(&source, &archive, &tree)?;
                Ok((Claim::of(&archive, &tree), tree))
            });
            (folder, unpacked)
        });
        let (folder, unpacked) = self.frontend.unless_interrupted(unpack).await?;
        let (claim, path) = unpacked?;
        Ok(Tree { path, claim, unpacked: Some(folder) })
    }
}

/// What was unpacked is looked at before anybody is told where it lies.
fn expect_project(source: &Path, archive: &Path, tree: &Path) -> Result<(), HookError> {
    if ["pyproject.toml", "setup.py"].iter().any(|name| tree.join(name).is_file()) {
        return Ok(());
    }
    let (source, archive) = (source.display(), archive.file_name().unwrap_or_default().display());
    Err(invalid_source(format!("{source}: expected pyproject.toml or setup.py at the top of {archive}")))
}
