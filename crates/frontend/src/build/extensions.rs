//! Metadata that declare extensions: what is required has to be supported.

use std::path::Path;

use hookpool_supervisor::{ErrorKind, HookError, Setting, SourceInstead};

use super::errors::invalid_source;
use super::goal::{DeclaredExtension, Fallback, Origin, Product};
use super::run::Run;
use crate::extensions::WhenRequired;
use crate::metadata::{CoreMetadata, Described, describe_wheel};
use crate::source::Source;
use crate::unblock::unblock;

impl Run<'_> {
    /// The metadata of a wheel; those of its source where the wheel requires
    /// what is not supported, and that is wanted.
    pub async fn wheel_metadata(&mut self, wheel: &Path) -> Result<Product, HookError> {
        let path = wheel.to_owned();
        let described = unblock(move || describe_wheel(&path)).await?;
        let policy = &self.frontend.shared.settings.extensions;
        let missing = policy.missing(&described.extensions);
        let source = match policy.when_required {
            WhenRequired::UseSource if !missing.is_empty() => policy.source_of(&described.metadata.name).cloned(),
            _ => None,
        };
        let Some(source) = source else { return self.accept(described, Origin::Wheel) };
        self.fallback =
            Some(Fallback { wheel: wheel.to_owned(), source: source.path().to_owned(), extensions: missing });
        self.source_metadata(&described.metadata, &source).await
    }

    /// By hooks only: a `PKG-INFO` says nothing of extensions.
    async fn source_metadata(&mut self, of_wheel: &CoreMetadata, source: &Source) -> Result<Product, HookError> {
        let tree = self.tree(source).await?;
        let outcome = self.metadata(&tree).await;
        tree.remove().await;
        let product = outcome?;
        match &product {
            Product::Metadata(metadata, _) if !metadata.is_of_the_same(of_wheel) => Err(invalid_source(format!(
                "{} is {} {}: expected the source of the wheel, {} {}",
                source.path().display(),
                metadata.name,
                metadata.version,
                of_wheel.name,
                of_wheel.version
            ))),
            _ => Ok(product),
        }
    }

    /// Notes the extensions for the report; metadata that require one that is
    /// not supported are none that can be given.
    pub fn accept(&mut self, described: Described, origin: Origin) -> Result<Product, HookError> {
        let policy = &self.frontend.shared.settings.extensions;
        let missing = policy.missing(&described.extensions);
        let declared = described.extensions.into_iter().map(|extension| {
            let supported = policy.supports(&extension.name);
            DeclaredExtension { extension, supported }
        });
        self.extensions = Some(declared.collect());
        if missing.is_empty() {
            return Ok(Product::Metadata(Box::new(described.metadata), origin));
        }
        Err(self.refusal(&described.metadata, &missing, origin))
    }

    fn refusal(&self, metadata: &CoreMetadata, missing: &[String], origin: Origin) -> HookError {
        let place = self.fallback.as_ref().map_or(self.name, |fallback| &fallback.source);
        let (plural, are) = if missing.len() == 1 { ("", "is") } else { ("s", "are") };
        let message = format!(
            "{}: {} {} requires the extension{plural} {}, which {are} not supported",
            place.display(),
            metadata.name,
            metadata.version,
            missing.join(", ")
        );
        let source = match (origin, &self.frontend.shared.settings.extensions.when_required) {
            (Origin::Wheel, WhenRequired::Fail) => SourceInstead::NotWanted,
            (Origin::Wheel, WhenRequired::UseSource) => SourceInstead::NotNamed,
            _ => SourceInstead::Impossible,
        };
        let (extension, distribution) = (missing[0].clone(), metadata.name.clone());
        HookError::new(ErrorKind::RequiredExtension, message)
            .with_hint(format!(
                "{extension} can be said to be supported, if what installs {distribution} understands it"
            ))
            .with_setting(Setting::RequiredExtension { extension, distribution, source })
    }
}
