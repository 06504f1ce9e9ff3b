//! The process of a worker that a template has forked: a grandchild of this
//! process.
//!
//! This process cannot wait for it, so it holds a pidfd (pidfd_open(2)), which
//! becomes readable at its end and never refers to another process. The template
//! keeps it as a zombie until it is ordered to reap it, so that the pid is not
//! given to another process before.

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

use super::{Template, TemplateCommand};
use crate::error::ExitReason;

/// The handle of the process, which is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct ForkedProcess {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    template: Arc<Template>,
    /// The modules that the template was told to learn before; compare it with
    /// [`Template::learned_version`].
    pub learned_version: u64,
    reap: ReapState,
}

#[derive(Debug)]
enum ReapState {
    Alive,
    /// It is dead. The template was ordered to reap it, and will report its wait
    /// status.
    Requested(oneshot::Receiver<Option<i32>>),
    Reaped,
}

impl ForkedProcess {
    /// Opens the process of a worker that `template` has just forked. Call this
    /// only while the template is alive: then no other process can have reaped
    /// the worker.
    pub fn open(pid: u32, template: Arc<Template>, learned_version: u64) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` gives the same descriptor at every call, and the
        // only other use of it here is by shared reference.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Self { pid, pidfd, template, learned_version, reap: ReapState::Alive })
    }

    pub fn id(&self) -> u32 {
        self.pid
    }

    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Waits for its end; the processes that it left behind are killed by then.
    /// Pends after it has returned once. Cancel-safe: its progress is kept in
    /// `reap`.
    pub async fn wait(&mut self) -> ExitReason {
        loop {
            match &mut self.reap {
                ReapState::Alive => {
                    // An error would mean that the pidfd cannot be polled, so that
                    // the end cannot be waited for.
                    let _ = self.pidfd.readable().await;
                    let (reply, answer) = oneshot::channel();
                    self.template.tell(TemplateCommand::Reap { pid: self.pid, reply });
                    self.reap = ReapState::Requested(answer);
                }
                ReapState::Requested(answer) => {
                    let status = answer.await.ok().flatten().map(ExitStatus::from_raw);
                    self.reap = ReapState::Reaped;
                    return status.map_or_else(|| self.reap_orphan(), ExitReason::from);
                }
                ReapState::Reaped => return std::future::pending().await,
            }
        }
    }

    /// The template has ended too. If this process is the next subreaper, the
    /// worker is its child now; otherwise the exit status cannot be known.
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

    /// Sends a signal to the process itself, never to another.
    pub fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            // It may have ended.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
        }
    }

    /// Whether its pid, and so its process group, cannot belong to another
    /// process. Only the template frees the pid, when it is ordered to reap. If
    /// the template has ended, another process may reap a worker that has
    /// ended.
    pub fn holds_pid(&self) -> bool {
        matches!(self.reap, ReapState::Alive) && !(self.template.has_ended() && self.has_ended())
    }

    /// A pidfd is readable once its process has ended.
    fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for ForkedProcess {
    /// As tokio's `kill_on_drop`, so that no worker outlives its task.
    fn drop(&mut self) {
        if let ReapState::Alive = self.reap {
            self.signal(Signal::SIGKILL);
            let (reply, _) = oneshot::channel();
            self.template.tell(TemplateCommand::Reap { pid: self.pid, reply });
        }
    }
}
