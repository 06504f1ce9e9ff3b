//! The process of a worker, however it was started.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::error::ExitReason;
use crate::response::StartMethod;
use crate::template::ForkedProcess;

/// A process that is signalled only while its pid cannot be another process's,
/// and that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pid: u32,
    origin: Origin,
    /// It was waited for.
    waited_for: bool,
}

#[derive(Debug)]
enum Origin {
    /// A child of this process.
    Spawned(Child),
    /// A child of a template.
    Forked(ForkedProcess),
}

impl WorkerProcess {
    /// A child that was not waited for.
    pub fn spawned(child: Child) -> Self {
        let pid = child.id().expect("nobody has waited for it");
        Self { pid, origin: Origin::Spawned(child), waited_for: false }
    }

    pub fn forked(process: ForkedProcess) -> Self {
        Self { pid: process.id(), origin: Origin::Forked(process), waited_for: false }
    }

    pub fn id(&self) -> u32 {
        self.pid
    }

    pub fn start_method(&self) -> StartMethod {
        match self.origin {
            Origin::Spawned(_) => StartMethod::Spawn,
            Origin::Forked(_) => StartMethod::Forkserver,
        }
    }

    /// `None` if it was spawned.
    pub fn as_forked(&self) -> Option<&ForkedProcess> {
        match &self.origin {
            Origin::Spawned(_) => None,
            Origin::Forked(process) => Some(process),
        }
    }

    /// Waits for its end; pends after it has returned once. Cancel-safe.
    pub async fn wait(&mut self) -> ExitReason {
        if self.waited_for {
            return std::future::pending().await;
        }
        let exit = match &mut self.origin {
            Origin::Spawned(child) => child.wait().await.map_or(ExitReason::Unknown, ExitReason::from),
            Origin::Forked(process) => process.wait().await,
        };
        self.waited_for = true;
        exit
    }

    /// Sends a signal to the process itself.
    pub fn signal(&self, signal: Signal) {
        match &self.origin {
            Origin::Forked(process) => process.signal(signal),
            Origin::Spawned(_) => {
                if let Some(pid) = self.own_pid() {
                    let _ = kill(pid, signal);
                }
            }
        }
    }

    /// Sends a signal to the process group that it leads.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.own_pid() {
            let _ = killpg(pid, signal);
        }
    }

    /// Its pid, while that cannot be another process's.
    fn own_pid(&self) -> Option<Pid> {
        let holds_pid = match &self.origin {
            // A child keeps its pid until it is waited for.
            Origin::Spawned(child) => child.id().is_some(),
            Origin::Forked(process) => process.holds_pid(),
        };
        let pid = i32::try_from(self.pid).ok().filter(|_| holds_pid && !self.waited_for)?;
        Some(Pid::from_raw(pid))
    }
}
