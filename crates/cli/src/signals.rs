//! Signals that this program was sent.

use std::io;

use hookpool_supervisor::{EndSignal, Supervisor};
use nix::sys::signal::{Signal as SignalNumber, raise};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGINT, SIGTERM.
    End(EndSignal),
    /// SIGHUP.
    Recycle,
    /// SIGTSTP.
    Suspend,
    /// SIGCONT.
    Resume,
}

/// The signals that are listened to. Those that were ignored when the program
/// was started stay so, as nohup(1) and a shell's `&` in a script want it; but
/// SIGTERM, without which the program could not be ended in good order.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Signal,
    hang_up: Option<Signal>,
    stop: Option<Signal>,
    go_on: Signal,
}

impl Signals {
    /// Listens from here on; these signals do not end the program any more.
    pub fn listen() -> io::Result<Self> {
        let unless_ignored = |kind| if is_ignored(kind) { Ok(None) } else { signal(kind).map(Some) };
        survive_file_size_limit()?;
        Ok(Self {
            interrupt: unless_ignored(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
            stop: unless_ignored(SignalKind::from_raw(SignalNumber::SIGTSTP as i32))?,
            go_on: signal(SignalKind::from_raw(SignalNumber::SIGCONT as i32))?,
        })
    }

    /// The next signal's wish. Cancel-safe.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            () = received(&mut self.interrupt) => Wish::End(EndSignal::Interrupt),
            _ = self.terminate.recv() => Wish::End(EndSignal::Terminate),
            () = received(&mut self.hang_up) => Wish::Recycle,
            () = received(&mut self.stop) => Wish::Suspend,
            _ = self.go_on.recv() => Wish::Resume,
        }
    }

    /// The first signal that asks for the end, while there is nothing yet that
    /// could be recycled or suspended. Cancel-safe.
    pub async fn end(&mut self) -> EndSignal {
        loop {
            match self.next().await {
                Wish::End(signal) => return signal,
                Wish::Suspend => stop_this_process(),
                Wish::Recycle | Wish::Resume => {}
            }
        }
    }
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error that can
/// be told, instead of the end of this process. Within an event loop, and for
/// good: nobody waits for the signal, but it is caught. For children, and
/// whatever this process becomes, the system puts back what it does by default.
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

/// How far a signal has ended the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// None has.
    #[default]
    NotYet,
    /// The first one: hooks are ended in good order.
    Orderly(EndSignal),
    /// The second one: everything is killed. The signal is the first one.
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

/// Does what the signals wish, for as long as the program lives. A task of its
/// own, so that nothing else can keep a signal waiting.
pub async fn obey(mut signals: Signals, supervisor: Supervisor, ending: watch::Sender<Ending>) {
    loop {
        match signals.next().await {
            Wish::End(signal) => {
                let next = ending.borrow().after(signal);
                // The supervisor first: what is read by those who are told
                // must not be admitted any more.
                match next {
                    Ending::AtOnce(_) => supervisor.terminate().await,
                    Ending::Orderly(_) | Ending::NotYet => supervisor.interrupt(signal).await,
                }
                ending.send_replace(next);
            }
            Wish::Recycle => supervisor.recycle().await,
            Wish::Suspend => {
                supervisor.suspend().await;
                stop_this_process();
                // Continued, or never stopped: the system does not stop init.
                supervisor.resume().await;
            }
            // Who was stopped by somebody else has not stopped its hooks.
            Wish::Resume => supervisor.resume().await,
        }
    }
}

/// Returns when the process is continued; at once where it is process 1 of its
/// namespace (pid_namespaces(7)). SIGSTOP, because the system ignores
/// SIGTSTP where no shell would continue the process (an orphaned group).
fn stop_this_process() {
    // Of SIGSTOP there is nothing that could fail.
    let _ = raise(SignalNumber::SIGSTOP);
}

/// Whether the signal is ignored, as far as the system tells.
fn is_ignored(kind: SignalKind) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

/// Reads the mask of proc(5): bit 0 is signal 1.
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
    fn reads_what_is_ignored() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, SignalKind::hangup()));
        assert!(!ignores(status, SignalKind::interrupt()));
        assert!(!ignores("", SignalKind::hangup()));
    }
}
