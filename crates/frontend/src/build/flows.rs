//! From a source to what is wanted of it, with the fallbacks of PEP 517.

use std::path::Path;
use std::sync::Arc;

use hookpool_supervisor::{ErrorKind, Hook, HookError};
use serde_json::Value;

use super::errors::{inconsistent_metadata, invalid_source, wrong_result};
use super::goal::{Goal, Origin, Product};
use super::named_paths::names_paths_in;
use super::run::{Folders, Run, made};
use super::tree::Tree;
use crate::metadata::{CoreMetadata, built_wheel_metadata, describe_built_wheel, describe_folder};
use crate::output::{OutputFile, OutputFolder};
use crate::run_folder::WorkFolder;
use crate::source::{SdistName, Source};
use crate::unblock::unblock;

impl Run<'_> {
    /// Does what is wanted. Metadata that need no hook were looked for before.
    pub async fn reach(&mut self, source: &Source, goal: &Goal) -> Result<Product, HookError> {
        if let Source::Wheel(wheel) = source {
            return match goal {
                Goal::Metadata => self.wheel_metadata(wheel).await,
                _ => Err(invalid_source(format!(
                    "{}: nothing is built from a wheel: expected a source tree or a source distribution",
                    wheel.display()
                ))),
            };
        }
        if let (Source::SourceArchive(archive), Goal::Editable { .. }) = (source, goal) {
            return Err(invalid_source(format!(
                "{}: an editable wheel points at a source tree: expected a folder",
                archive.display()
            )));
        }
        let tree = self.tree(source).await?;
        if self.frontend.shared.settings.check_requires_python {
            self.check_python_of(&tree.path, tree.unpacked.is_some()).await?;
        }
        let outcome = self.reach_from(&tree, goal).await;
        // The hooks do not wait for what only warns.
        self.look_over(&tree).await;
        tree.remove().await;
        outcome.map_err(|error| self.with_python_hint(error))
    }

    async fn reach_from(&mut self, tree: &Tree, goal: &Goal) -> Result<Product, HookError> {
        match goal {
            Goal::Metadata => self.metadata(tree).await,
            // What was unpacked is a source distribution already.
            Goal::Wheel { into, via_sdist: true } if tree.unpacked.is_none() => {
                self.wheel_via_sdist(tree, into).await.map(Product::File)
            }
            Goal::Wheel { into, .. } => self.wheel(tree, into).await.map(Product::File),
            Goal::Sdist { into } => match self.sdist(tree, draft(into).await?).await? {
                Some((draft, name)) => {
                    // Nobody gets a source distribution that cannot be built.
                    self.unpack_made(&draft, &name).await?.remove().await;
                    self.publish(into, Hook::BuildSdist, draft, name).await.map(Product::File)
                }
                None => Ok(Product::SdistUnsupported),
            },
            Goal::Editable { into } => self.editable(tree, into).await.map(Product::File),
        }
    }

    /// `prepare_metadata_for_build_wheel`, or a wheel where the backend lacks it.
    pub(super) async fn metadata(&mut self, tree: &Tree) -> Result<Product, HookError> {
        const PREPARE: Hook = Hook::PrepareMetadataForBuildWheel;
        let place = self.prepare(&tree.path, Hook::GetRequiresForBuildWheel).await?;
        let folder = self.scratch().await?;
        let folders = Folders { metadata: Some(folder.path()), ..Folders::default() };
        if let Some(value) = self.optional(&place, PREPARE, folders).await? {
            let (_, path) = made(PREPARE, &value, folder.path()).await?;
            let described = unblock(move || describe_folder(&path)).await;
            let described = described.map_err(|error| wrong_result(PREPARE, folder.path(), error))?;
            self.check(tree, &described.metadata).await?;
            return self.accept(described, Origin::PrepareMetadata);
        }
        let keep = self.frontend.shared.settings.keep_wheels.clone();
        let folder = match &keep {
            Some(keep) => draft(keep).await?,
            None => self.scratch().await?,
        };
        let folders = Folders { wheel: Some(folder.path()), ..Folders::default() };
        let value = self.hook(&place, Hook::BuildWheel, folders).await?;
        let (name, wheel) = made(Hook::BuildWheel, &value, folder.path()).await?;
        let described = unblock(move || describe_built_wheel(&wheel)).await;
        let described = described.map_err(|error| wrong_result(Hook::BuildWheel, folder.path(), error))?;
        self.check(tree, &described.metadata).await?;
        let product = self.accept(described, Origin::BuiltWheel)?;
        if let Some(keep) = keep {
            self.kept_wheel = Some(self.publish(&keep, Hook::BuildWheel, folder, name).await?);
        }
        Ok(product)
    }

    async fn wheel(&mut self, tree: &Tree, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        let place = self.prepare(&tree.path, Hook::GetRequiresForBuildWheel).await?;
        let draft = draft(into).await?;
        let folders = Folders { wheel: Some(draft.path()), ..Folders::default() };
        let value = self.hook(&place, Hook::BuildWheel, folders).await?;
        self.finish(tree, Hook::BuildWheel, &value, into, draft).await
    }

    async fn wheel_via_sdist(&mut self, tree: &Tree, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        // PEP 517: a backend that cannot make a source distribution here says
        // so, and the wheel is built from the tree itself.
        let Some((draft, name)) = self.sdist(tree, self.scratch().await?).await? else {
            return self.wheel(tree, into).await;
        };
        let unpacked = self.unpack_made(&draft, &name).await?;
        let outcome = self.wheel(&unpacked, into).await;
        unpacked.remove().await;
        outcome
    }

    /// Unpacks what a hook has made.
    async fn unpack_made(&self, draft: &WorkFolder, name: &str) -> Result<Tree, HookError> {
        let unpacked = self.unpack(&draft.path().join(name)).await;
        unpacked.map_err(|error| match error.kind {
            ErrorKind::InvalidSource => wrong_result(Hook::BuildSdist, draft.path(), error.message),
            _ => error,
        })
    }

    /// The source distribution in its folder; none where the backend says that
    /// it cannot.
    async fn sdist(&mut self, tree: &Tree, draft: WorkFolder) -> Result<Option<(WorkFolder, String)>, HookError> {
        match self.sdist_name(tree, draft.path()).await {
            Ok(name) => Ok(Some((draft, name))),
            Err(error) if error.unsupported_operation => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn sdist_name(&mut self, tree: &Tree, draft: &Path) -> Result<String, HookError> {
        let place = self.prepare(&tree.path, Hook::GetRequiresForBuildSdist).await?;
        let folders = Folders { sdist: Some(draft), ..Folders::default() };
        let value = self.hook(&place, Hook::BuildSdist, folders).await?;
        let (name, path) = made(Hook::BuildSdist, &value, draft).await?;
        if let Some(built) = SdistName::readings(&path).last() {
            self.check_name(tree, &built.name, &built.version)?;
        }
        Ok(name)
    }

    async fn editable(&mut self, tree: &Tree, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        let place = self.prepare(&tree.path, Hook::GetRequiresForBuildEditable).await?;
        let draft = draft(into).await?;
        let folders = Folders { wheel: Some(draft.path()), ..Folders::default() };
        match self.optional(&place, Hook::BuildEditable, folders).await? {
            Some(value) => self.finish(tree, Hook::BuildEditable, &value, into, draft).await,
            None => Err(HookError::new(
                ErrorKind::UnsupportedHook,
                format!("{}: its build backend makes no editable wheels (PEP 660)", tree.path.display()),
            )),
        }
    }

    async fn finish(
        &mut self,
        tree: &Tree,
        hook: Hook,
        value: &Value,
        into: &Arc<OutputFolder>,
        draft: WorkFolder,
    ) -> Result<OutputFile, HookError> {
        let (name, path) = made(hook, value, draft.path()).await?;
        if let (Hook::BuildEditable, Some(environment)) = (hook, &self.environment) {
            let (wheel, folder) = (path.clone(), environment.folder().to_owned());
            self.needs_environment = unblock(move || names_paths_in(&wheel, &folder)).await;
        }
        let metadata = unblock(move || built_wheel_metadata(&path)).await;
        let metadata = metadata.map_err(|error| wrong_result(hook, draft.path(), error))?;
        self.check(tree, &metadata).await?;
        self.publish(into, hook, draft, name).await
    }

    /// Whether these metadata are those of the source, and of something that the
    /// interpreter can use.
    async fn check(&mut self, tree: &Tree, metadata: &CoreMetadata) -> Result<(), HookError> {
        self.check_name(tree, &metadata.name, &metadata.version)?;
        self.check_python(metadata.requires_python.as_deref()).await
    }

    /// Whether this name and version are those that the source claims.
    fn check_name(&mut self, tree: &Tree, name: &str, version: &str) -> Result<(), HookError> {
        match tree.claim.check((name, version)) {
            Ok(warning) => {
                warning.into_iter().for_each(|warning| self.warn(warning));
                Ok(())
            }
            Err(other) => Err(inconsistent_metadata(self.name, &other)),
        }
    }

    async fn publish(
        &self,
        into: &Arc<OutputFolder>,
        hook: Hook,
        draft: WorkFolder,
        name: String,
    ) -> Result<OutputFile, HookError> {
        let (into, source) = (into.clone(), self.name.to_owned());
        let published = unblock(move || into.publish(&draft.path().join(&name), hook, &source)).await;
        Ok(published?)
    }
}

/// An empty folder for a hook to write to.
async fn draft(into: &Arc<OutputFolder>) -> Result<WorkFolder, HookError> {
    let into = into.clone();
    Ok(unblock(move || into.draft()).await?)
}
