//! The look-up of one answer, and keeping it after its hook ran.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{
    BuildEnvironment, CapturedOutput, ErrorKind, Hook, HookError, HookRequest, KeptAnswers, Response,
};
use serde_json::Value;

use super::answer::{Answer, Outcome, Output, Variables};
use super::digest::Digest;
use super::guard::{Allowed, NotKept, judge, started_git};
use super::key::{Circumstances, Question, known_files, markers_above};
use super::store::{Found, NewAnswer};
use super::tree::{TreeLook, TreeState};
use super::variables::{self, FolderBefore};
use super::{AnswerPolicy, Answers};
use crate::environment::Environment;
use crate::extensions::EXTENSION_FILES;
use crate::frontend::{AnswerUse, is_file_name, is_raised_by_hook};

/// What a hook is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An archive with this digest, wherever it is unpacked to.
    Archive(Digest),
    /// The tree of the request, as it is when it is the hook's turn.
    Tree,
}

/// Looks for the answer of one hook, and keeps it if the hook had to run.
#[derive(Debug)]
pub struct Lookup {
    answers: Arc<Answers>,
    asked: Asked,
    /// Without this look-up.
    request: HookRequest,
    state: Mutex<LookupState>,
}

#[derive(Debug, Default)]
struct LookupState {
    /// The content id of the environment, the key of the answer, and the tree as it was
    /// then.
    environment: String,
    key: Option<Digest>,
    before: Option<Arc<TreeBefore>>,
    /// The folders above the tree, as they were then: hooks may list them.
    folders: Arc<BTreeMap<PathBuf, FolderBefore>>,
    /// The answer, if it was found.
    hit: Option<Answer>,
    /// The answer that the hook has to give again.
    expected: Option<Found>,
}

/// A source tree before its hook.
#[derive(Debug)]
struct TreeBefore {
    tree: PathBuf,
    state: TreeState,
    /// The digest of the state that hooks have made this one from.
    original: Digest,
}

/// A hit: what it saved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hit {
    /// What the hook printed when it ran.
    pub stdout: CapturedOutput,
    /// As `stdout`.
    pub stderr: CapturedOutput,
    /// How long it ran then.
    pub hook_time: Duration,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeping {
    /// It is kept.
    Kept,
    /// It is not kept, for this reason.
    NotKept(NotKept),
    /// It is kept in place of another one, which was wrong.
    Mismatch(String),
}

impl Lookup {
    pub(super) fn new(answers: Arc<Answers>, asked: Asked, request: &HookRequest) -> Self {
        let request = HookRequest { kept_answers: None, ..request.clone() };
        Self { answers, asked, request, state: Mutex::default() }
    }

    /// The answer, if it is kept for an environment with this content id: with the files
    /// of the hook in their place. For archives, which need not be unpacked for it.
    /// Blocks; for a minute, if it is asked for in the remote store.
    pub(crate) fn find_for(&self, environment: &str) -> Option<Result<Value, HookError>> {
        match self.asked {
            Asked::Archive(_) => self.ask(environment, None),
            Asked::Tree => None,
        }
    }

    /// Whether the caller of [`find_for`](Self::find_for) does not read a file: of the
    /// metadata of an archive, it reads what says something of the project. Making and
    /// removing the others takes longer than all else.
    fn is_unread(&self, path: &Path) -> bool {
        let is_read = |name: &str| name == "METADATA" || EXTENSION_FILES.contains(&name);
        matches!(self.asked, Asked::Archive(_))
            && matches!(self.request.hook, Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable)
            && !(path.components().count() == 2 && path.file_name().and_then(OsStr::to_str).is_some_and(is_read))
    }

    /// What was found.
    pub(crate) fn hit(&self) -> Option<Hit> {
        let answer = self.state().hit.clone()?;
        Some(Hit { stdout: answer.stdout.into(), stderr: answer.stderr.into(), hook_time: answer.hook_time })
    }

    /// Completes the response to a request whose answer was found: with what the hook
    /// printed when it ran.
    fn use_kept(&self, response: &mut Response) -> AnswerUse {
        let hit = self.hit().unwrap_or_default();
        (response.stdout, response.stderr) = (hit.stdout, hit.stderr);
        AnswerUse::Used { saved: hit.hook_time }
    }

    fn ask(&self, environment: &str, tree: Option<&Path>) -> Option<Result<Value, HookError>> {
        environment.clone_into(&mut self.state().environment);
        match (self.asked, tree) {
            (Asked::Tree, tree) => self.ask_about_tree(environment, tree?),
            (Asked::Archive(digest), tree) => {
                let key = self.key(digest, None, &self.above(None), environment);
                self.state().key = Some(key);
                let found = self.find_at(key, tree.is_some());
                if found.is_none()
                    && let Some(tree) = tree
                {
                    self.note_folders(tree);
                }
                found
            }
        }
    }

    fn ask_about_tree(&self, environment: &str, tree: &Path) -> Option<Result<Value, HookError>> {
        let store = &self.answers.store;
        let unreadable = |error: &io::Error| tracing::debug!("{}: its state cannot be read: {error}", tree.display());
        let look = TreeLook::at(tree).inspect_err(unreadable).ok()?;
        let above = self.above(Some(tree));
        let key = |state: Digest| {
            let original = store.original(state);
            (self.key(original, Some(tree), &above, environment), original)
        };
        let known = store.known_state(&look).map(|state| key(state).0);
        let found = known.and_then(|key| self.find_at(key, true));
        if found.is_some() {
            return found;
        }
        // The hook runs, and then it counts what exactly was there before.
        let state = store.state_of(&look).inspect_err(unreadable).ok()?;
        let (key, original) = key(state.digest());
        {
            let before = Arc::new(TreeBefore { tree: tree.to_owned(), state, original });
            let mut state = self.state();
            (state.key, state.before) = (Some(key), Some(before));
        }
        let found = if known == Some(key) { None } else { self.find_at(key, true) };
        if found.is_none() {
            self.note_folders(tree);
        }
        found
    }

    fn key(&self, source: Digest, place: Option<&Path>, above: &[PathBuf], environment: &str) -> Digest {
        let circumstances = self.answers.circumstances_of(self.request.caller.as_ref());
        let question = Question {
            source,
            place,
            above,
            request: &self.request,
            environment,
            compilers: self.compilers(&circumstances),
        };
        question.key(&circumstances)
    }

    /// What identifies the compilers, if the hook may start some. What programs read is not
    /// known: an archive is the same anyway, and a tree may have changed.
    fn compilers<'a>(&self, circumstances: &'a Circumstances) -> Option<&'a str> {
        let is_build = self.request.hook == Hook::BuildWheel && matches!(self.asked, Asked::Archive(_));
        circumstances.compilers.as_deref().filter(|_| is_build)
    }

    /// Notes what is in the folders above a tree before its hook.
    fn note_folders(&self, tree: &Path) {
        // As hooks see it: their current folder has no links in its path.
        let tree = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
        let folders = tree.ancestors().skip(1);
        let looked = folders.filter_map(|folder| Some((folder.to_owned(), FolderBefore::look(folder).ok()?)));
        self.state().folders = Arc::new(looked.collect());
    }

    /// `is_waiting`: the supervisor waits, for files only, and not for the remote store.
    fn find_at(&self, key: Digest, is_waiting: bool) -> Option<Result<Value, HookError>> {
        let (answers, store) = (&self.answers, &self.answers.store);
        if answers.settings.refresh {
            return None;
        }
        let circumstances = self.answers.circumstances_of(self.request.caller.as_ref());
        let set = &circumstances.variables;
        let value = |name: &OsStr| variables::value(set, name);
        let found = store.find(key, value);
        let found = found.or_else(|| (!is_waiting).then(|| store.fetch(key, value)).flatten())?;
        if answers.is_to_be_verified() {
            self.state().expected = Some(found);
            return None;
        }
        if let Some(folder) = output_folder(&self.request)
            && let Err(error) = store.restore(&found, folder, |path| !self.is_unread(path))
        {
            tracing::debug!("{error}");
            return None;
        }
        let outcome = match &found.answer.outcome {
            Outcome::Returned(value) => Ok(value.clone()),
            Outcome::Missing => Err(no_such_hook(self.request.hook)),
        };
        store.count(|statistics| {
            statistics.hits += 1;
            statistics.saved += found.answer.hook_time;
        });
        self.state().hit = Some(found.answer);
        Some(outcome)
    }

    /// Keeps the answer of the hook, if that may be done. `refused`: why it may not, whatever
    /// the hook did. Blocks.
    fn keep(&self, response: &Response, refused: Option<NotKept>) -> Keeping {
        let store = &self.answers.store;
        store.count(|statistics| statistics.misses += 1);
        let (difference, kept) = match refused {
            Some(reason) => (None, Err(reason)),
            None => {
                let new = self.new_answer(response);
                // Before what is kept, so that a wrong answer is gone in any case.
                (self.verify(&new, response), new.and_then(|new| self.try_keep(response, new)))
            }
        };
        if let Err(reason) = &kept {
            store.count_not_kept(reason);
        }
        self.note_verdict(kept.as_ref().copied());
        match (difference, kept) {
            (Some(difference), _) => Keeping::Mismatch(difference),
            (None, Ok(_)) => Keeping::Kept,
            (None, Err(reason)) => Keeping::NotKept(reason),
        }
    }

    /// How the answer differs from the one that was expected, which is removed then.
    fn verify(&self, new: &Result<NewAnswer, NotKept>, response: &Response) -> Option<String> {
        let expected = self.state().expected.take()?;
        let store = &self.answers.store;
        let difference = match (new, &response.outcome) {
            (Ok(new), _) => store.difference(new, &expected.answer).unwrap_or_else(|error| {
                tracing::debug!("an answer cannot be verified: {error}");
                None
            }),
            (Err(_), Err(error)) if is_raised_by_hook(error.kind) => {
                Some("the hook failed, and an answer is kept".to_owned())
            }
            // It was cancelled, for example.
            (Err(_), _) => None,
        };
        store.count(|statistics| {
            statistics.verified += 1;
            statistics.mismatches += u64::from(difference.is_some());
        });
        if difference.is_some() {
            store.remove(&expected);
        }
        difference
    }

    fn new_answer(&self, response: &Response) -> Result<NewAnswer, NotKept> {
        let outcome = match &response.outcome {
            Ok(value) => Outcome::Returned(value.clone()),
            Err(error) if error.kind == ErrorKind::UnsupportedHook => Outcome::Missing,
            Err(_) => return Err(NotKept::Failed),
        };
        Ok(NewAnswer {
            made: made_by(&self.request, &outcome)?,
            outcome,
            stdout: Output::from(&response.stdout),
            stderr: Output::from(&response.stderr),
            hook_time: response.timing.hook.unwrap_or_default(),
            folders: [Some(&*response.tree), output_folder(&self.request)]
                .into_iter()
                .flatten()
                .map(Path::to_owned)
                .collect(),
        })
    }

    fn note_verdict(&self, kept: Result<Digest, &NotKept>) {
        let source = match (self.asked, &self.state().before) {
            (Asked::Archive(digest), _) => digest,
            (Asked::Tree, Some(before)) => Digest::of_path(&before.tree),
            (Asked::Tree, None) => return,
        };
        self.answers.store.set_verdict(source, self.request.hook, kept);
    }

    /// Returns the key at which it is kept.
    fn try_keep(&self, response: &Response, new: NewAnswer) -> Result<Digest, NotKept> {
        let store = &self.answers.store;
        let (key, before, folders, environment) = {
            let state = self.state();
            let key = state.key.ok_or(NotKept::NotIsolated)?;
            (key, state.before.clone(), state.folders.clone(), state.environment.clone())
        };
        let observed = response.observed.as_ref().ok_or(NotKept::NotObserved)?;
        let policy = self.answers.settings.policy;
        if let Some(wheel) = new.made.iter().find(|path| !is_pure_wheel(path))
            && self.request.hook == Hook::BuildWheel
            && policy != AnswerPolicy::All
        {
            return Err(NotKept::Compiled(wheel.file_name().unwrap_or_default().display().to_string()));
        }
        let unreadable = |error: io::Error| NotKept::Store(error.to_string());
        // As hooks see it: their current folder has no links in its path.
        let canonical = |path: &Path| path.canonicalize().map_err(unreadable);
        let (tree, own) = match &before {
            Some(before) => (before.tree.clone(), None),
            None => (canonical(&response.tree)?, Some(canonical(&self.answers.settings.cache_folder)?)),
        };
        let state = before.as_ref().map(|before| &before.state);
        let mut above = self.above(before.as_ref().map(|before| &*before.tree));
        let now = match (self.asked, &before) {
            (Asked::Archive(digest), _) => Some(self.key(digest, None, &above, &environment)),
            (Asked::Tree, Some(before)) => Some(self.key(before.original, Some(&tree), &above, &environment)),
            (Asked::Tree, None) => None,
        };
        if now != Some(key) {
            return Err(NotKept::Changed("a file or folder outside of the source".to_owned()));
        }
        if state.is_some_and(TreeState::has_repository_elsewhere) {
            above.push(tree.join(".git"));
        }
        let circumstances = self.answers.circumstances_of(self.request.caller.as_ref());
        let allowed = Allowed {
            programs: self.compilers(&circumstances).is_some(),
            known: &known_files(&circumstances.variables),
            above: &above,
            has_own_repository: state.is_some_and(TreeState::has_own_repository),
            tree: &tree,
            own: own.as_deref(),
        };
        let names = judge(observed, &allowed, &variables::credentials(&circumstances.variables))?;
        if let Some(TreeBefore { state, original, .. }) = before.as_deref() {
            if let Some(link) = state.link_to_outside() {
                return Err(NotKept::Link(link.display().to_string()));
            }
            let after = TreeLook::at(&tree).and_then(|look| store.state_of(&look)).map_err(unreadable)?;
            state.changed_by_others(&after, observed.written.as_deref(), started_git(observed))?;
            if let Some(special) = state.special_file() {
                return Err(NotKept::Special(special.display().to_string()));
            }
            store.set_original(after.digest(), *original);
        }
        let value = |name: String| {
            let path = Path::new(&name);
            if !path.is_absolute() {
                let value = variables::value(&circumstances.variables, OsStr::new(&name));
                return Ok((name, value));
            }
            let value = folders.get(path).and_then(|before| before.names_since(path));
            value.is_some().then_some((name.clone(), value)).ok_or(NotKept::Changed(name))
        };
        let variables = names.into_iter().map(value).collect::<Result<Variables, _>>()?;
        // Trees are not the same on other machines.
        store.keep(key, &variables, new, matches!(self.asked, Asked::Archive(_)))
    }

    /// What is above the tree that hooks look for. Archives are unpacked to folders of
    /// our own, so it is above these.
    fn above(&self, place: Option<&Path>) -> Vec<PathBuf> {
        match place {
            Some(tree) => markers_above(tree),
            None => markers_above(&self.answers.settings.cache_folder.join("sources")),
        }
    }

    fn state(&self) -> MutexGuard<'_, LookupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known when a request was answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled {
    /// What became of the answer.
    pub answer: AnswerUse,
    /// The files of the build environment that were changed since it was made. It is not
    /// used again.
    pub modified: Vec<PathBuf>,
}

/// Ends a request whose hook ran: looks at the seal of its build environment, and keeps its
/// answer if that may be done. If the answer was kept before, completes the response with
/// what the hook printed then. `was_built`: the tree has the results of an earlier build.
pub async fn settle(lookup: Option<Arc<Lookup>>, response: &mut Response, was_built: bool) -> Settled {
    if response.kept {
        let answer = lookup.map_or(AnswerUse::None, |lookup| lookup.use_kept(response));
        return Settled { answer, modified: Vec::new() };
    }
    let environment = environment_of(response);
    if lookup.is_none() && environment.is_none() {
        return Settled { answer: AnswerUse::None, modified: Vec::new() };
    }
    let response = response.clone();
    let settle = move || {
        let modified = environment.map_or(Ok(Vec::new()), |environment| environment.check_seal());
        let refused = match &modified {
            Ok(modified) if modified.is_empty() => was_built.then_some(NotKept::BuiltBefore),
            _ => Some(NotKept::Environment),
        };
        let answer = lookup.map_or(AnswerUse::None, |lookup| AnswerUse::New(lookup.keep(&response, refused)));
        Settled { answer, modified: modified.unwrap_or_default() }
    };
    unblock(settle).await
}

/// The environment that a hook ran in.
fn environment_of(response: &Response) -> Option<Environment> {
    response.worker.as_ref()?;
    let environment: &dyn Any = &**response.environment.as_ref()?;
    environment.downcast_ref::<Environment>().cloned()
}

impl KeptAnswers for Lookup {
    fn find(&self, environment: Option<&Arc<dyn BuildEnvironment>>, tree: &Path) -> Option<Result<Value, HookError>> {
        let environment: &dyn Any = &**environment?;
        let environment = environment.downcast_ref::<Environment>()?;
        self.ask(environment.content_id(), Some(tree))
    }
}

fn no_such_hook(hook: Hook) -> HookError {
    HookError::new(ErrorKind::UnsupportedHook, format!("the build backend has no hook {hook}"))
}

/// The folder that a hook makes its files in.
fn output_folder(request: &HookRequest) -> Option<&Path> {
    match request.hook {
        Hook::BuildWheel | Hook::BuildEditable => request.wheel_directory.as_deref(),
        Hook::BuildSdist => request.sdist_directory.as_deref(),
        Hook::PrepareMetadataForBuildWheel | Hook::PrepareMetadataForBuildEditable => {
            request.metadata_directory.as_deref()
        }
        _ => None,
    }
}

/// Whether a wheel has no compiled code, by the tags in its name (PEP 427): it works on
/// all platforms.
pub(crate) fn is_pure_wheel(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with("-none-any.whl"))
}

/// What a hook has made: the file or folder that it names.
fn made_by(request: &HookRequest, outcome: &Outcome) -> Result<Vec<PathBuf>, NotKept> {
    let (Some(folder), Outcome::Returned(value)) = (output_folder(request), outcome) else { return Ok(Vec::new()) };
    match value.as_str() {
        Some(name) if is_file_name(name) => Ok(vec![folder.join(name)]),
        _ => Err(NotKept::Failed),
    }
}
