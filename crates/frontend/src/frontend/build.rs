//! The steps of a build, in their order: from a source to its product.
//!
//! 1. The metadata that need no hook are read where they are: in an archive's
//!    `PKG-INFO` (PEP 643), or in a wheel. Of many sources, those in archives are read
//!    before their turn, which all else waits for.
//! 2. An archive is unpacked.
//! 3. Its requirements lead to a build environment, which the supervisor asks
//!    for when it is the hook's turn ([`Environments`](crate::Environments)).
//! 4. The hooks run, with the fallbacks of PEP 517 where the backend lacks one.
//! 5. The product is checked: its name and version, its Requires-Python, the
//!    extensions that it requires.
//! 6. It is moved to the output folder.

use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::maybe_done;
use futures_util::poll;
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{ErrorKind, Hook, HookError, Setting};

use super::Frontend;
use super::errors::{inconsistent_metadata, invalid_source, is_raised_by_hook, required_extension, wrong_result};
use super::hook::{Hooks, made_file};
use super::report::{
    AnswerUse, BuildWarning, DeclaredExtension, EnvironmentUse, Fallback, Goal, JobId, Origin, Product, Report, Step,
};
use super::spelling::misspelt_names;
use super::tree::SourceTree;
use crate::answers::{Keeping, TopFiles, is_pure_wheel};
use crate::extensions::WhenRequired;
use crate::metadata::{
    CoreMetadata, Described, NotStatic, built_wheel_metadata, declared_requires_python, describe_built_wheel,
    describe_folder, describe_wheel, excludes, names_paths_in, static_metadata,
};
use crate::output::{OutputFile, OutputFolder};
use crate::run_folder::WorkFolder;
use crate::source::{SdistName, Source};

/// A source that is being built, and what there is to report so far.
pub(super) struct Build<'a> {
    frontend: &'a Frontend,
    job: JobId,
    /// The source, as the user named it.
    name: &'a Path,
    hooks: Hooks<'a>,
    not_static: Option<NotStatic>,
    /// Whether the editable wheel names paths in the environment.
    needs_environment: bool,
    kept_wheel: Option<OutputFile>,
    extensions: Option<Vec<DeclaredExtension>>,
    fallback: Option<Fallback>,
    warnings: Vec<BuildWarning>,
    /// When its turn came, or the look at it began.
    began: Instant,
}

impl<'a> Build<'a> {
    pub fn new(frontend: &'a Frontend, job: JobId, name: &'a Path) -> Self {
        Self {
            frontend,
            job,
            name,
            hooks: Hooks::new(frontend, job, name),
            not_static: None,
            needs_environment: false,
            kept_wheel: None,
            extensions: None,
            fallback: None,
            warnings: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Runs all steps.
    pub async fn run<T>(
        &mut self,
        source: &Source,
        goal: &Goal,
        turn: impl Future<Output = Result<T, HookError>>,
    ) -> Result<Product, HookError> {
        let mut turn = pin!(maybe_done(turn));
        let tree = self.source_tree(source, goal)?;
        if let Some(tree) = &tree {
            self.hooks.begin_needs();
            if let Some(metadata) = self.look(tree, goal, turn.as_mut()).await? {
                return Ok(Product::Metadata(Box::new(metadata), Origin::Static));
            }
        }
        if poll!(turn.as_mut()).is_pending() {
            turn.as_mut().await;
            self.began = Instant::now();
        }
        let _turn = turn.as_mut().take_output().transpose()?;
        let Some(tree) = tree else { return self.wheel_metadata(source.path()).await };
        if self.frontend.settings.check_requires_python {
            tree.path().await?;
            if let Some(files) = tree.known_top_files().await {
                self.check_declared_python(&tree, files).await?;
            }
        }
        let outcome = self.build_tree(&tree, goal).await;
        // Only now: hooks do not wait for what leads to warnings alone. If the system refused
        // something, that may be to read the tree.
        if !matches!(&outcome, Err(error) if error.kind == ErrorKind::SystemRefused) {
            self.look_for_mistakes(&tree).await;
        }
        let stays = outcome.as_ref().is_ok_and(has_compiled_code);
        tree.close(stays).await;
        outcome.map_err(|error| self.with_python_hint(error))
    }

    /// The source tree, or that in an archive; `None` for a wheel.
    fn source_tree(&self, source: &Source, goal: &Goal) -> Result<Option<SourceTree<'a>>, HookError> {
        match (source, goal) {
            (Source::Wheel(_), Goal::Metadata) => Ok(None),
            (Source::Wheel(wheel), _) => Err(invalid_source(format!(
                "{}: nothing is built from a wheel: expected a source tree or a source distribution",
                wheel.display()
            ))),
            (Source::SourceArchive(archive), Goal::Editable { .. }) => Err(invalid_source(format!(
                "{}: an editable wheel points at a source tree: expected a folder",
                archive.display()
            ))),
            (_, Goal::Wheel { .. }) if self.names_build_folder() => Ok(Some(self.tree(source).reusing_builds())),
            _ => Ok(Some(self.tree(source))),
        }
    }

    /// Does what may be done before its `turn`, for which it asks first. Returns its metadata if
    /// they are static.
    async fn look(
        &mut self,
        tree: &SourceTree<'_>,
        goal: &Goal,
        mut turn: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<CoreMetadata>, HookError> {
        let has_turn = poll!(turn.as_mut()).is_ready();
        let wants_metadata = self.frontend.settings.static_metadata && matches!(goal, Goal::Metadata);
        if !wants_metadata && (has_turn || self.hooks.needs.is_none()) {
            return Ok(None);
        }
        // A file may take long, or hang: a source whose turn has come does not wait for the look
        // at another one.
        let _look = match has_turn {
            true => None,
            false => tokio::select! {
                biased;
                () = turn.as_mut() => None,
                look = self.frontend.looks.acquire() => look.ok(),
            },
        };
        self.began = Instant::now();
        if wants_metadata && let Some(metadata) = self.static_metadata(tree, has_turn).await? {
            return Ok(Some(metadata));
        }
        if !has_turn && self.hooks.needs.is_some() {
            let files = tokio::select! {
                biased;
                () = turn => None,
                files = tree.top_files_ahead() => files,
            };
            if let Some(files) = files {
                self.hooks.set_needs(&files);
                self.frontend.retire_unneeded().await;
            }
        }
        Ok(None)
    }

    /// Whether the config settings name a build folder, as scikit-build-core and meson-python
    /// take it: their build tools notice what has changed. setuptools does not notice all.
    fn names_build_folder(&self) -> bool {
        let settings = self.frontend.settings.config_settings.as_ref();
        settings.is_some_and(|settings| ["build-dir", "builddir"].iter().any(|name| settings.contains_key(*name)))
    }

    async fn build_tree(&mut self, tree: &SourceTree<'_>, goal: &Goal) -> Result<Product, HookError> {
        match goal {
            Goal::Metadata => self.prepare_metadata(tree).await,
            // What was unpacked is a source distribution already.
            Goal::Wheel { into, via_sdist: true } if !tree.is_archive() => {
                self.build_wheel_via_sdist(tree, into).await.map(Product::File)
            }
            Goal::Wheel { into, .. } => self.build_wheel(tree, into).await.map(Product::File),
            Goal::Editable { into } => self.build_editable(tree, into).await.map(Product::File),
            Goal::Sdist { into } => match self.build_sdist(tree, draft(into).await?).await? {
                Some((draft, name)) => {
                    // A source distribution that cannot be unpacked is not published.
                    self.unpack_sdist(&draft, &name).await?.close(false).await;
                    self.publish(into, Hook::BuildSdist, draft, name).await.map(Product::File)
                }
                None => Ok(Product::SdistUnsupported),
            },
        }
    }

    /// What is to be reported.
    pub fn report(mut self, outcome: Result<Product, HookError>) -> Report {
        let environment = self.environment_use();
        for run in &self.hooks.runs {
            if let AnswerUse::New(Keeping::Mismatch(difference)) = &run.answer {
                self.warnings.push(BuildWarning::WrongAnswer { hook: run.hook, difference: difference.clone() });
            }
        }
        let Self { hooks, not_static, kept_wheel, extensions, fallback, warnings, began, .. } = self;
        let (hooks, took) = (hooks.runs, began.elapsed());
        Report { outcome, hooks, not_static, environment, kept_wheel, extensions, fallback, warnings, took }
    }
}

/// Metadata that need no hook.
impl Build<'_> {
    /// The metadata in the `PKG-INFO` of an archive, if every build would give the
    /// same.
    async fn static_metadata(
        &mut self,
        tree: &SourceTree<'_>,
        has_turn: bool,
    ) -> Result<Option<CoreMetadata>, HookError> {
        if has_turn && tree.is_archive() {
            self.frontend.step(self.job, Step::Unpacking);
        }
        let Some(files) = tree.packed_top_files().await? else {
            self.not_static = Some(NotStatic::Tree);
            return Ok(None);
        };
        // The files may be long.
        let judge = move || static_metadata(files.pkg_info.as_deref(), files.pyproject.as_deref(), files.has_setup);
        let found = unblock(judge).await;
        let claim = tree.claim().await;
        let found = found.and_then(|metadata| match claim.check((&metadata.name, &metadata.version)) {
            Ok(_) => Ok(metadata),
            Err(_) => Err(NotStatic::OtherArchive),
        });
        match found {
            Ok(metadata) => Ok(Some(metadata)),
            Err(reason) => {
                self.not_static = Some(reason);
                Ok(None)
            }
        }
    }

    /// The metadata of a wheel, or those of its source, if the wheel requires
    /// extensions that are not supported and the policy names a source.
    async fn wheel_metadata(&mut self, wheel: &Path) -> Result<Product, HookError> {
        let path = wheel.to_owned();
        let described = unblock(move || describe_wheel(&path)).await?;
        let policy = &self.frontend.settings.extensions;
        let missing = policy.missing(&described.extensions);
        let source = match policy.when_required {
            WhenRequired::UseSource if !missing.is_empty() => policy.source_of(&described.metadata.name).cloned(),
            _ => None,
        };
        let Some(source) = source else { return self.accept(described, Origin::Wheel) };
        self.fallback =
            Some(Fallback { wheel: wheel.to_owned(), source: source.path().to_owned(), extensions: missing });
        // Only hooks tell of extensions: a `PKG-INFO` does not have them.
        let tree = self.tree(&source);
        self.hooks.begin_needs();
        let outcome = self.prepare_metadata(&tree).await;
        tree.close(false).await;
        let product = outcome?;
        match &product {
            Product::Metadata(metadata, _) if !metadata.is_of_the_same(&described.metadata) => {
                Err(invalid_source(format!(
                    "{} is {} {}: expected the source of the wheel, {} {}",
                    source.path().display(),
                    metadata.name,
                    metadata.version,
                    described.metadata.name,
                    described.metadata.version
                )))
            }
            _ => Ok(product),
        }
    }
}

/// The source tree.
impl<'a> Build<'a> {
    fn tree(&self, source: &Source) -> SourceTree<'a> {
        match source {
            Source::SourceArchive(archive) => {
                SourceTree::archive(self.frontend, self.job, self.name, archive.clone(), false)
            }
            Source::Tree(path) | Source::Wheel(path) => {
                SourceTree::folder(self.frontend, self.job, self.name, path.clone())
            }
        }
    }

    /// The tree in the source distribution that a hook made; unpacked, since one that
    /// cannot be unpacked is not a result.
    async fn unpack_sdist(&self, draft: &WorkFolder, name: &str) -> Result<SourceTree<'a>, HookError> {
        let tree = SourceTree::archive(self.frontend, self.job, self.name, draft.path().join(name), true);
        match tree.path().await {
            Ok(_) => Ok(tree),
            Err(error) if error.kind == ErrorKind::InvalidSource => {
                Err(wrong_result(Hook::BuildSdist, draft.path(), error.message))
            }
            Err(error) => Err(error),
        }
    }

    /// Adds warnings for names in `pyproject.toml` that are misspelt, and for a
    /// Python that the project does not support.
    async fn look_for_mistakes(&mut self, tree: &SourceTree<'_>) {
        let Some(files) = tree.known_top_files().await else { return };
        misspelt_names(files.pyproject.as_deref().unwrap_or_default()).into_iter().for_each(|it| self.warn(it));
        // It can only be an error with `check_requires_python`, and then the
        // check was made before.
        let _ = self.check_declared_python(tree, files).await;
    }
}

/// The hooks of each goal.
impl Build<'_> {
    /// `prepare_metadata_for_build_wheel`, or `build_wheel` if the backend lacks
    /// it.
    async fn prepare_metadata(&mut self, tree: &SourceTree<'_>) -> Result<Product, HookError> {
        const PREPARE: Hook = Hook::PrepareMetadataForBuildWheel;
        let requirements = self.hooks.additional_requirements(tree, Hook::GetRequiresForBuildWheel).await?;
        let folder = self.frontend.work_folder().await?;
        if let Some(value) = self.hooks.run_optional(tree, PREPARE, &requirements, Some(folder.path())).await? {
            let (_, path) = made_file(PREPARE, &value, folder.path()).await?;
            let described = unblock(move || describe_folder(&path)).await;
            let described = described.map_err(|error| wrong_result(PREPARE, folder.path(), error))?;
            self.check(tree, &described.metadata).await?;
            return self.accept(described, Origin::PrepareMetadata);
        }
        let keep = self.frontend.settings.keep_wheels.clone();
        let folder = match &keep {
            Some(keep) => draft(keep).await?,
            None => self.frontend.work_folder().await?,
        };
        let value = self.hooks.run(tree, Hook::BuildWheel, &requirements, Some(folder.path())).await?;
        let (name, wheel) = made_file(Hook::BuildWheel, &value, folder.path()).await?;
        let described = unblock(move || describe_built_wheel(&wheel)).await;
        let described = described.map_err(|error| wrong_result(Hook::BuildWheel, folder.path(), error))?;
        self.check(tree, &described.metadata).await?;
        let product = self.accept(described, Origin::BuiltWheel)?;
        if let Some(keep) = keep {
            self.kept_wheel = Some(self.publish(&keep, Hook::BuildWheel, folder, name).await?);
        }
        Ok(product)
    }

    async fn build_wheel(&mut self, tree: &SourceTree<'_>, into: &Arc<OutputFolder>) -> Result<OutputFile, HookError> {
        let requirements = self.hooks.additional_requirements(tree, Hook::GetRequiresForBuildWheel).await?;
        let draft = draft(into).await?;
        let value = self.hooks.run(tree, Hook::BuildWheel, &requirements, Some(draft.path())).await?;
        let (name, wheel) = made_file(Hook::BuildWheel, &value, draft.path()).await?;
        self.check_wheel(tree, Hook::BuildWheel, wheel, &draft).await?;
        self.publish(into, Hook::BuildWheel, draft, name).await
    }

    async fn build_wheel_via_sdist(
        &mut self,
        tree: &SourceTree<'_>,
        into: &Arc<OutputFolder>,
    ) -> Result<OutputFile, HookError> {
        // PEP 517: if the backend says that it cannot make a source distribution
        // here, the wheel is built from the tree itself.
        let Some((draft, name)) = self.build_sdist(tree, self.frontend.work_folder().await?).await? else {
            return self.build_wheel(tree, into).await;
        };
        let unpacked = self.unpack_sdist(&draft, &name).await?;
        let outcome = self.build_wheel(&unpacked, into).await;
        unpacked.close(false).await;
        outcome
    }

    async fn build_editable(
        &mut self,
        tree: &SourceTree<'_>,
        into: &Arc<OutputFolder>,
    ) -> Result<OutputFile, HookError> {
        const BUILD: Hook = Hook::BuildEditable;
        let requirements = self.hooks.additional_requirements(tree, Hook::GetRequiresForBuildEditable).await?;
        let draft = draft(into).await?;
        let value = self.hooks.run_optional(tree, BUILD, &requirements, Some(draft.path())).await?;
        let Some(value) = value else {
            return Err(HookError::new(
                ErrorKind::UnsupportedHook,
                format!("{}: its build backend makes no editable wheels (PEP 660)", tree.path().await?.display()),
            ));
        };
        let (name, wheel) = made_file(BUILD, &value, draft.path()).await?;
        if let Some(environment) = &self.hooks.environment {
            let (wheel, folders) = (wheel.clone(), environment.folders());
            self.needs_environment = unblock(move || names_paths_in(&wheel, &folders)).await;
        }
        self.check_wheel(tree, BUILD, wheel, &draft).await?;
        self.publish(into, BUILD, draft, name).await
    }

    /// The name of the source distribution in `draft`; `None` if the backend says
    /// that it cannot make one.
    async fn build_sdist(
        &mut self,
        tree: &SourceTree<'_>,
        draft: WorkFolder,
    ) -> Result<Option<(WorkFolder, String)>, HookError> {
        let built = async {
            let requirements = self.hooks.additional_requirements(tree, Hook::GetRequiresForBuildSdist).await?;
            self.hooks.run(tree, Hook::BuildSdist, &requirements, Some(draft.path())).await
        };
        let value = match built.await {
            Err(error) if error.unsupported_operation => return Ok(None),
            value => value?,
        };
        let (name, path) = made_file(Hook::BuildSdist, &value, draft.path()).await?;
        if let Some(built) = SdistName::readings(&path).last() {
            self.check_claim(tree, &built.name, &built.version).await?;
        }
        Ok(Some((draft, name)))
    }
}

/// The checks of a product.
impl Build<'_> {
    async fn check_wheel(
        &mut self,
        tree: &SourceTree<'_>,
        hook: Hook,
        wheel: PathBuf,
        draft: &WorkFolder,
    ) -> Result<(), HookError> {
        let metadata = unblock(move || built_wheel_metadata(&wheel)).await;
        let metadata = metadata.map_err(|error| wrong_result(hook, draft.path(), error))?;
        self.check(tree, &metadata).await
    }

    async fn check(&mut self, tree: &SourceTree<'_>, metadata: &CoreMetadata) -> Result<(), HookError> {
        self.check_claim(tree, &metadata.name, &metadata.version).await?;
        self.check_python(metadata.requires_python.as_deref()).await
    }

    /// Whether the name and version are those that the source claims.
    async fn check_claim(&mut self, tree: &SourceTree<'_>, name: &str, version: &str) -> Result<(), HookError> {
        match tree.claim().await.check((name, version)) {
            Ok(warning) => {
                warning.into_iter().for_each(|warning| self.warn(warning));
                Ok(())
            }
            Err(other) => Err(inconsistent_metadata(self.name, &other)),
        }
    }

    /// Checks the Requires-Python that the tree declares, before any hook ran.
    async fn check_declared_python(&mut self, tree: &SourceTree<'_>, files: TopFiles) -> Result<(), HookError> {
        let pkg_info = files.pkg_info.filter(|_| tree.is_archive());
        let declared = declared_requires_python(files.pyproject.as_deref(), pkg_info.as_deref());
        self.check_python(declared.as_deref()).await
    }

    /// Whether Requires-Python allows the interpreter: a warning, or an error with
    /// `check_requires_python`.
    async fn check_python(&mut self, requires_python: Option<&str>) -> Result<(), HookError> {
        let Some(requires_python) = requires_python else { return Ok(()) };
        let python = self.frontend.settings.python.as_deref();
        // The hook that needs the interpreter reports why it cannot be used.
        let Ok(interpreter) = self.frontend.supervisor.interpreter(python).await else { return Ok(()) };
        if !excludes(requires_python, interpreter.version) || self.unsupported_python().is_some() {
            return Ok(());
        }
        let (requires_python, version) = (requires_python.to_owned(), interpreter.version);
        let warning = BuildWarning::UnsupportedPython { requires_python, version };
        if self.frontend.settings.check_requires_python {
            let error = HookError::new(ErrorKind::UnsupportedPython, format!("{}: {warning}", self.name.display()));
            return Err(error.with_hint("use an interpreter that it supports").with_setting(Setting::Interpreter));
        }
        self.warn(warning);
        Ok(())
    }

    fn unsupported_python(&self) -> Option<&BuildWarning> {
        self.warnings.iter().find(|warning| matches!(warning, BuildWarning::UnsupportedPython { .. }))
    }

    /// If the project does not support the interpreter, that is a better hint for
    /// a failed hook than one from the hook's output.
    fn with_python_hint(&self, error: HookError) -> HookError {
        match self.unsupported_python() {
            Some(warning) if error.hint.is_none() || is_raised_by_hook(error.kind) => {
                error.with_hint(warning.to_string()).with_setting(Setting::Interpreter)
            }
            _ => error,
        }
    }

    /// Notes the extensions for the report, and refuses metadata that require one
    /// that is not supported.
    fn accept(&mut self, described: Described, origin: Origin) -> Result<Product, HookError> {
        let policy = &self.frontend.settings.extensions;
        let missing = policy.missing(&described.extensions);
        let declared = described.extensions.into_iter().map(|extension| {
            let supported = policy.supports(&extension.name);
            DeclaredExtension { extension, supported }
        });
        self.extensions = Some(declared.collect());
        if missing.is_empty() {
            return Ok(Product::Metadata(Box::new(described.metadata), origin));
        }
        let source = self.fallback.as_ref().map_or(self.name, |fallback| &fallback.source);
        Err(required_extension(source, &described.metadata, &missing, origin, policy.when_required))
    }
}

/// The output, and the report.
impl Build<'_> {
    /// Moves a finished file to its place in the output folder.
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

    /// Adds a warning to the report, unless it is there already.
    fn warn(&mut self, warning: BuildWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The environment of the last hook, and what hooks have changed in theirs.
    fn environment_use(&mut self) -> Option<EnvironmentUse> {
        let mut modified = std::mem::take(&mut self.hooks.modified);
        modified.sort_unstable();
        modified.dedup();
        let environment = self.hooks.environment.as_ref()?;
        Some(EnvironmentUse {
            python: environment.python().to_owned(),
            id: environment.content_id().to_owned(),
            made: environment.was_made(),
            modified,
            needed: self.needs_environment,
        })
    }
}

/// Whether a wheel has compiled code: building it again may take less time in the same
/// folder.
fn has_compiled_code(product: &Product) -> bool {
    matches!(product, Product::File(file) if !is_pure_wheel(&file.path))
}

/// An empty folder for a hook to write to, on the file system of the output folder.
async fn draft(into: &Arc<OutputFolder>) -> Result<WorkFolder, HookError> {
    let into = into.clone();
    Ok(unblock(move || into.draft()).await?)
}
