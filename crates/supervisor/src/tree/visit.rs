//! The visit of a tree before each hook: take its lock, read its
//! `pyproject.toml`, find its environment, look for a kept answer, encode the
//! request, and check whether the worker that would run it is up to date, in this
//! order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookd_protocol::HookCall;
use serde_json::Value;

use super::{BuildBackend, BuildSystem, Tree, TreeId, TreeImports, TreePath, Within, recursion};
use crate::blocking::Progress;
use crate::build_environment::{BuildEnvironment, EnvironmentRequirements, MadeEnvironment};
use crate::error::{ErrorKind, HookError};
use crate::event::StopReason;
use crate::ids::WorkerId;
use crate::lock::{OwnLocks, TreeLock, TryLock, try_lock};
use crate::request::HookRequest;
use crate::response::StartMethod;
use crate::worker::{WorkerFreshness, WorkerKey};

/// A request that can be given to a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The lines that are written to the worker.
    pub lines: Vec<u8>,
    /// What decides which template its worker is forked from.
    pub imports: Arc<TreeImports>,
}

/// The parameters of a visit.
#[derive(Debug)]
pub(crate) struct VisitPlan {
    pub path: TreePath,
    /// The path of the request's queue.
    pub queue: TreePath,
    pub request: Arc<HookRequest>,
    /// The folder whose lock the queue holds.
    pub locked: Option<TreeId>,
    /// The environment that the request has waited for.
    pub made: Option<MadeEnvironment>,
    /// An idle worker, which the request may get.
    pub worker: Option<(Arc<WorkerFreshness>, Candidate)>,
    pub own_locks: OwnLocks,
    /// The trees whose hooks may wait for this process.
    pub within: Arc<Within>,
    /// The folder of lock files for trees that cannot be locked themselves.
    pub fallback_lock_folder: Arc<PathBuf>,
    pub start_method: StartMethod,
}

/// What a visit found.
#[derive(Debug)]
pub(crate) enum VisitOutcome {
    /// A hook may run.
    Ready(Ready),
    /// The hook need not run.
    Answered(KeptAnswer),
    /// The request's environment is missing.
    NoEnvironment(Arc<EnvironmentRequirements>),
    /// The tree is locked: by another process or, in this one, by the queue of the
    /// path `ours`.
    Busy { ours: Option<TreePath> },
    /// The path leads to another folder than the one that the queue has locked.
    Elsewhere,
    /// The request has failed.
    Failed(HookError),
}

/// The result of an earlier hook.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    pub outcome: Result<Value, HookError>,
    /// `None` if the request wants none.
    pub environment: Option<Arc<dyn BuildEnvironment>>,
}

/// Everything that a hook needs except a worker.
#[derive(Debug)]
pub(crate) struct Ready {
    pub tree: Arc<Tree>,
    pub prepared: Prepared,
    /// `None` if the request wants none.
    pub environment: Option<Arc<dyn BuildEnvironment>>,
    pub worker: Option<CheckedWorker>,
}

/// An idle worker that a request may get.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub worker: WorkerId,
    /// The tree that it serves now.
    pub tree: Arc<Tree>,
    pub key: WorkerKey,
    /// It serves another tree, and before the visit nobody knows whether the
    /// request needs a worker of this kind.
    pub is_guess: bool,
}

impl Candidate {
    /// Whether a request with this backend, and the interpreter of this
    /// environment if it has one, needs a worker of this kind. The rest of the key
    /// is known before the visit.
    pub fn is_of_kind(&self, backend: &Option<String>, python: Option<&Path>) -> bool {
        self.key.backend == *backend && python.is_none_or(|python| self.key.python == python)
    }
}

/// A worker whose imports were compared with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckedWorker {
    pub worker: WorkerId,
    pub fitness: Fitness,
}

/// Whether a worker can run a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    Fit,
    /// It serves another tree, and was forked from another template than a new
    /// worker of this tree would be.
    Unsuited,
    /// It must be replaced, for this reason.
    Stale(StopReason),
}

impl VisitPlan {
    /// The places that the visit accesses: the tree, and the worker's environment.
    pub fn places(&self) -> Vec<&Path> {
        let worker = self.worker.iter().map(|(freshness, _)| freshness.place());
        std::iter::once(&*self.path).chain(worker).collect()
    }

    /// Visits the tree. Blocks on files, and on nothing else. Returns the lock, if
    /// the queue did not hold it before.
    pub fn visit(&self, progress: &Progress) -> (Option<TreeLock>, VisitOutcome) {
        let tree = match Tree::find(&self.path) {
            Ok(tree) => Arc::new(tree),
            Err(error) => return (None, VisitOutcome::Failed(error)),
        };
        let lock = match self.locked {
            // The lock is that of a folder, and the path may lead to another now.
            Some(locked) if locked == tree.id => None,
            Some(_) => return (None, VisitOutcome::Elsewhere),
            None => match try_lock(&tree, &self.queue, &self.own_locks, &self.fallback_lock_folder) {
                Ok(TryLock::Locked(lock)) => Some(lock),
                Ok(TryLock::Ours(path)) => return (None, VisitOutcome::Busy { ours: Some(path) }),
                Ok(TryLock::Busy(_)) if self.is_within(&tree) => {
                    return (None, VisitOutcome::Failed(recursion(&self.path)));
                }
                Ok(TryLock::Busy(_)) => return (None, VisitOutcome::Busy { ours: None }),
                Err(error) => return (None, VisitOutcome::Failed(error)),
            },
        };
        (lock, self.look(tree, progress).unwrap_or_else(VisitOutcome::Failed))
    }

    /// Whether a hook of the tree waits for this request.
    fn is_within(&self, tree: &Tree) -> bool {
        match &self.request.caller {
            Some(caller) => Within::of(&caller.variables).contains(tree),
            None => self.within.contains(tree),
        }
    }

    fn look(&self, tree: Arc<Tree>, progress: &Progress) -> Result<VisitOutcome, HookError> {
        let request = &*self.request;
        let mut own = OwnBuildSystem { tree: &tree.path, read: None };
        let environment = match &request.environment {
            None => None,
            Some(wanted) => {
                let requires = match &wanted.requires {
                    Some(requires) => requires.clone(),
                    None => own.get()?.requires.clone(),
                };
                let (python, additional) = (request.python.clone(), wanted.additional.clone());
                let requirements = EnvironmentRequirements { python, requires, additional };
                let made = self.made.as_ref().filter(|made| *made.requirements == requirements);
                match made.map(|made| made.environment.clone()).or_else(|| wanted.provider.find(&requirements)) {
                    Some(environment) => Some(environment),
                    None => return Ok(VisitOutcome::NoEnvironment(Arc::new(requirements))),
                }
            }
        };
        if let Some(kept) = &request.kept_answers
            && let Some(outcome) = kept.find(environment.as_ref(), &tree.path)
        {
            return Ok(VisitOutcome::Answered(KeptAnswer { outcome, environment }));
        }
        let backend = BuildBackend::of(request, || own.get().cloned())?;
        let imports = Arc::new(TreeImports::of(&tree.path, &backend, self.start_method));
        let prepared = Prepared { lines: lines(request, backend)?, imports };
        let imports = &prepared.imports;
        let (backend, python) = (&imports.backend, environment.as_ref().map(|environment| environment.python()));
        let candidate = self.worker.as_ref().filter(|(_, candidate)| candidate.is_of_kind(backend, python));
        let worker = candidate.map(|(freshness, candidate)| {
            progress.enter(1);
            let fitness = freshness.fitness(imports, candidate.tree != tree);
            CheckedWorker { worker: candidate.worker, fitness }
        });
        Ok(VisitOutcome::Ready(Ready { tree, prepared, environment, worker }))
    }
}

/// The tree's own `[build-system]`, read once and only if it is needed.
struct OwnBuildSystem<'a> {
    tree: &'a Path,
    read: Option<BuildSystem>,
}

impl OwnBuildSystem<'_> {
    fn get(&mut self) -> Result<&BuildSystem, HookError> {
        match &mut self.read {
            Some(read) => Ok(read),
            read => Ok(read.insert(BuildSystem::read(self.tree)?)),
        }
    }
}

fn lines(request: &HookRequest, backend: BuildBackend) -> Result<Vec<u8>, HookError> {
    let call = HookCall {
        hook: request.hook,
        build_backend: backend.import_path,
        backend_path: backend.backend_path,
        wheel_directory: absolute(request.wheel_directory.as_deref())?,
        sdist_directory: absolute(request.sdist_directory.as_deref())?,
        metadata_directory: absolute(request.metadata_directory.as_deref())?,
        config_settings: request.config_settings.clone(),
    };
    call.encode().map_err(|error| HookError::new(ErrorKind::MalformedHookArgument, error.to_string()))
}

/// Makes a path of a request absolute: it is relative to this process's working
/// directory, and paths of the protocol are relative to the tree.
fn absolute(path: Option<&Path>) -> Result<Option<PathBuf>, HookError> {
    let Some(path) = path else { return Ok(None) };
    std::path::absolute(path).map(Some).map_err(|error: io::Error| {
        HookError::new(ErrorKind::MalformedHookArgument, format!("path {}: {error}", path.display()))
    })
}
