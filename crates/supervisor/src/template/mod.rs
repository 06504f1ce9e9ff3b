//! Templates: Python processes that hold a backend's imports and fork workers.
//!
//! [`Templates`] finds the template for a worker, starting it where there is
//! none; each is owned by a task ([`actor`]), which speaks with it over its
//! socket ([`wire`]). What was learned is in [`learned`], and which template is
//! used for what is decided in [`book`].

mod actor;
mod book;
mod learned;
mod message;
mod process;
mod socket;
mod templates;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use self::message::TemplateCommand;
use crate::ids::TemplateId;
use crate::interpreter::Freshness;

pub(crate) use book::TemplateKey;
pub(crate) use message::Pace;
pub(crate) use process::ForkedProcess;
pub(crate) use socket::WorkerDescriptors;
pub(crate) use templates::{ForkRequest, Forking, TemplateSettings, Templates};

/// A template as all see who use it. Its task holds it too.
#[derive(Debug)]
pub(crate) struct Template {
    pub id: TemplateId,
    /// Whether what it has imported is what lies on the disk.
    pub freshness: Freshness,
    /// Unbounded: a fork and a reap for each worker, and what a hook has
    /// imported. None of them may be lost.
    commands: mpsc::UnboundedSender<TemplateCommand>,
    /// Grows with the learned modules that it holds, when it is done with them.
    learned_version: AtomicU64,
    /// Whether learned modules wait to be imported.
    is_learning: watch::Sender<bool>,
    ended: AtomicBool,
}

impl Template {
    fn new(id: TemplateId, commands: mpsc::UnboundedSender<TemplateCommand>) -> Self {
        Self {
            id,
            freshness: Freshness::default(),
            commands,
            learned_version: AtomicU64::new(0),
            is_learning: watch::Sender::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// What a worker must have been forked with to hold as many learned modules
    /// as it did when it was last done with them.
    pub fn learned_version(&self) -> u64 {
        self.learned_version.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Tells its task something; one that has ended does not hear it.
    fn tell(&self, command: TemplateCommand) {
        let _ = self.commands.send(command);
    }
}
