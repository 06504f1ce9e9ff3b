//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use crate::error::ExitReason;

/// The reason behind a wait status.
pub(crate) fn exit_reason(status: ExitStatus) -> ExitReason {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitReason::ExitCode(code),
        (None, Some(number)) => ExitReason::Signal(signal_name(number)),
        (None, None) => ExitReason::Unknown,
    }
}

/// `SIGSEGV` for 11; real-time signals have no name.
pub(crate) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(exit_reason(ExitStatus::from_raw(0x300)), ExitReason::ExitCode(3));
        assert_eq!(exit_reason(ExitStatus::from_raw(11)), ExitReason::Signal("SIGSEGV".into()));
        assert_eq!(exit_reason(ExitStatus::from_raw(64)), ExitReason::Signal("signal 64".into()));
    }
}
