//! How the program can end, and the exit codes.

use std::fmt;

use hookpool_supervisor::EndSignal;

use crate::console;
use crate::logging::printable;

/// The ways to end that are no errors of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for succeeded.
    Success,
    /// Some request failed.
    RequestFailed,
    /// The command line is wrong.
    Usage,
    /// The pool itself could not work.
    PoolFailed,
    /// A signal ended the program.
    Interrupted(EndSignal),
    /// Nobody reads standard output any more.
    OutputClosed,
}

impl Exit {
    /// The exit code; above 128 it tells the signal, as a shell would.
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

/// Why a command could not do its work.
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

    /// The same failure with what might help.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What happened, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Tells it on standard error, the hint on a line of its own.
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
    fn codes_are_those_of_the_documentation() {
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
