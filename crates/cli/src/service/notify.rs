//! What the service tells its service manager (sd_notify(3)): that it serves, how it
//! does, and that its scheduler works.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::time::Duration;

use futures_util::FutureExt;
use hookpool_supervisor::{Event, Events, Selection, Snapshot, Supervisor, WorkerPhase};
use hookpool_wire::Phase;
use nix::time::{ClockId, clock_gettime};
use tokio::net::UnixDatagram;
use tracing::warn;

use super::Admissions;

/// The shortest time between two looks at the state.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a service manager that reads nothing may delay this task.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    /// How often it wants to hear that the service works.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// `None` if no service manager wants to be told, or if it cannot be reached.
    pub fn from_environment() -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog_interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        match connect(&address).and_then(UnixDatagram::from_std) {
            Ok(socket) => Some(Self { socket, watchdog }),
            Err(error) => {
                warn!("NOTIFY_SOCKET: {}: the service manager is told nothing: {error}", address.display());
                None
            }
        }
    }

    /// Tells that the service serves, and from then on how it does; until it is
    /// dropped.
    pub async fn run(self, supervisor: Supervisor, admissions: Admissions) {
        let events = supervisor.subscribe(changes_the_status);
        self.send(&format!("READY=1\nMAINPID={}", std::process::id())).await;
        let scheduler_answers = || async { supervisor.snapshot().await.is_some() };
        tokio::join!(
            self.tell_status(&supervisor, &admissions, events),
            self.feed_watchdog(scheduler_answers),
            async {
                admissions.exit_wanted().await;
                self.send("STOPPING=1").await;
            },
        );
    }

    async fn tell_status(&self, supervisor: &Supervisor, admissions: &Admissions, mut events: Events) {
        let mut told = String::new();
        loop {
            let admission = admissions.now();
            let Some(snapshot) = supervisor.snapshot().await else { return };
            let status = status(admission.phase, &snapshot);
            if status != told {
                self.send(&format!("STATUS={status}")).await;
                told = status;
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
            let mut next = tokio::select! {
                event = events.next() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = admissions.leaves(admission.phase) => None,
            };
            while let Some(event) = next {
                if matches!(event.event, Event::Restarting { selection: Selection::All }) {
                    self.tell_reload().await;
                }
                // One text tells of all that has happened meanwhile.
                next = events.next().now_or_never().flatten();
            }
        }
    }

    /// Everything is decided when the event comes: new hooks get new workers.
    async fn tell_reload(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())).await;
        self.send("READY=1").await;
    }

    /// Says that the service works whenever its scheduler has answered. Returns when
    /// nobody wants to hear it, or the scheduler has ended.
    async fn feed_watchdog<Answers: Future<Output = bool>>(&self, scheduler_answers: impl Fn() -> Answers) {
        let Some(interval) = self.watchdog else { return };
        while scheduler_answers().await {
            self.send("WATCHDOG=1").await;
            tokio::time::sleep(interval).await;
        }
    }

    async fn send(&self, message: &str) {
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.socket.send(message.as_bytes())).await;
        if let Err(error) = sent.map_err(io::Error::from).flatten() {
            warn!("the service manager was not told {message:?}: {error}");
        }
    }
}

/// Half of the time within which the service manager wants to hear of the process.
fn watchdog_interval(microseconds: Option<String>, process: Option<String>, this: u32) -> Option<Duration> {
    let is_for_this = process.is_none_or(|process| process.parse() == Ok(this));
    let limit = microseconds?.parse().ok().filter(|limit| *limit > 0 && is_for_this)?;
    Some(Duration::from_micros(limit) / 2)
}

/// Connects to a path, or to a name in the abstract namespace (unix(7)), written with
/// an `@` at its beginning.
fn connect(address: &OsStr) -> io::Result<StdUnixDatagram> {
    let socket = StdUnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        None => socket.connect(address)?,
        Some(name) => connect_abstract(&socket, name)?,
    }
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn connect_abstract(socket: &StdUnixDatagram, name: &[u8]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn connect_abstract(_socket: &StdUnixDatagram, _name: &[u8]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names"))
}

fn changes_the_status(event: &Event) -> bool {
    matches!(
        event,
        Event::RequestQueued { .. }
            | Event::RequestAccepted { .. }
            | Event::RequestFinished { .. }
            | Event::WorkerReady { .. }
            | Event::WorkerExited { .. }
            | Event::TemplateReady { .. }
            | Event::TemplateExited { .. }
            | Event::Restarting { .. }
    )
}

fn status(phase: Phase, snapshot: &Snapshot) -> String {
    let phase = match phase {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
    };
    let workers: usize = snapshot.worker_phases.values().sum();
    let running = snapshot.worker_phases.get(&WorkerPhase::Running).copied().unwrap_or(0);
    format!(
        "{phase}: {} requests open, {running} hooks running, {workers} workers, {} templates",
        snapshot.requests.count,
        snapshot.templates.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_at_half_of_its_time() {
        let second = Some(Duration::from_millis(500));
        for (limit, process, expected) in [
            (None, None, None),
            (Some("1000000"), None, second),
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ] {
            let text = |text: Option<&str>| text.map(ToOwned::to_owned);
            assert_eq!(watchdog_interval(text(limit), text(process), 7), expected, "{limit:?} {process:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scheduler_that_does_not_answer_feeds_no_watchdog() {
        let (ours, manager) = UnixDatagram::pair().unwrap();
        let notifier = Notifier { socket: ours, watchdog: Some(Duration::from_secs(5)) };
        let answers = std::sync::atomic::AtomicUsize::new(3);
        let scheduler_answers = || async {
            use std::sync::atomic::Ordering::Relaxed;
            if answers.load(Relaxed) == 0 {
                std::future::pending::<()>().await;
            }
            answers.fetch_sub(1, Relaxed) > 0
        };
        let feeding = notifier.feed_watchdog(scheduler_answers);
        tokio::time::timeout(Duration::from_secs(3600), feeding).await.unwrap_err();
        let mut buffer = [0; 64];
        for _ in 0..3 {
            let length = manager.try_recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"WATCHDOG=1");
        }
        assert!(manager.try_recv(&mut buffer).is_err(), "it was fed without an answer");
    }
}
