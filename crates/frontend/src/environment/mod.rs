//! Build environments: from `build-system.requires` to an interpreter that has
//! exactly that.
//!
//! An environment goes through these states:
//!
//! | state | type | owned by | locks |
//! |---|---|---|---|
//! | wanted | `Wanted` | those who want it | |
//! | being found or made | a future in `Memory`, a `Draft` | those in this process who wait for it | exclusive: its key, between processes; its name, while it is made |
//! | in use | `InUse` | the [`Environment`]s that this process hands out, and `Memory` | shared: its name |
//! | kept on the disk | `Manifest` and `StoredResolution`, in `Store` | nobody, until it is removed | |
//!
//! `environments` has the steps from one state to the next, in their order.
//!
//! What is installed decides, not the list: if there is an environment with the same
//! distributions, it is used instead. So different lists of requirements share
//! environments, and those stay few and warm. uv may say first what it would install
//! (`pins`), which often saves installing it.
//!
//! An environment is made in its final place, under a random name, because its
//! scripts contain its path. It is complete when it has a manifest, which is written
//! last, by a rename. If the process dies before, nobody uses what it has left, and
//! the next run removes it. All locks are `flock(2)` and end with their processes.
//!
//! Hooks can write to the environment that they run in. Its seal tells, and an
//! environment with a broken seal is not used again.

mod assembly;
mod bytecode;
mod contents;
mod distributions;
mod environments;
mod error;
mod handle;
mod installer;
mod memory;
mod model;
mod pins;
mod pruning;
mod requirement;
mod scripts;
mod seal;
mod settings;
mod store;
mod wanted;

use std::path::{Path, PathBuf};

pub use contents::Distribution;
pub use environments::Environments;
pub use error::{EnvironmentError, EnvironmentEvent};
pub use handle::Environment;
pub(crate) use pruning::{PrunedEnvironments, prune_environments};
pub(crate) use requirement::check_requirement;
pub use settings::{EnvironmentSettings, IndexOptions, InstallerChoice, InstallerKind};

/// The interpreter of an environment.
fn python_of(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}
