//! The way of one source: its place, its hooks, and what is to be told of them.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::{ErrorKind, Hook, HookError, HookRequest, Response};
use serde_json::Value;

use super::event::{BuildEvent, JobId, Step};
use super::frontend::Frontend;
use super::goal::{DeclaredExtension, EnvironmentUse, Fallback, HookRun};
use super::hints;
use super::warning::BuildWarning;
use crate::environment::{Environment, check_requirement, redact};
use crate::output::OutputFile;
use crate::run_folder::WorkFolder;
use crate::unblock::unblock;

/// A source that is being built.
pub(crate) struct Run<'a> {
    pub frontend: &'a Frontend,
    pub job: JobId,
    /// The source as the user named it.
    pub name: &'a Path,
    /// The hooks so far.
    pub hooks: Vec<HookRun>,
    /// The environment of the last hook.
    pub environment: Option<Environment>,
    /// Whether what was built names paths in it.
    pub needs_environment: bool,
    pub kept_wheel: Option<OutputFile>,
    /// Those of the metadata, where they are known.
    pub extensions: Option<Vec<DeclaredExtension>>,
    pub fallback: Option<Fallback>,
    pub warnings: Vec<BuildWarning>,
}

/// Where hooks run.
#[derive(Clone)]
pub(crate) struct Place {
    pub tree: PathBuf,
    /// What the tree's hooks need beside what it requires itself.
    pub additional: Vec<String>,
}

/// The arguments of a hook that differ from one to the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Folders<'a> {
    pub wheel: Option<&'a Path>,
    pub sdist: Option<&'a Path>,
    pub metadata: Option<&'a Path>,
}

impl<'a> Run<'a> {
    pub fn new(frontend: &'a Frontend, job: JobId, name: &'a Path) -> Self {
        Self {
            frontend,
            job,
            name,
            hooks: Vec::new(),
            environment: None,
            needs_environment: false,
            kept_wheel: None,
            extensions: None,
            fallback: None,
            warnings: Vec::new(),
        }
    }

    pub fn step(&self, step: Step) {
        self.frontend.observe(&BuildEvent::Step { job: self.job, step });
    }

    /// Notes it for the report, once.
    pub fn warn(&mut self, warning: BuildWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// A private folder for as long as it is needed.
    pub async fn scratch(&self) -> Result<WorkFolder, HookError> {
        self.frontend.scratch().await
    }

    /// Finds out what a hook needs in its environment beside what the tree
    /// requires: what the hook `get_requires` asks for (PEP 517).
    pub async fn prepare(&mut self, tree: &Path, get_requires: Hook) -> Result<Place, HookError> {
        let mut place = Place { tree: tree.to_owned(), additional: Vec::new() };
        // Without isolation the environment is the user's business, and so is
        // what hooks would ask for.
        if self.frontend.shared.environments.is_some()
            && let Some(value) = self.optional(&place, get_requires, Folders::default()).await?
        {
            place.additional = requirements(get_requires, &value)?;
        }
        Ok(place)
    }

    /// Runs a hook that PEP 517 leaves to the backend; `None` where the backend
    /// does not have it.
    pub async fn optional(
        &mut self,
        place: &Place,
        hook: Hook,
        folders: Folders<'_>,
    ) -> Result<Option<Value>, HookError> {
        match self.hook(place, hook, folders).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind == ErrorKind::UnsupportedHook => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs a hook and notes how it went.
    pub async fn hook(&mut self, place: &Place, hook: Hook, folders: Folders<'_>) -> Result<Value, HookError> {
        self.step(Step::Hook(hook));
        let shared = &self.frontend.shared;
        let mut request = HookRequest::new(&place.tree, hook);
        let environments = shared.environments.as_ref();
        request.environment =
            environments.map(|environments| environments.for_requests(None, place.additional.clone()));
        request.wheel_directory = folders.wheel.map(Path::to_owned);
        request.sdist_directory = folders.sdist.map(Path::to_owned);
        request.metadata_directory = folders.metadata.map(Path::to_owned);
        request.config_settings = shared.settings.config_settings.clone();
        let ticket = shared.supervisor.submit(request).await;
        let ticket = ticket.map_err(|error| HookError::new(error.kind(), error.to_string()))?;
        let request = ticket.id();
        self.frontend.observe(&BuildEvent::HookSubmitted { job: self.job, hook, request });
        let (response, output) = ticket.with_output().await;
        let (stdout, stderr) = (response.stdout.clone(), response.stderr.clone());
        self.frontend.observe(&BuildEvent::HookAnswered { request, stdout, stderr });
        if let Some(environment) = response.environment.clone() {
            let environment: Arc<dyn Any + Send + Sync> = environment;
            self.environment = environment.downcast_ref::<Environment>().cloned();
        }
        let log = match &shared.logs {
            Some(logs) => logs.keep(self.name, &response, output).await,
            None => None,
        };
        self.note(response, log)
    }

    fn note(&mut self, response: Response, log: Option<PathBuf>) -> Result<Value, HookError> {
        let outcome = response.outcome.map_err(|mut error| {
            let isolated = self.frontend.shared.environments.is_some();
            let outputs = [response.stderr.text(), response.stdout.text()];
            if error.hint.is_none()
                && let Some(hint) = hints::for_failure(&error, &outputs, isolated)
            {
                (error.hint, error.setting) = (Some(hint.text), hint.setting);
            }
            error
        });
        self.hooks.push(HookRun {
            hook: response.hook,
            error: outcome.as_ref().err().map(|error| error.kind),
            worker: response.worker,
            timing: response.timing,
            stdout: response.stdout,
            stderr: response.stderr,
            log,
        });
        outcome
    }

    /// What is to be told of the environment, its seal included: whether hooks
    /// have changed it.
    pub async fn environment_use(&self) -> Option<EnvironmentUse> {
        let environment = self.environment.as_ref()?;
        let environments = self.frontend.shared.environments.as_ref()?;
        let modified = environments.check_seal(environment).await.unwrap_or_else(|error| {
            tracing::warn!("cannot look at the build environment {}: {error}", environment.folder().display());
            Vec::new()
        });
        Some(EnvironmentUse {
            python: environment.python().to_owned(),
            id: environment.content_id().to_owned(),
            made: environment.was_made(),
            modified,
            needed: self.needs_environment,
        })
    }
}

/// What a `get_requires` hook returned, which the worker has checked to be a
/// list of strings.
fn requirements(hook: Hook, value: &Value) -> Result<Vec<String>, HookError> {
    let wrong = |reason: &dyn std::fmt::Display| {
        let message = format!("{hook} returned {value}: {reason}; expected a list of requirements");
        HookError::new(ErrorKind::HookRuntimeError, redact(&message))
    };
    let requirements: Vec<String> = serde_json::from_value(value.clone()).map_err(|error| wrong(&error))?;
    for text in &requirements {
        check_requirement(text).map_err(|error| HookError { hint: error.hint(), ..wrong(&error) })?;
    }
    Ok(requirements)
}

/// What a hook made in `folder`, as it named it: without a folder (PEP 517). A
/// folder for metadata, else a file.
pub(crate) async fn made(hook: Hook, value: &Value, folder: &Path) -> Result<(String, PathBuf), HookError> {
    let wrong =
        |reason: &str| HookError::new(ErrorKind::HookRuntimeError, format!("{hook} returned {value}: {reason}"));
    let Some(name) = value.as_str() else { return Err(wrong("expected the name of a file")) };
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(wrong("expected the name of a file, without a folder"));
    }
    let path = folder.join(name);
    let look = path.clone();
    let found = unblock(move || look.symlink_metadata()).await;
    let is_metadata = matches!(hook, Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable);
    match found {
        Ok(metadata) if metadata.is_dir() == is_metadata && metadata.is_file() != is_metadata => {
            Ok((name.to_owned(), path))
        }
        Ok(_) if is_metadata => Err(wrong("expected a folder of this name, found something else")),
        Ok(_) => Err(wrong("expected a regular file of this name, found something else")),
        Err(_) => Err(wrong("there is nothing of this name in the folder that it was given")),
    }
}
