//! Programs that say something and end at once, such as an interpreter that is
//! asked who it is. They run before there is a guard for them.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::spawner::Session;
use super::{ChildSettings, Spawner};

/// What a program said.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub exit: ExitStatus,
    /// What it wrote to standard output: the first 64 KiB.
    pub stdout: String,
    /// What it wrote to standard error: the first 64 KiB.
    pub stderr: String,
}

/// Why a program said nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// The system could not start it.
    #[error(transparent)]
    NotStarted(#[from] io::Error),
    /// It did not end.
    #[error("it did not end within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// Starts a program, without input, and waits for its end: for at most so long.
/// It is killed with its session then, or when this is dropped, or when this
/// process dies; what it has left in other sessions is not.
///
/// To be called before a supervisor starts in this process: one that is a child
/// subreaper kills children that it does not know.
///
/// # Errors
/// [`NoAnswer`].
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn answer_of(command: Command, at_most: Duration) -> Result<Answer, NoAnswer> {
    // Its thread must outlive the program, which dies with it.
    let spawner = Spawner::start(ChildSettings::default())?;
    answer(&spawner, command, at_most).await
}

/// The same, within a supervisor, which also finds what was left elsewhere.
pub(crate) async fn answer(spawner: &Spawner, mut command: Command, at_most: Duration) -> Result<Answer, NoAnswer> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawner.spawn(command).await?;
    let pid = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let session = Session::of(&child);
    let answer = async {
        let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
        // Before it is waited for, as its pid may be another's afterwards. Who has
        // closed both streams is about to end, and ends with its own code, or
        // has nothing more to say.
        drop(session);
        let exit = child.wait().await?;
        io::Result::Ok(Answer { exit, stdout, stderr })
    };
    let answer = tokio::time::timeout(at_most, answer).await;
    let _ = child.kill().await;
    if let Some(pid) = pid {
        spawner.forget(pid).await;
    }
    spawner.sweep().await;
    Ok(answer.map_err(|_| NoAnswer::TimedOut(at_most))??)
}

/// Reads to the end and keeps what fits: something that is no Python may write
/// for ever.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    const LIMIT: u64 = 64 * 1024;
    let Some(pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    let _ = pipe.take(LIMIT).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
