//! A worker's process that a template forked: our grandchild.
//!
//! We cannot wait for it, so we hold a pidfd (pidfd_open(2)), which tells its
//! end and never means another process. The template keeps it as a zombie
//! until we have acknowledged that end: until then the pid is its own too.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::Template;
use super::message::TemplateCommand;
use crate::error::ExitReason;

#[derive(Debug)]
pub(crate) struct ForkedProcess {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    template: Arc<Template>,
    /// How many learned modules the template held when it forked this.
    pub learned_version: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Alive,
    /// It is dead, and the template was asked how it ended.
    Acknowledged(oneshot::Receiver<Option<i32>>),
    Reaped,
}

impl ForkedProcess {
    /// Takes hold of a worker that `template` has just forked. To be called
    /// only while that template is alive: nobody else can reap the worker.
    pub fn open(pid: u32, template: Arc<Template>, learned_version: u64) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` gives the same descriptor at every call, and the
        // only other use of it here is by shared reference.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Self { pid, pidfd, template, learned_version, phase: Phase::Alive })
    }

    pub fn id(&self) -> u32 {
        self.pid
    }

    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Waits for its end; what it left behind is killed by then. Pends when
    /// that was told before.
    ///
    /// Cancel-safe: how far it has come is kept in `phase`.
    pub async fn wait(&mut self) -> ExitReason {
        loop {
            match &mut self.phase {
                Phase::Alive => {
                    // An error would mean that the pidfd cannot be polled, and
                    // then there is nothing to wait for.
                    let _ = self.pidfd.readable().await;
                    let (reply, answer) = oneshot::channel();
                    self.template.tell(TemplateCommand::Reap { pid: self.pid, reply });
                    self.phase = Phase::Acknowledged(answer);
                }
                Phase::Acknowledged(answer) => {
                    let status = answer.await.ok().flatten().map(ExitStatus::from_raw);
                    self.phase = Phase::Reaped;
                    return status.map_or_else(|| self.reap_orphan(), ExitReason::from);
                }
                Phase::Reaped => return std::future::pending().await,
            }
        }
    }

    /// Its template is gone too. If we are the next subreaper, it is our child
    /// now; otherwise nobody can tell us how it ended.
    fn reap_orphan(&self) -> ExitReason {
        let by_pidfd = WaitId::PidFd(rustix::fd::AsFd::as_fd(self.pidfd.get_ref()));
        match waitid(by_pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitReason::ExitCode(code),
                (None, Some(number)) => ExitReason::of_signal(number),
                (None, None) => ExitReason::Unknown,
            },
            _ => ExitReason::Unknown,
        }
    }

    /// Sends a signal to the process itself, and to no other ever.
    pub fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            // It may be gone.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
        }
    }

    /// Whether its pid, and with it its process group, is still its own for
    /// sure: the template, which alone can free it, waits for our word. When
    /// the template is gone, somebody else may reap a worker that has ended.
    pub fn holds_pid(&self) -> bool {
        matches!(self.phase, Phase::Alive) && !(self.template.has_ended() && self.has_ended())
    }

    /// A pidfd can be read once its process has ended.
    fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for ForkedProcess {
    /// As with tokio's `kill_on_drop`: no worker outlives its task.
    fn drop(&mut self) {
        if let Phase::Alive = self.phase {
            self.signal(Signal::SIGKILL);
            let (reply, _) = oneshot::channel();
            self.template.tell(TemplateCommand::Reap { pid: self.pid, reply });
        }
    }
}
