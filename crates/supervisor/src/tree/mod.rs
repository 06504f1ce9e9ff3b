//! Source trees: which one a path names, who may work in it now, and which
//! build backend it asks for.

mod build_system;
mod identity;
pub(crate) mod imports;
mod lock;
mod lock_holder;
mod lock_wait;
mod visit;
mod within;

pub(crate) use build_system::{BuildBackend, BuildSystem};
pub(crate) use identity::{Tree, TreeId, TreePath, replaced, tree_path};
pub(crate) use imports::TreeImports;
pub(crate) use lock::{OwnLocks, TreeLock};
pub(crate) use lock_wait::LockWaits;
pub(crate) use visit::{CheckedWorker, Found, Prepared, Ready, Visit, VisitPlan};
pub use within::is_within_hook;
pub(crate) use within::{Within, recursion};
