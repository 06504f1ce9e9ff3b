//! The signals that this program handles.

use std::io;

use hookpool_supervisor::{EndSignal, Selection, Supervisor};
use nix::sys::signal::{Signal as SignalNumber, raise};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Failure;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// SIGINT, SIGTERM.
    End(EndSignal),
    /// SIGHUP.
    Restart,
    /// SIGTSTP.
    Suspend,
    /// SIGCONT.
    Resume,
}

/// The handlers of signals. A signal that was ignored when the program started stays
/// ignored, as nohup(1) and a shell's `&` in a script expect; except SIGTERM, the
/// only way left to end the program in an orderly way.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Signal,
    hang_up: Option<Signal>,
    stop: Option<Signal>,
    resume: Signal,
}

impl Signals {
    /// Installs the handlers: from here on these signals do not end the program.
    pub fn listen() -> Result<Self, Failure> {
        Self::install().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))
    }

    fn install() -> io::Result<Self> {
        let unless_ignored = |kind| if is_ignored(kind) { Ok(None) } else { signal(kind).map(Some) };
        survive_file_size_limit()?;
        Ok(Self {
            interrupt: unless_ignored(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
            stop: unless_ignored(SignalKind::from_raw(SignalNumber::SIGTSTP as i32))?,
            resume: signal(SignalKind::from_raw(SignalNumber::SIGCONT as i32))?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            () = received(&mut self.interrupt) => Wish::End(EndSignal::Interrupt),
            _ = self.terminate.recv() => Wish::End(EndSignal::Terminate),
            () = received(&mut self.hang_up) => Wish::Restart,
            () = received(&mut self.stop) => Wish::Suspend,
            _ = self.resume.recv() => Wish::Resume,
        }
    }

    /// Waits for a signal that ends the program. For the time before there are
    /// workers to restart or hooks to suspend. Cancel-safe.
    pub async fn end(&mut self) -> EndSignal {
        loop {
            match self.next().await {
                Wish::End(signal) => return signal,
                Wish::Suspend => stop_this_process(),
                Wish::Restart | Wish::Resume => {}
            }
        }
    }
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail with an error;
/// by default SIGXFSZ ends the process. Needs an event loop. The handler stays
/// installed for the rest of the process's life; a child process, and a program
/// that replaces this one, gets the default action again.
pub fn survive_file_size_limit() -> io::Result<()> {
    let kind = SignalKind::from_raw(SignalNumber::SIGXFSZ as i32);
    if is_ignored(kind) { Ok(()) } else { signal(kind).map(drop) }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a signal is ending the program, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// No signal has come.
    #[default]
    NotYet,
    /// One signal has come: hooks are asked to end.
    Orderly(EndSignal),
    /// A second signal has come: everything is killed. Holds the first signal.
    AtOnce(EndSignal),
}

impl Ending {
    /// The signal that decides the exit code.
    pub fn signal(self) -> Option<EndSignal> {
        match self {
            Self::NotYet => None,
            Self::Orderly(signal) | Self::AtOnce(signal) => Some(signal),
        }
    }

    fn after(self, signal: EndSignal) -> Self {
        match self {
            Self::NotYet => Self::Orderly(signal),
            Self::Orderly(first) | Self::AtOnce(first) => Self::AtOnce(first),
        }
    }
}

/// What the first signal that ends the program does. The second kills what runs.
pub enum FirstSignal {
    /// Running hooks are asked to end.
    Interrupts,
    /// This is called, and then nothing new begins.
    Drains(Box<dyn Fn() + Send>),
}

/// Carries out what signals ask for, for the rest of the program's life, in a task
/// of its own so that nothing else delays a signal. Returns whether one is ending
/// the program.
pub fn obey(mut signals: Signals, supervisor: Supervisor, first: FirstSignal) -> watch::Receiver<Ending> {
    let (set_ending, ending) = watch::channel(Ending::NotYet);
    tokio::spawn(async move {
        loop {
            match signals.next().await {
                Wish::End(signal) => {
                    let next = set_ending.borrow().after(signal);
                    // The supervisor comes first: it must not admit a request that is read
                    // after the receivers have been notified.
                    match (next, &first) {
                        (Ending::AtOnce(_), _) => supervisor.terminate().await,
                        (Ending::Orderly(_) | Ending::NotYet, FirstSignal::Interrupts) => {
                            supervisor.interrupt(signal).await;
                        }
                        (Ending::Orderly(_) | Ending::NotYet, FirstSignal::Drains(drain)) => drain(),
                    }
                    set_ending.send_replace(next);
                }
                Wish::Restart => {
                    // A supervisor that has ended has nothing to restart.
                    let _ = supervisor.restart(Selection::All).await;
                }
                Wish::Suspend => {
                    supervisor.suspend().await;
                    stop_this_process();
                    // The process was continued, or never stopped: the system does not stop init.
                    supervisor.resume().await;
                }
                // After a SIGSTOP, which does not stop the hooks, this changes nothing.
                Wish::Resume => supervisor.resume().await,
            }
        }
    });
    ending
}

/// Returns when the process is continued; at once if it is process 1 of its
/// namespace (pid_namespaces(7)). Raises SIGSTOP, because the system ignores SIGTSTP
/// in an orphaned process group, which no shell would continue.
fn stop_this_process() {
    // Raising SIGSTOP cannot fail.
    let _ = raise(SignalNumber::SIGSTOP);
}

/// Whether this process ignores the signal; false if the system does not tell.
fn is_ignored(kind: SignalKind) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

/// Reads the mask of ignored signals from the text of proc(5): bit 0 is signal 1.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_ends_at_once_and_the_first_decides_the_code() {
        let (interrupt, terminate) = (EndSignal::Interrupt, EndSignal::Terminate);
        let first = Ending::NotYet.after(interrupt);
        assert_eq!(first, Ending::Orderly(interrupt));
        assert_eq!(first.after(terminate), Ending::AtOnce(interrupt));
        assert_eq!(first.after(terminate).after(terminate).signal(), Some(interrupt));
        assert_eq!(Ending::NotYet.signal(), None);
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, SignalKind::hangup()));
        assert!(!ignores(status, SignalKind::interrupt()));
        assert!(!ignores("", SignalKind::hangup()));
    }
}
