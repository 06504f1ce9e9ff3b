//! The end of a command that runs hooks and writes to standard output.

use std::io;
use std::time::Duration;

use hookpool_supervisor::{EndSignal, Supervisor, unblock};
use tokio::sync::watch;

use crate::console;
use crate::exit::{Exit, Failure};
use crate::signals::Ending;
use crate::streams::output::Output;

/// How long a reader who stalls may take for the last responses, once a signal
/// has ended everything else.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the end may take after a second signal.
const END_AT_ONCE: Duration = Duration::from_secs(5);

/// Why nothing more is to be done.
#[derive(Debug)]
pub enum SessionEnd {
    /// Everything that was asked for is answered.
    Answered,
    /// The same, and then the input could not be read any further.
    InputFailed(io::Error),
    /// The output cannot be written any more.
    OutputFailed(io::Error),
    /// A signal came, and not all answers could be written in time.
    TimeIsUp,
}

/// Ends the pool and the output, and says what that amounts to. `close` is done
/// once no hook runs any more.
pub async fn finish(
    end: SessionEnd,
    any_failed: bool,
    supervisor: &Supervisor,
    output: Output,
    close: impl Future<Output = ()>,
    ending: watch::Receiver<Ending>,
) -> Result<Exit, Failure> {
    if let SessionEnd::OutputFailed(_) = end {
        supervisor.interrupt(EndSignal::Terminate).await;
    }
    let (read, mut written, last_words) = match end {
        SessionEnd::Answered => (Ok(()), Ok(()), Some(output)),
        SessionEnd::InputFailed(error) => (Err(error), Ok(()), Some(output)),
        SessionEnd::OutputFailed(error) => (Ok(()), Err(error), None),
        SessionEnd::TimeIsUp => (Ok(()), Ok(()), None),
    };
    let in_good_order = async {
        supervisor.drain().await;
        if let Some(output) = last_words {
            written = output.finish().await;
        }
        close.await;
        console_flushed().await;
    };
    // A signal says that nothing of it is worth waiting for.
    tokio::select! {
        () = in_good_order => {}
        () = time_is_up(supervisor.clone(), ending.clone()) => {}
    }
    let signal = ending.borrow().signal();
    match (signal, written, read) {
        (Some(signal), _, _) => Ok(Exit::Interrupted(signal)),
        (None, Err(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
        (None, Err(error), _) => Err(Failure::pool(format!("cannot write to standard output: {error}"))),
        (None, Ok(()), Err(error)) => Err(Failure::pool(format!("cannot read standard input: {error}"))),
        (None, Ok(()), Ok(())) if any_failed => Ok(Exit::RequestFailed),
        (None, Ok(()), Ok(())) => Ok(Exit::Success),
    }
}

/// Waits until all that is to be told on standard error is written. Cancel-safe.
async fn console_flushed() {
    /// A thread that waits cannot be stopped, so none waits for long.
    const AT_ONCE: Duration = Duration::from_secs(1);
    while !unblock(|| console::flush(AT_ONCE)).await {}
}

/// Waits until signals have ended the program and what is still open has had
/// its time; for ever where there is none. Cancel-safe.
pub async fn time_is_up(supervisor: Supervisor, mut ending: watch::Receiver<Ending>) {
    let mut first = ending.clone();
    let orderly = async {
        let _ = first.wait_for(|ending| ending.signal().is_some()).await;
        supervisor.finished().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let at_once = async {
        let _ = ending.wait_for(|ending| matches!(ending, Ending::AtOnce(_))).await;
        tokio::time::sleep(END_AT_ONCE).await;
    };
    tokio::select! {
        () = orderly => {}
        () = at_once => {}
    }
}
