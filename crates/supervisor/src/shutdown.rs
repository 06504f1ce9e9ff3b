//! How far the end of a supervisor has come.

use nix::sys::signal::Signal;

/// The stages of the end, each of which may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// It has not begun: requests and programs are admitted.
    NotBegun,
    /// Nothing is admitted; what was admitted runs to its end.
    Draining,
    /// Everything that runs gets this signal and the grace period.
    Interrupted(Signal),
    /// Everything that runs is killed.
    Terminated,
}

impl Shutdown {
    /// Goes on to a later stage. A stage that was reached is not left for the
    /// same or an earlier one; then the result is false.
    pub fn advance(&mut self, next: Self) -> bool {
        let advances = self.rank() < next.rank();
        if advances {
            *self = next;
        }
        advances
    }

    /// Whether running hooks and programs are being ended.
    pub fn ends_hooks(self) -> bool {
        matches!(self, Self::Interrupted(_) | Self::Terminated)
    }

    fn rank(self) -> u8 {
        match self {
            Self::NotBegun => 0,
            Self::Draining => 1,
            Self::Interrupted(_) => 2,
            Self::Terminated => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shutdown::{Draining, Interrupted, NotBegun, Terminated};
    use super::*;

    #[test]
    fn an_end_goes_on_as_it_began_unless_it_is_hurried() {
        let (int, term) = (Interrupted(Signal::SIGINT), Interrupted(Signal::SIGTERM));
        let cases = [
            (NotBegun, Draining, true),
            (NotBegun, Terminated, true),
            (Draining, Draining, false),
            (Draining, int, true),
            (int, term, false),
            (int, Draining, false),
            (int, Terminated, true),
            (Terminated, int, false),
        ];
        for (from, to, expected) in cases {
            let mut shutdown = from;
            assert_eq!(shutdown.advance(to), expected, "{from:?} -> {to:?}");
            assert_eq!(shutdown, if expected { to } else { from });
        }
    }
}
