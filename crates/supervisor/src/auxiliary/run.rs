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
use tokio::time::Instant;

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
    pub clock: Clock,
}

/// How long a program may run. What it is stopped for does not count.
#[derive(Debug)]
pub(super) struct Clock {
    limit: Option<Timeout>,
    left: Duration,
    /// Nothing while it is stopped.
    runs_since: Option<Instant>,
}

impl Clock {
    pub fn new(limit: Option<Timeout>) -> Self {
        Self { limit, left: limit.map(Timeout::get).unwrap_or_default(), runs_since: Some(Instant::now()) }
    }

    fn stop(&mut self) {
        if let Some(since) = self.runs_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    fn go_on(&mut self) {
        self.runs_since.get_or_insert_with(Instant::now);
    }

    /// Waits until the time is over.
    async fn over(&self) -> Timeout {
        match (self.limit, self.runs_since) {
            (Some(limit), Some(since)) => {
                tokio::time::sleep_until(since + self.left).await;
                limit
            }
            _ => std::future::pending().await,
        }
    }
}

/// What brought the end about.
enum End {
    ByItself,
    Interrupted,
    TimedOut(Timeout),
}

/// What ended the wait for the program's end.
enum Happening {
    Ended(io::Result<ExitStatus>),
    Interrupted(Signal),
    Terminated,
    Unwanted,
    GraceOver,
    TimedOut(Timeout),
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
        let (status, end) = self.ended(&mut child).await;
        if let Some(pid) = pid {
            self.spawner.forget(pid).await;
        }
        // A guard that was killed itself has left its children to us.
        self.spawner.sweep().await;
        let (stdout, stderr) = (finished(stdout).await, finished(stderr).await);
        let status = status.map_err(|source| ProgramError::NotStarted { program: program.to_owned(), source })?;
        let output = ProgramOutput { exit: status::exit_reason(status), stdout, stderr };
        match end {
            End::ByItself => Ok(output),
            End::Interrupted => Err(ProgramError::Interrupted),
            End::TimedOut(limit) => Err(ProgramError::TimedOut { program: program.to_owned(), limit, output }),
        }
    }

    /// Waits for the guard's end, which is the end of all that it guards, and
    /// brings it about where it is wished.
    async fn ended(&mut self, child: &mut Child) -> (io::Result<ExitStatus>, End) {
        match self.next(child, None).await {
            Happening::Ended(status) => return (status, End::ByItself),
            Happening::TimedOut(limit) => return (kill_all(child).await, End::TimedOut(limit)),
            Happening::Interrupted(signal) => {
                if let Some(grace) = self.grace_period {
                    send(child.id(), signal);
                    // One that is stopped would not heed it.
                    send(child.id(), Signal::SIGCONT);
                    if let Happening::Ended(status) = self.next(child, Some(grace.get())).await {
                        return (status, End::Interrupted);
                    }
                }
            }
            Happening::Terminated | Happening::Unwanted | Happening::GraceOver => {}
        }
        (kill_all(child).await, End::Interrupted)
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
        let pid = child.id();
        // `wait` would close the guard's input, and with it end the program.
        let input = child.stdin.take();
        tokio::pin!(phase, grace_over);
        let happening = loop {
            tokio::select! {
                biased;
                status = child.wait() => break Happening::Ended(status),
                happening = &mut phase => break happening,
                () = self.reply.closed() => break Happening::Unwanted,
                () = &mut grace_over => break Happening::GraceOver,
                pause = self.pauses.recv() => match pause {
                    Ok(Pause::Suspend { .. }) => {
                        self.clock.stop();
                        send(pid, Signal::SIGTSTP);
                    }
                    Ok(Pause::Resume) => {
                        self.clock.go_on();
                        send(pid, Signal::SIGCONT);
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    // Nobody is left who could stop it, or end it.
                    Err(broadcast::error::RecvError::Closed) => break Happening::Unwanted,
                },
                // Within a grace period another clock runs.
                limit = self.clock.over(), if grace.is_none() => break Happening::TimedOut(limit),
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_for_which_a_program_is_stopped_does_not_count() {
        let limit = Timeout::from_secs(10);
        let mut clock = Clock::new(Some(limit));
        let is_over = async |clock: &Clock, seconds: u64| {
            tokio::time::timeout(Duration::from_secs(seconds), clock.over()).await.is_ok()
        };
        assert!(!is_over(&clock, 6).await);
        clock.stop();
        assert!(!is_over(&clock, 1000).await);
        clock.go_on();
        assert!(!is_over(&clock, 3).await);
        assert!(is_over(&clock, 2).await);
        assert!(!is_over(&Clock::new(None), 1000).await);
    }
}
