//! One program under its guard, from its start to the end of all that it
//! started.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Pause, ProgramError, ProgramOutput};
use crate::caller::CallerProcess;
use crate::limits::Timeout;
use crate::process::{Spawner, Stage, Termination};
use crate::shutdown::Shutdown;

/// How much of each stream is kept, in bytes.
const KEPT: usize = 1 << 20;

/// How long the output is read after the guard has gone: a process that outlives
/// a killed guard may hold the other end.
const READ_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct GuardedProgram {
    pub spawner: Spawner,
    /// Whose umask and limits it has. `None`: this process.
    pub caller: Option<Arc<CallerProcess>>,
    pub grace_period: Option<Timeout>,
    pub shutdown: watch::Receiver<Shutdown>,
    pub pauses: broadcast::Receiver<Pause>,
    /// Closed when the caller is gone.
    pub reply: oneshot::Sender<Result<ProgramOutput, ProgramError>>,
    /// A value that the program needs, such as a folder, dropped after its end.
    pub kept: Box<dyn Send>,
    pub clock: Clock,
}

/// How long a program may run. Time in which it is stopped does not count.
#[derive(Debug)]
pub(super) struct Clock {
    limit: Option<Timeout>,
    left: Duration,
    /// `None` while it is stopped.
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

    /// Waits until the time is up. Cancel-safe.
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

/// Why a program has ended.
enum End {
    ByItself,
    Interrupted,
    TimedOut(Timeout),
}

/// What the loop of a program has found.
enum GuardEvent {
    Ended(io::Result<ExitStatus>),
    Interrupted(Signal),
    /// The caller is gone, or the supervisor is terminated.
    Unwanted,
    TimedOut(Timeout),
    Paused(Pause),
    NextStage,
}

impl GuardedProgram {
    pub async fn finish(mut self, guarded: Command, program: PathBuf) {
        let outcome = match self.spawner.spawn_for(self.caller.as_deref(), guarded).await {
            Ok(child) => self.supervise(child, &program).await,
            Err(source) => Err(ProgramError::NotStarted { program, source }),
        };
        // This may be a folder with thousands of files. An error changes nothing.
        let kept = self.kept;
        let _ = tokio::task::spawn_blocking(move || drop(kept)).await;
        // The caller may be gone.
        let _ = self.reply.send(outcome);
    }

    async fn supervise(&mut self, mut child: Child, program: &Path) -> Result<ProgramOutput, ProgramError> {
        let pid = child.id();
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let (status, end) = self.ended(&mut child).await;
        if let Some(pid) = pid {
            self.spawner.forget(pid).await;
        }
        // The children of a guard that was killed have come to this process.
        self.spawner.sweep().await;
        let (stdout, stderr) = (finished(stdout).await, finished(stderr).await);
        let status = status.map_err(|source| ProgramError::NotStarted { program: program.to_owned(), source })?;
        let output = ProgramOutput { exit: status.into(), stdout, stderr };
        match end {
            End::ByItself => Ok(output),
            End::Interrupted => Err(ProgramError::Interrupted),
            End::TimedOut(limit) => Err(ProgramError::TimedOut { program: program.to_owned(), limit, output }),
        }
    }

    /// Waits for the end of the guard, which is the end of all that it guards.
    /// Ends it when the time is up, or when that is wished.
    async fn ended(&mut self, child: &mut Child) -> (io::Result<ExitStatus>, End) {
        // `Child::wait` would close the guard's input, which ends the program.
        let mut input = child.stdin.take();
        let (mut end, mut termination) = (End::ByItself, None::<Termination>);
        loop {
            let event = self.next(child, termination.as_ref()).await;
            let now = Instant::now();
            let stage = match event {
                GuardEvent::Ended(status) => return (status, end),
                GuardEvent::Interrupted(signal) => {
                    end = End::Interrupted;
                    Some(termination.insert(Termination::of_guard(Some(signal), self.grace_period, now)).stage())
                }
                GuardEvent::Unwanted => {
                    end = End::Interrupted;
                    match &mut termination {
                        Some(termination) => termination.hurry(now),
                        None => Some(termination.insert(Termination::of_guard(None, None, now)).stage()),
                    }
                }
                GuardEvent::TimedOut(limit) => {
                    end = End::TimedOut(limit);
                    Some(termination.insert(Termination::of_guard(None, None, now)).stage())
                }
                GuardEvent::Paused(pause) => {
                    self.pause(child.id(), &pause);
                    None
                }
                GuardEvent::NextStage => termination.as_mut().and_then(|termination| termination.advance(now)),
            };
            match stage {
                Some(Stage::Signal(signal)) => {
                    send(child.id(), signal);
                    // A stopped program does not react to signals.
                    send(child.id(), Signal::SIGCONT);
                }
                Some(Stage::CloseInput) => drop(input.take()),
                Some(Stage::Kill | Stage::EndParent) => {
                    // An error means that it has ended.
                    let _ = child.start_kill();
                }
                None => {}
            }
        }
    }

    /// Waits for whatever comes first. All futures here are cancel-safe;
    /// `Child::wait` returns a status again that it has returned before.
    async fn next(&mut self, child: &mut Child, termination: Option<&Termination>) -> GuardEvent {
        let is_being_asked = termination.is_some_and(|termination| matches!(termination.stage(), Stage::Signal(_)));
        let can_be_hurried = termination.is_none() || is_being_asked;
        let is_news = |shutdown: &Shutdown| match shutdown {
            Shutdown::NotBegun | Shutdown::Draining => false,
            Shutdown::Interrupted(_) => termination.is_none(),
            Shutdown::Terminated => true,
        };
        let shutdown = async {
            match self.shutdown.wait_for(is_news).await.map(|shutdown| *shutdown) {
                Ok(Shutdown::Interrupted(signal)) => GuardEvent::Interrupted(signal),
                Ok(_) => GuardEvent::Unwanted,
                // The supervisor is gone; the pauses say so too.
                Err(_) => std::future::pending().await,
            }
        };
        let next_stage = async {
            match termination.map(Termination::next_at) {
                Some(Some(at)) => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            status = child.wait() => GuardEvent::Ended(status),
            event = shutdown, if can_be_hurried => event,
            () = self.reply.closed(), if can_be_hurried => GuardEvent::Unwanted,
            () = next_stage => GuardEvent::NextStage,
            pause = next_pause(&mut self.pauses), if can_be_hurried => pause.map_or(GuardEvent::Unwanted, GuardEvent::Paused),
            limit = self.clock.over(), if termination.is_none() => GuardEvent::TimedOut(limit),
        }
    }

    fn pause(&mut self, pid: Option<u32>, pause: &Pause) {
        match pause {
            Pause::Suspend { .. } => {
                self.clock.stop();
                send(pid, Signal::SIGTSTP);
            }
            Pause::Resume => {
                self.clock.go_on();
                send(pid, Signal::SIGCONT);
            }
        }
    }
}

/// `None` once the supervisor is gone. Cancel-safe.
async fn next_pause(pauses: &mut broadcast::Receiver<Pause>) -> Option<Pause> {
    loop {
        match pauses.recv().await {
            Ok(pause) => return Some(pause),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// Sends a signal to a guard that was not waited for, so that the pid is its own.
fn send(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Reads a stream to its end, and keeps the last part of it.
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
