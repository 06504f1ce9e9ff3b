//! One program, from its start to the end of all that it started.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Kept, Pause, Phase, ProgramError, ProgramOutput};
use crate::limits::Timeout;
use crate::process::{Spawner, status};

/// How much of each stream is kept.
const KEPT: usize = 1 << 20;

/// How long the guard may take to kill what it guards (it gives up after 5 s by
/// itself).
const KILL_PATIENCE: Duration = Duration::from_secs(7);

/// How long a stream may stay open when the guard is gone: it was killed, and
/// somebody else has the other end.
const READ_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Run {
    pub spawner: Spawner,
    pub grace_period: Option<Timeout>,
    pub phase: watch::Receiver<Phase>,
    pub pauses: broadcast::Receiver<Pause>,
    /// Closed when nobody wants the program any more.
    pub reply: oneshot::Sender<Result<ProgramOutput, ProgramError>>,
    pub kept: Kept,
}

/// What ended the wait for the program's end.
enum Happening {
    Ended(io::Result<ExitStatus>),
    Interrupted(Signal),
    Terminated,
    Unwanted,
    GraceOver,
}

impl Run {
    pub async fn finish(mut self, guarded: Command, program: PathBuf) {
        let outcome = match self.spawner.spawn(guarded).await {
            Ok(child) => self.supervise(child, &program).await,
            Err(source) => Err(ProgramError::NotStarted { program, source }),
        };
        // It may be a folder with thousands of files. What the thread made of
        // it, and whether there was one, changes nothing.
        let kept = self.kept;
        let _ = tokio::task::spawn_blocking(move || drop(kept)).await;
        // The caller may be gone.
        let _ = self.reply.send(outcome);
    }

    async fn supervise(&mut self, mut child: Child, program: &std::path::Path) -> Result<ProgramOutput, ProgramError> {
        let pid = child.id();
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let (status, was_interrupted) = self.ended(&mut child).await;
        if let Some(pid) = pid {
            self.spawner.forget(pid).await;
        }
        // A guard that was killed itself has left its children to us.
        self.spawner.sweep().await;
        let (stdout, stderr) = (finished(stdout).await, finished(stderr).await);
        let status = status.map_err(|source| ProgramError::NotStarted { program: program.to_owned(), source })?;
        if was_interrupted {
            return Err(ProgramError::Interrupted);
        }
        Ok(ProgramOutput { exit: status::exit_reason(status), stdout, stderr })
    }

    /// Waits for the guard's end, which is the end of all that it guards, and
    /// brings it about where it is wished. Whether it was, is told too.
    async fn ended(&mut self, child: &mut Child) -> (io::Result<ExitStatus>, bool) {
        match self.next(child, None).await {
            Happening::Ended(status) => return (status, false),
            Happening::Interrupted(signal) => {
                if let Some(grace) = self.grace_period {
                    send(child.id(), signal);
                    // One that is stopped would not heed it.
                    send(child.id(), Signal::SIGCONT);
                    if let Happening::Ended(status) = self.next(child, Some(grace.get())).await {
                        return (status, true);
                    }
                }
            }
            Happening::Terminated | Happening::Unwanted | Happening::GraceOver => {}
        }
        (kill_all(child).await, true)
    }

    /// All futures here are cancel-safe; `child.wait()` tells a status that it
    /// has seen once more. Within a grace period only a termination counts.
    async fn next(&mut self, child: &mut Child, grace: Option<Duration>) -> Happening {
        let is_last = |phase: &Phase| match phase {
            Phase::Open | Phase::Draining => false,
            Phase::Interrupted(_) => grace.is_none(),
            Phase::Terminated => true,
        };
        let phase = async {
            match self.phase.wait_for(is_last).await.map(|phase| *phase) {
                Ok(Phase::Interrupted(signal)) => Happening::Interrupted(signal),
                Ok(_) => Happening::Terminated,
                // Nobody is left who could tell.
                Err(_) => std::future::pending().await,
            }
        };
        let grace_over = async {
            match grace {
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        let (pid, pauses) = (child.id(), &mut self.pauses);
        let pause = async {
            loop {
                match pauses.recv().await {
                    Ok(Pause::Suspend { .. }) => send(pid, Signal::SIGTSTP),
                    Ok(Pause::Resume) => send(pid, Signal::SIGCONT),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // `wait` would close the guard's input, and with it end the program.
        let input = child.stdin.take();
        let happening = tokio::select! {
            biased;
            status = child.wait() => Happening::Ended(status),
            happening = phase => happening,
            () = self.reply.closed() => Happening::Unwanted,
            () = grace_over => Happening::GraceOver,
            () = pause => unreachable!("pauses go on as long as the program"),
        };
        child.stdin = input;
        happening
    }
}

/// The end of its input tells the guard to kill everything and to end.
async fn kill_all(child: &mut Child) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    match tokio::time::timeout(KILL_PATIENCE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}

/// To a guard that was not waited for, so that the pid is its own.
fn send(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Reads to the end, and keeps the end.
fn collect(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> (watch::Receiver<Vec<u8>>, JoinHandle<()>) {
    let (kept, receiver) = watch::channel(Vec::new());
    let task = tokio::spawn(async move {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            kept.send_modify(|kept| {
                kept.extend_from_slice(&chunk[..length]);
                if kept.len() > 2 * KEPT {
                    kept.drain(..kept.len() - KEPT);
                }
            });
        }
    });
    (receiver, task)
}

async fn finished((kept, mut task): (watch::Receiver<Vec<u8>>, JoinHandle<()>)) -> Vec<u8> {
    if tokio::time::timeout(READ_PATIENCE, &mut task).await.is_err() {
        task.abort();
    }
    let kept = kept.borrow();
    kept[kept.len().saturating_sub(KEPT)..].to_vec()
}
