//! From a source to what is wanted of it, with the fallbacks of PEP 517.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::{ErrorKind, Hook, HookError};
use serde_json::Value;
use tempfile::TempDir;

use super::errors::{invalid_source, wrong_result};
use super::event::Step;
use super::goal::{Goal, Origin, Product};
use super::run::{Folders, Run, made};
use super::unblock::{unblock, unblock_until_dropped};
use crate::archive::{UnpackLimits, unpack};
use crate::metadata::{folder_metadata, wheel_metadata};
use crate::output::{OutputFile, OutputFolder};
use crate::source::Source;

/// A source tree that can be built.
struct Tree {
    path: PathBuf,
    /// The folder around it, if it was unpacked.
    unpacked: Option<TempDir>,
}

impl Tree {
    /// Removes what was unpacked. Dropping would do so too, and hold up the
    /// event loop: trees of thousands of files are common.
    async fn remove(self) {
        if let Some(folder) = self.unpacked {
            unblock(move || drop(folder)).await;
        }
    }
}

impl Run<'_> {
    /// Does what is wanted. Metadata that need no hook were looked for before.
    pub async fn reach(&mut self, source: &Source, goal: &Goal) -> Result<Product, HookError> {
        if let Source::Wheel(wheel) = source {
            return self.read_wheel(wheel, goal).await;
        }
        if let (Source::SourceArchive(archive), Goal::Editable { .. }) = (source, goal) {
            let message =
                format!("{}: an editable wheel points at a source tree: expected a folder", archive.display());
            return Err(HookError::new(ErrorKind::InvalidSource, message));
        }
        let tree = self.tree(source).await?;
        let product = self.build_tree(&tree, goal).await;
        tree.remove().await;
        product
    }

    async fn build_tree(&mut self, tree: &Tree, goal: &Goal) -> Result<Product, HookError> {
        match goal {
            Goal::Metadata => self.metadata(&tree.path).await,
            Goal::Wheel { into, via_sdist: true } if tree.unpacked.is_none() => {
                self.wheel_via_sdist(&tree.path, into).await.map(Product::File)
            }
            Goal::Wheel { into, .. } => self.wheel(&tree.path, into).await.map(Product::File),
            Goal::Sdist { into } => match self.sdist(&tree.path, into.draft()?).await? {
                Some((draft, name)) => self.publish(into, draft, name).await.map(Product::File),
                None => Ok(Product::SdistUnsupported),
            },
            Goal::Editable { into } => self.editable(&tree.path, into).await.map(Product::File),
        }
    }

    async fn read_wheel(&self, wheel: &Path, goal: &Goal) -> Result<Product, HookError> {
        match goal {
            Goal::Metadata => {
                let path = wheel.to_owned();
                let metadata = unblock(move || wheel_metadata(&path)).await.map_err(invalid_source)?;
                Ok(Product::Metadata(Box::new(metadata), Origin::Wheel))
            }
            _ => Err(HookError::new(
                ErrorKind::InvalidSource,
                format!(
                    "{}: nothing is built from a wheel: expected a source tree or a source distribution",
                    wheel.display()
                ),
            )),
        }
    }

    async fn tree(&self, source: &Source) -> Result<Tree, HookError> {
        match source {
            Source::SourceArchive(archive) => self.unpack(archive).await,
            Source::Tree(path) | Source::Wheel(path) => Ok(Tree { path: path.clone(), unpacked: None }),
        }
    }

    async fn unpack(&self, archive: &Path) -> Result<Tree, HookError> {
        self.step(Step::Unpacking);
        let (folder, archive) = (self.scratch()?, archive.to_owned());
        let (folder, unpacked) = unblock_until_dropped(move |cancel| {
            let unpacked = unpack(&archive, folder.path(), &UnpackLimits::default(), cancel);
            (folder, unpacked)
        })
        .await;
        Ok(Tree { path: unpacked?, unpacked: Some(folder) })
    }

    /// `prepare_metadata_for_build_wheel`, or a wheel where the backend lacks it.
    async fn metadata(&mut self, tree: &Path) -> Result<Product, HookError> {
        const PREPARE: Hook = Hook::PrepareMetadataForBuildWheel;
        let place = self.prepare(tree, Hook::GetRequiresForBuildWheel).await?;
        let folder = self.scratch()?;
        let folders = Folders { metadata: Some(folder.path()), ..Folders::default() };
        if let Some(value) = self.optional(&place, PREPARE, folders).await? {
            let (_, path) = made(PREPARE, &value, folder.path()).await?;
            let metadata = unblock(move || folder_metadata(&path)).await;
            let metadata = metadata.map_err(|error| wrong_result(PREPARE, error))?;
            return Ok(Product::Metadata(Box::new(metadata), Origin::PrepareMetadata));
        }
        let keep = self.frontend.shared.settings.keep_wheels.clone();
        let folder = keep.as_ref().map_or_else(|| self.scratch(), |keep| Ok(keep.draft()?))?;
        let folders = Folders { wheel: Some(folder.path()), ..Folders::default() };
        let value = self.hook(&place, Hook::BuildWheel, folders).await?;
        let (name, wheel) = made(Hook::BuildWheel, &value, folder.path()).await?;
        let metadata = unblock(move || wheel_metadata(&wheel)).await;
        let metadata = metadata.map_err(|error| wrong_result(Hook::BuildWheel, error))?;
        if let Some(keep) = keep {
            self.kept_wheel = Some(self.publish(&keep, folder, name).await?);
        }
        Ok(Product::Metadata(Box::new(metadata), Origin::BuiltWheel))
    }

    async fn wheel(&mut self, tree: &Path, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        let place = self.prepare(tree, Hook::GetRequiresForBuildWheel).await?;
        let draft = into.draft()?;
        let folders = Folders { wheel: Some(draft.path()), ..Folders::default() };
        let value = self.hook(&place, Hook::BuildWheel, folders).await?;
        self.finish(Hook::BuildWheel, &value, into, draft).await
    }

    async fn wheel_via_sdist(&mut self, tree: &Path, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        // PEP 517: a backend that cannot make a source distribution here says
        // so, and the wheel is built from the tree itself.
        let Some((draft, name)) = self.sdist(tree, self.scratch()?).await? else {
            return self.wheel(tree, into).await;
        };
        let unpacked = self.unpack(&draft.path().join(name)).await?;
        let wheel = self.wheel(&unpacked.path, into).await;
        unpacked.remove().await;
        wheel
    }

    /// The source distribution in its folder; none where the backend says that
    /// it cannot.
    async fn sdist(&mut self, tree: &Path, draft: TempDir) -> Result<Option<(TempDir, String)>, HookError> {
        const UNSUPPORTED: &[Hook] = &[Hook::BuildSdist, Hook::GetRequiresForBuildSdist];
        let outcome = match self.prepare(tree, Hook::GetRequiresForBuildSdist).await {
            Ok(place) => {
                let folders = Folders { sdist: Some(draft.path()), ..Folders::default() };
                self.hook(&place, Hook::BuildSdist, folders).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(value) => {
                let (name, _) = made(Hook::BuildSdist, &value, draft.path()).await?;
                Ok(Some((draft, name)))
            }
            Err(error) if error.unsupported_operation => {
                debug_assert!(self.hooks.last().is_some_and(|run| UNSUPPORTED.contains(&run.hook)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn editable(&mut self, tree: &Path, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        let place = self.prepare(tree, Hook::GetRequiresForBuildEditable).await?;
        let draft = into.draft()?;
        let folders = Folders { wheel: Some(draft.path()), ..Folders::default() };
        match self.optional(&place, Hook::BuildEditable, folders).await? {
            Some(value) => self.finish(Hook::BuildEditable, &value, into, draft).await,
            None => Err(HookError::new(
                ErrorKind::UnsupportedHook,
                format!("{}: its build backend makes no editable wheels (PEP 660)", tree.display()),
            )),
        }
    }

    async fn finish(
        &self,
        hook: Hook,
        value: &Value,
        into: &Arc<OutputFolder>,
        draft: TempDir,
    ) -> Result<OutputFile, HookError> {
        let (name, _) = made(hook, value, draft.path()).await?;
        self.publish(into, draft, name).await
    }

    async fn publish(&self, into: &Arc<OutputFolder>, draft: TempDir, name: String) -> Result<OutputFile, HookError> {
        let (into, source) = (into.clone(), self.name.to_owned());
        let published = unblock(move || into.publish(&draft.path().join(&name), &name, &source)).await;
        Ok(published?)
    }
}
