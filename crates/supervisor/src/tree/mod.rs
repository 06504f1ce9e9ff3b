//! Source trees: which one a path names, who may work in it now, and which
//! build backend it asks for.

pub(crate) mod build_system;
pub(crate) mod identity;
pub(crate) mod imports;
pub(crate) mod lock;
pub(crate) mod visit;

pub(crate) use build_system::BuildBackend;
pub use build_system::BuildSystem;
pub(crate) use identity::{Tree, TreeId};
pub(crate) use imports::TreeImports;
pub(crate) use lock::TreeLock;
pub(crate) use visit::Prepared;
