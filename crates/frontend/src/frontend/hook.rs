//! The hooks of a build: their requests, environments, logs and results.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{ErrorKind, Hook, HookError, HookRequest, KeptAnswers, Response, Timing};
use serde_json::Value;

use super::demand::{Demand, Needs};
use super::report::{AnswerUse, BuildEvent, HookRun, JobId, Step};
use super::tree::{SourceTree, build_requirements};
use super::{Frontend, hints};
use crate::answers::{Hit, Lookup, Settled, TopFiles, settle};
use crate::environment::{Environment, check_requirement};
use crate::redact::redact;

/// Runs the hooks of a source, and notes how they went.
pub(super) struct Hooks<'a> {
    frontend: &'a Frontend,
    job: JobId,
    /// The source, as the user named it.
    name: &'a Path,
    pub runs: Vec<HookRun>,
    /// The environment of the last hook that ran.
    pub environment: Option<Environment>,
    /// The files of environments that were changed, by hooks that ran.
    pub modified: Vec<PathBuf>,
    /// `None`: nobody wants to know, or it needs none.
    pub needs: Option<Needs<'a>>,
}

impl<'a> Hooks<'a> {
    pub fn new(frontend: &'a Frontend, job: JobId, name: &'a Path) -> Self {
        Self { frontend, job, name, runs: Vec::new(), environment: None, modified: Vec::new(), needs: None }
    }

    /// From now on the source needs some environment.
    pub fn begin_needs(&mut self) {
        self.needs = self.frontend.demand.as_ref().map(Demand::begin);
    }

    /// Notes what environment the source needs, which is known from these files.
    pub fn set_needs(&mut self, files: &TopFiles) {
        if let (Some(needs), Some(requirements)) = (&mut self.needs, build_requirements(files, &[])) {
            needs.set(&requirements.requires);
        }
    }

    /// The requirements that the hook `get_requires` returns, beside those of
    /// `build-system.requires` (PEP 517). Without build isolation the hook does
    /// not run: the environment is the user's business.
    pub async fn additional_requirements(
        &mut self,
        tree: &SourceTree<'_>,
        get_requires: Hook,
    ) -> Result<Vec<String>, HookError> {
        if self.frontend.settings.environments.is_none() {
            return Ok(Vec::new());
        }
        match self.run_optional(tree, get_requires, &[], None).await? {
            Some(value) => requirements(get_requires, &value),
            None => Ok(Vec::new()),
        }
    }

    /// Runs a hook; `None` if the backend does not have it.
    pub async fn run_optional(
        &mut self,
        tree: &SourceTree<'_>,
        hook: Hook,
        requirements: &[String],
        folder: Option<&Path>,
    ) -> Result<Option<Value>, HookError> {
        match self.run(tree, hook, requirements, folder).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind == ErrorKind::UnsupportedHook => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs a hook that writes into `folder`, in an environment that has
    /// `requirements` beside those of `build-system.requires`.
    pub async fn run(
        &mut self,
        tree: &SourceTree<'_>,
        hook: Hook,
        requirements: &[String],
        folder: Option<&Path>,
    ) -> Result<Value, HookError> {
        let frontend = self.frontend;
        let mut request = HookRequest::new(self.name, hook);
        let environments = frontend.settings.environments.as_ref();
        request.environment = environments.map(|environments| environments.for_requests(None, requirements.to_vec()));
        request.config_settings.clone_from(&frontend.settings.config_settings);
        request.python.clone_from(&frontend.settings.python);
        request.caller.clone_from(&frontend.settings.caller);
        request.caller_id.clone_from(&frontend.settings.caller_id);
        request.timeout = frontend.settings.hook_timeout;
        let folder = folder.map(Path::to_owned);
        match hook {
            Hook::BuildWheel | Hook::BuildEditable => request.wheel_directory = folder,
            Hook::BuildSdist => request.sdist_directory = folder,
            _ => request.metadata_directory = folder,
        }
        let lookup = self.lookup(tree, &request).await;
        if let Some(lookup) = &lookup
            && tree.is_packed()
            && let Some(outcome) = self.find_kept(tree, requirements, lookup).await
        {
            let Hit { stdout, stderr, hook_time: saved } = lookup.hit().unwrap_or_default();
            let (error, timing) = (outcome.as_ref().err().map(|error| error.kind), Timing::default());
            let answer = AnswerUse::Used { saved };
            self.runs.push(HookRun { hook, error, worker: None, timing, stdout, stderr, log: None, answer });
            return outcome;
        }
        request.tree = tree.path().await?.to_owned();
        request.kept_answers = lookup.clone().map(|lookup| lookup as Arc<dyn KeptAnswers>);
        frontend.step(self.job, Step::Hook(hook));
        let ticket = frontend.supervisor.submit(request).await;
        let ticket = ticket.map_err(|error| HookError::new(error.kind(), error.to_string()))?;
        let request = ticket.id();
        frontend.observe(&BuildEvent::HookSubmitted { job: self.job, hook, request });
        let (response, output) = ticket.with_output().await;
        let (stdout, stderr) = (response.stdout.clone(), response.stderr.clone());
        frontend.observe(&BuildEvent::HookAnswered { request, stdout, stderr });
        if let Some(environment) = response.environment.clone() {
            let environment: Arc<dyn Any + Send + Sync> = environment;
            self.environment = environment.downcast_ref::<Environment>().cloned();
            // Now the files have been read, so that their file system responds.
            if self.needs.as_ref().is_some_and(|needs| !needs.are_known())
                && let Some(files) = tree.known_top_files().await
            {
                self.set_needs(&files);
            }
            if let (Some(needs), Some(environment)) = (&self.needs, &self.environment) {
                needs.used(environment.python());
                // Not before: another build may have used it with other requirements.
                frontend.retire_unneeded().await;
            }
        }
        let log = match &frontend.settings.logs {
            Some(logs) => logs.keep(self.name, &response, output).await,
            None => None,
        };
        self.note(response, log, lookup, tree.was_built()).await
    }

    async fn lookup(&self, tree: &SourceTree<'_>, request: &HookRequest) -> Option<Arc<Lookup>> {
        let answers = self.frontend.settings.answers.as_ref()?;
        answers.lookup_for(tree.asked().await?, request)
    }

    /// The kept answer for an archive, which is not unpacked for it.
    async fn find_kept(
        &self,
        tree: &SourceTree<'_>,
        additional: &[String],
        lookup: &Arc<Lookup>,
    ) -> Option<Result<Value, HookError>> {
        let environments = self.frontend.settings.environments.as_ref()?;
        let requirements = build_requirements(&tree.known_top_files().await?, additional)?;
        let known = environments.known_content(&requirements).await;
        let can_fetch = self.frontend.settings.answers.as_ref().is_some_and(|answers| answers.can_fetch());
        let environment = match known {
            // The hook would need it, too, if its answer is not found.
            None if can_fetch => environments.content(&requirements).await?,
            known => known?,
        };
        let lookup = lookup.clone();
        unblock(move || lookup.find_for(&environment)).await
    }

    async fn note(
        &mut self,
        mut response: Response,
        log: Option<PathBuf>,
        lookup: Option<Arc<Lookup>>,
        was_built: bool,
    ) -> Result<Value, HookError> {
        let Settled { answer, modified } = settle(lookup, &mut response, was_built).await;
        self.modified.extend(modified);
        let outcome = response.outcome.map_err(|mut error| {
            let isolated = self.frontend.settings.environments.is_some();
            let outputs = [response.stderr.text(), response.stdout.text()];
            if error.hint.is_none()
                && let Some(hint) = hints::for_failure(&error, &outputs, isolated)
            {
                (error.hint, error.setting) = (Some(hint.text), hint.setting);
            }
            error
        });
        self.runs.push(HookRun {
            hook: response.hook,
            error: outcome.as_ref().err().map(|error| error.kind),
            worker: response.worker,
            timing: response.timing,
            stdout: response.stdout,
            stderr: response.stderr,
            log,
            answer,
        });
        outcome
    }
}

/// The requirements that a `get_requires` hook returned. The worker has checked
/// that they are a list of strings.
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

/// Whether a text is the name of something in a folder, and no path to elsewhere.
pub(crate) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// The name and path of what a hook made in `folder`. PEP 517: the hook returns
/// the name of a file, or of a folder of metadata, without a path.
pub(super) async fn made_file(hook: Hook, value: &Value, folder: &Path) -> Result<(String, PathBuf), HookError> {
    let wrong =
        |reason: &str| HookError::new(ErrorKind::HookRuntimeError, format!("{hook} returned {value}: {reason}"));
    let Some(name) = value.as_str() else { return Err(wrong("expected the name of a file")) };
    if !is_file_name(name) {
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
