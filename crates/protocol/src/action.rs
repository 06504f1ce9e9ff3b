//! What a caller can ask of a worker.

use thiserror::Error;

use crate::text::{excerpt, lossy, push_plain};

/// The first line of a request.
///
/// [`Ping`](Action::Ping) and [`Cancel`](Action::Cancel) are for workers started with `--control`
/// alone; they may be sent between requests and while a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// `run`: a hook; the other lines of a [`HookCall`](crate::HookCall) follow.
    Run,
    /// `shutdown`: end with exit code 0, after the message `SHUTDOWN`.
    Shutdown,
    /// `ping TOKEN`: answer `PONG TOKEN`.
    Ping(String),
    /// `cancel SIGNAL`: send that signal, such as `SIGTERM`, to the process group of the hook.
    Cancel(String),
}

impl Action {
    /// Appends the action as a line, the `\n` included.
    ///
    /// A newline in a token would end the line: it is written as the two characters `\n`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let (word, value) = match self {
            Action::Run => ("run", None),
            Action::Shutdown => ("shutdown", None),
            Action::Ping(token) => ("ping", Some(token)),
            Action::Cancel(signal) => ("cancel", Some(signal)),
        };
        out.extend_from_slice(word.as_bytes());
        if let Some(value) = value {
            out.push(b' ');
            push_plain(out, value.as_bytes());
        }
        out.push(b'\n');
    }

    /// The action as a line, the `\n` included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// Reads a line, without its `\n`. An empty line is an error here; a worker ignores it.
    pub fn parse(line: &[u8]) -> Result<Self, UnknownAction> {
        let value = |prefix: &[u8]| line.strip_prefix(prefix).filter(|value| !value.is_empty());
        match line {
            b"run" => Ok(Action::Run),
            b"shutdown" => Ok(Action::Shutdown),
            _ => (value(b"ping ").map(|token| Action::Ping(lossy(token))))
                .or_else(|| value(b"cancel ").map(|signal| Action::Cancel(lossy(signal))))
                .ok_or_else(|| UnknownAction { value: excerpt(line) }),
        }
    }
}

/// A line that is no action. The original hookd answers it with `ERROR InvalidAction`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown action {value:?}, expected run, shutdown, ping TOKEN or cancel SIGNAL")]
pub struct UnknownAction {
    /// The start of the line.
    pub value: String,
}
