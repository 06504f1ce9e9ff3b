//! Build environments: from `build-system.requires` to an interpreter that has
//! just that.
//!
//! What a list of requirements resolves to is not asked beforehand: it is
//! installed, and what came out decides. An environment with the same
//! distributions that is there already is used in its place; so different lists
//! share environments, and those stay few and warm.
//!
//! An environment is at its place from the beginning, under a random name,
//! since its scripts know where it is. It is complete once it has a manifest,
//! which is the last to be written, by a rename; who dies before leaves
//! something that nobody uses, and that the next run removes. Everything is
//! locked between processes (`flock`), so that the locks end with their
//! processes too.
//!
//! Hooks can write to the environment that they run in. A seal tells, and one
//! that is broken has its environment made anew.

mod answers;
mod contents;
mod environments;
mod error;
mod event;
mod finding;
mod handle;
mod identity;
mod installer;
mod making;
mod manifest;
mod pruning;
mod redact;
mod requirement;
mod seal;
mod settings;
mod shelf;
mod store;

pub use contents::Distribution;
pub use environments::Environments;
pub use error::EnvironmentError;
pub use event::EnvironmentEvent;
pub use handle::Environment;
pub use installer::InstallerKind;
pub use pruning::{Pruned, prune};
pub use redact::redact;
pub(crate) use requirement::check_requirement;
pub use settings::{EnvironmentSettings, IndexOptions, InstallerChoice};
