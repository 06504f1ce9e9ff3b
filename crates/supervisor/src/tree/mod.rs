//! Source trees: which one a path names, which build backend it asks for, and
//! what is checked before a hook runs in it.

mod build_system;
mod identity;
pub(crate) mod imports;
mod visit;
mod within;

pub(crate) use build_system::BuildBackend;
pub use build_system::BuildSystem;
pub(crate) use identity::{Tree, TreeId, TreePath, invalid, replaced, tree_path};
pub(crate) use imports::TreeImports;
pub(crate) use visit::{Candidate, CheckedWorker, Fitness, KeptAnswer, Prepared, Ready, VisitOutcome, VisitPlan};
pub use within::is_within_hook;
pub(crate) use within::{Within, recursion};
