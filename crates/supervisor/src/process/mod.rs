//! Processes: how they are started and ended, and how orphans are found.

pub(crate) mod children;
pub mod open_files;
pub(crate) mod spawner;
mod termination;

pub(crate) use spawner::{ChildSettings, SessionGuard, Spawner};
pub(crate) use termination::{Stage, Termination};
