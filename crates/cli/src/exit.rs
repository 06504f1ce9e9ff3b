//! How the program can end, and the exit codes.

use std::fmt;

use hookpool_supervisor::EndSignal;

use crate::console;
use crate::format::printable;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything succeeded.
    Success,
    /// Some request failed.
    RequestFailed,
    /// The command line is wrong.
    Usage,
    /// The pool itself could not work.
    PoolFailed,
    /// A signal ended the program.
    Interrupted(EndSignal),
    /// The reader of standard output has closed it.
    OutputClosed,
}

impl Exit {
    /// The exit code; above 128 it stands for a signal, as in a shell.
    pub fn code(self) -> i32 {
        match self {
            Self::Success => 0,
            Self::RequestFailed => 1,
            Self::Usage => 2,
            Self::PoolFailed => 3,
            Self::Interrupted(EndSignal::Interrupt) => 130,
            Self::OutputClosed => 141,
            Self::Interrupted(EndSignal::Terminate) => 143,
        }
    }
}

/// Why a command could not run.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// The pool cannot work.
    pub fn pool(message: impl fmt::Display) -> Self {
        Self { exit: Exit::PoolFailed, message: message.to_string(), hint: None }
    }

    /// What was asked for was refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: Exit::RequestFailed, message: message.into(), hint: None }
    }

    /// Adds a hint for the user.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The hint.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Prints the message and, on a line of its own, the hint to standard error.
    pub fn report(self) -> Exit {
        let mut lines = vec![format!("error: {}", printable(&self.message))];
        if let Some(hint) = &self.hint {
            lines.extend([String::new(), format!("hint: {}", printable(hint))]);
        }
        console::print(&lines);
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_documented() {
        let all = [
            Exit::Success,
            Exit::RequestFailed,
            Exit::Usage,
            Exit::PoolFailed,
            Exit::Interrupted(EndSignal::Interrupt),
            Exit::OutputClosed,
            Exit::Interrupted(EndSignal::Terminate),
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 130, 141, 143]);
    }
}
