//! Processes: how they are started, named when they end, and found when their
//! parent died before them.

pub(crate) mod children;
pub mod open_files;
pub(crate) mod spawner;
mod termination;

pub(crate) use spawner::{ChildSettings, Session, Spawner};
pub(crate) use termination::{Stage, Termination};
