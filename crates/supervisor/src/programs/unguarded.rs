//! Programs that print something and end at once, such as an interpreter that
//! is asked about itself. They run without a guard, which is one more process.

use std::future::pending;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{ProgramError, ProgramOutput};
use crate::caller::CallerProcess;
use crate::error::ExitReason;
use crate::limits::Timeout;
use crate::process::{ChildSettings, SessionGuard, Spawner};

/// Runs a program without input for at most `limit`, and returns the first
/// MiB of each of its outputs.
///
/// At the end, or when the future is dropped, or when this process dies, the
/// program is killed with its session. Processes that it has started in other
/// sessions are not.
///
/// Call it before a supervisor starts in this process: one that is a child
/// subreaper kills children that it does not know.
///
/// # Errors
/// [`ProgramError::NotStarted`] and [`ProgramError::TimedOut`].
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn run_unguarded(command: Command, limit: Timeout) -> Result<ProgramOutput, ProgramError> {
    let program = PathBuf::from(command.get_program());
    // Its thread must outlive the program, which dies with it.
    let spawner = Spawner::start(ChildSettings::default());
    let spawner = spawner.map_err(|source| ProgramError::NotStarted { program, source })?;
    run_unguarded_by(&spawner, None, command, limit, pending()).await
}

/// The same within a supervisor, which also kills what is left in other
/// sessions. The program has the umask and the limits of `caller`, and is killed when
/// `unwanted` is ready.
pub(crate) async fn run_unguarded_by(
    spawner: &Spawner,
    caller: Option<&CallerProcess>,
    mut command: Command,
    limit: Timeout,
    unwanted: impl Future<Output = ()>,
) -> Result<ProgramOutput, ProgramError> {
    let program = PathBuf::from(command.get_program());
    let not_started = |source| ProgramError::NotStarted { program: program.clone(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawner.spawn_for(caller, command).await.map_err(not_started)?;
    let pid = child.id();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let session = SessionGuard::of(&child);
    let ended = async {
        tokio::join!(read(out, &mut stdout), read(err, &mut stderr));
        // Before `wait`, after which the pid may be another process's. A program
        // that has closed both streams is about to end with its own code.
        drop(session);
        child.wait().await
    };
    let status = tokio::select! {
        status = tokio::time::timeout(limit.get(), ended) => Some(status),
        () = unwanted => None,
    };
    let _ = child.kill().await;
    if let Some(pid) = pid {
        spawner.forget(pid).await;
    }
    spawner.sweep().await;
    match status {
        None => Err(ProgramError::Interrupted),
        Some(Ok(status)) => Ok(ProgramOutput { exit: status.map_err(not_started)?.into(), stdout, stderr }),
        Some(Err(_)) => {
            let output = ProgramOutput { exit: ExitReason::Unknown, stdout, stderr };
            Err(ProgramError::TimedOut { program, limit, output })
        }
    }
}

/// Reads to the end, or until the limit: a program that is not Python may write
/// for ever.
async fn read(pipe: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    const LIMIT: u64 = 1 << 20;
    if let Some(pipe) = pipe {
        let _ = pipe.take(LIMIT).read_to_end(bytes).await;
    }
}
