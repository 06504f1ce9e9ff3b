//! What is done at a tree before a hook of it may run: take its lock, read
//! which backend it wants, put the request into lines. In that order, and
//! before every hook.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookd_protocol::HookCall;

use super::identity::replaced;
use super::lock::{self, BusyTree, TreeLock, TryLock};
use super::{BuildBackend, BuildSystem, Tree, TreeImports};
use crate::error::{ErrorKind, HookError};
use crate::request::HookRequest;
use crate::response::StartMethod;

/// A request that can be given to a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// What is written to the worker.
    pub lines: Vec<u8>,
    /// What decides which worker.
    pub imports: Arc<TreeImports>,
}

/// What all visits have in common.
#[derive(Clone, Debug)]
pub(crate) struct VisitSettings {
    /// Where files stand for trees that cannot be locked themselves.
    pub fallback_lock_folder: PathBuf,
    pub start_method: StartMethod,
}

/// What a visit found.
#[derive(Debug)]
pub(crate) enum Visit {
    /// A hook may run. `lock` is `None` where the caller
    /// held it already.
    Ready { lock: Option<TreeLock>, prepared: Prepared },
    /// Another process works in the tree.
    Busy(BusyTree),
    /// This request cannot run.
    Failed { lock: Option<TreeLock>, error: HookError },
}

/// Visits a tree. Blocking: file system only, no waiting for anybody.
pub(crate) fn visit(tree: &Tree, request: &HookRequest, locked: bool, settings: &VisitSettings) -> Visit {
    let lock = if locked {
        // The lock is the folder's; the path may lead to another by now.
        match Tree::find(&tree.path) {
            Ok(now) if now.id == tree.id => None,
            Ok(_) => return Visit::Failed { lock: None, error: replaced(&tree.path) },
            Err(error) => return Visit::Failed { lock: None, error },
        }
    } else {
        match lock::try_lock(tree, &settings.fallback_lock_folder) {
            Ok(TryLock::Locked(lock)) => Some(lock),
            Ok(TryLock::Busy(busy)) => return Visit::Busy(busy),
            Err(error) => return Visit::Failed { lock: None, error },
        }
    };
    match prepare(tree, request, settings.start_method) {
        Ok(prepared) => Visit::Ready { lock, prepared },
        Err(error) => Visit::Failed { lock, error },
    }
}

/// What the tree's `pyproject.toml` says, read while nobody builds there. Waits
/// for whoever does.
pub(crate) async fn read_build_system(path: PathBuf, fallback_folder: PathBuf) -> Result<BuildSystem, HookError> {
    let look = move || {
        let tree = Tree::find(&path)?;
        let lock = lock::try_lock(&tree, &fallback_folder)?;
        Ok((tree, lock))
    };
    let (tree, lock) = blocking(look).await?;
    let lock = match lock {
        TryLock::Locked(lock) => lock,
        TryLock::Busy(busy) => busy.wait().await.expect("the thread always answers")?,
    };
    blocking(move || {
        let _held = lock;
        BuildSystem::read(&tree.path)
    })
    .await
}

/// On a thread: trees may lie on slow file systems.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HookError> + Send + 'static,
) -> Result<T, HookError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn prepare(tree: &Tree, request: &HookRequest, start_method: StartMethod) -> Result<Prepared, HookError> {
    let backend = BuildBackend::of(request, &tree.path)?;
    let imports = Arc::new(TreeImports::of(&tree.path, &backend, start_method));
    Ok(Prepared { lines: lines(request, backend)?, imports })
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

/// Paths of a request are relative to this process, those of the protocol to
/// the tree: from here on they are absolute.
fn absolute(path: Option<&Path>) -> Result<Option<PathBuf>, HookError> {
    let Some(path) = path else { return Ok(None) };
    std::path::absolute(path).map(Some).map_err(|error: io::Error| {
        HookError::new(ErrorKind::MalformedHookArgument, format!("path {}: {error}", path.display()))
    })
}
