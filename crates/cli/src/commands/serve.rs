//! `hookpool serve`: the service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hookpool_supervisor::{CallerProcess, EndSignal, Supervisor, Timeout};
use hookpool_wire::{Admission, Drain};
use hyper::Method;
use nix::unistd::{User, geteuid};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::arguments::ServeArguments;
use crate::event_readers::EventReaders;
use crate::exit::{Exit, Failure};
use crate::hooks::{Hooks, Origin};
use crate::lifecycle;
use crate::observer;
use crate::pool::{self, PoolResources};
use crate::service::activation::PassedSocket;
use crate::service::client::Client;
use crate::service::connections::{Connections, Listeners};
use crate::service::notify::Notifier;
use crate::service::socket::{HiddenSocket, SocketError, path_or_default};
use crate::service::token::{Token, with_token};
use crate::service::{Admissions, Monitor, Service, router, version};
use crate::settings::PoolSettings;
use crate::signals::{Ending, FirstSignal, Signals, obey};

/// Serves until a signal comes, or a client asks for the end.
pub fn execute(arguments: ServeArguments) -> Result<Exit, Failure> {
    let ServeArguments { socket, listen, token_file, take_over, drain_timeout, idle_exit, pool } = arguments;
    let place = match PassedSocket::take().map_err(Failure::pool)? {
        Some(passed) => {
            check_passed(&passed, socket.as_deref(), take_over)?;
            Place::Passed(passed)
        }
        None => {
            let path = path_or_default(socket, pool.locations.cache.cache_dir.clone());
            Place::Own(path.and_then(|path| HiddenSocket::bind(&path, take_over)).map_err(refused)?)
        }
    };
    // clap wants both or none.
    let tcp = match (listen, token_file) {
        (Some(address), Some(file)) => Some((bind(address)?, Token::read(&file).map_err(Failure::pool)?)),
        _ => None,
    };
    let settings = PoolSettings::resolve(pool)?;
    lifecycle::run(serve(settings, place, tcp, take_over, drain_timeout, idle_exit))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| Failure::pool(format!("cannot listen at {address}: {error}")))
}

/// Where the service listens.
enum Place {
    /// At a socket of its own.
    Own(HiddenSocket),
    /// At one that stays when the service ends.
    Passed(PassedSocket),
}

/// Flags must not ask for another socket than that of the service manager.
fn check_passed(passed: &PassedSocket, socket: Option<&Path>, take_over: bool) -> Result<(), Failure> {
    let passed_path = passed.path.display();
    if take_over {
        let message = format!(
            "--take-over: the service manager has passed its socket {passed_path}, and replaces services itself"
        );
        return Err(Failure::usage(message));
    }
    match socket.filter(|path| !passed.is_at(path)) {
        Some(path) => Err(Failure::usage(format!(
            "--socket {}: the service manager has passed the socket {passed_path}, expected no other path",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Why there is no socket, with what helps.
pub fn refused(error: SocketError) -> Failure {
    let hint = match error {
        SocketError::InUse { .. } => Some("--take-over lets it finish its work, and takes its place"),
        SocketError::Path { .. } | SocketError::Folder(_) | SocketError::NoDefault { .. } => {
            Some("--socket chooses another path")
        }
        _ => None,
    };
    let failure = Failure::pool(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

async fn serve(
    settings: PoolSettings,
    place: Place,
    tcp: Option<(TcpListener, Token)>,
    take_over: bool,
    drain_timeout: Duration,
    idle_exit: Option<Timeout>,
) -> Result<Exit, Failure> {
    let started_at = Instant::now();
    let mut signals = Signals::listen()?;
    let monitor = Arc::new(Monitor::default());
    let start = async {
        let resources = PoolResources::prepare(&settings, "serve").await?;
        let builder = resources.builder(settings.clone()).keep_output(true);
        let supervisor = resources.start(monitor.attach(builder, &resources.readers)).await?;
        Ok::<_, Failure>((resources, supervisor))
    };
    let (resources, supervisor) = tokio::select! {
        started = start => started?,
        signal = signals.end() => return Ok(Exit::Interrupted(signal)),
    };
    let default_caller = default_caller();
    let listener = monitor.clone();
    let environments = resources.environments_of_callers(&settings, &supervisor, move |event| {
        observer::log_environment(event);
        listener.observe_environment(event);
    });
    // Otherwise the first request would tell that none can be made.
    environments.of(None).await?;
    let answers = pool::answers(&settings, resources.cache.path()).await;
    let hooks = Hooks {
        supervisor: supervisor.clone(),
        environments,
        answers,
        default_caller: Some(default_caller),
        origin: Origin::default(),
    };

    let admissions = Admissions::new();
    let on_signal = admissions.clone();
    let ending = obey(signals, supervisor.clone(), FirstSignal::Drains(Box::new(move || on_signal.drain(true))));
    let (interrupt, interrupted) = watch::channel(Ending::NotYet);
    let service = Arc::new(Service {
        hooks: hooks.clone(),
        admissions: admissions.clone(),
        cache: resources.cache.path().to_owned(),
        version: version(resources.cache.path()),
        monitor,
        started_at,
        ending: interrupted,
    });

    let (close, closing) = watch::channel(false);
    let old = match &place {
        Place::Own(hidden) if take_over => Client::connect(hidden.path()).await.ok(),
        Place::Own(_) | Place::Passed(_) => None,
    };
    let (socket, path, listener) = match place {
        Place::Own(hidden) => {
            let path = hidden.path().to_owned();
            let (socket, listener) = hidden.publish(take_over).map_err(refused)?;
            (Some(socket), path, listener)
        }
        Place::Passed(PassedSocket { listener, path }) => (None, path, listener),
    };
    let router = router(service);
    let (listeners, address) = listeners(listener, socket.is_none(), tcp, &router)
        .map_err(|error| Failure::pool(format!("cannot listen: {error}")))?;
    let connections = tokio::spawn(Connections::new(router).serve(listeners, closing));
    info!(socket = %path.display(), address = address.map(tracing::field::display), "serving");
    if let Some(notifier) = Notifier::from_environment() {
        tokio::spawn(notifier.run(supervisor.clone(), admissions.clone()));
    }
    if let Some(mut old) = old {
        // From here on new clients find this service.
        let drain = Some(&Drain { exit: true });
        if let Err(error) = old.ask::<Admission>(Method::POST, "/v1/drain", drain).await {
            warn!("cannot tell the service whose place this one has taken to end: {error}");
        }
    }

    tokio::select! {
        () = admissions.exit_wanted() => info!("finishing what is open"),
        () = idle_for(idle_exit, &admissions) => {
            info!("there was no work for the time of --idle-exit");
            admissions.drain(true);
        }
    }
    let exit = end(&supervisor, &admissions, hooks, &resources.readers, drain_timeout, &interrupt, ending).await;
    close.send_replace(true);
    // It is bounded, and has nothing to return.
    let _ = connections.await;
    drop(socket);
    resources.finish(exit)
}

/// The listeners for the event loop, and the address for TCP, whose port the system
/// may have chosen.
fn listeners(
    unix: UnixListener,
    stays: bool,
    tcp: Option<(TcpListener, Token)>,
    router: &Router,
) -> io::Result<(Listeners, Option<SocketAddr>)> {
    unix.set_nonblocking(true)?;
    let unix = tokio::net::UnixListener::from_std(unix)?;
    let Some((listener, token)) = tcp else { return Ok((Listeners { unix, stays, tcp: None }, None)) };
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let tcp = Some((tokio::net::TcpListener::from_std(listener)?, with_token(router.clone(), token)));
    Ok((Listeners { unix, stays, tcp }, Some(address)))
}

async fn idle_for(time: Option<Timeout>, admissions: &Admissions) {
    match time {
        Some(time) => admissions.idle_for(time.get()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the open work, after a signal only for a time, and ends the pool.
async fn end(
    supervisor: &Supervisor,
    admissions: &Admissions,
    hooks: Hooks,
    readers: &EventReaders,
    drain_timeout: Duration,
    interrupt: &watch::Sender<Ending>,
    mut ending: watch::Receiver<Ending>,
) -> Result<Exit, Failure> {
    let mut is_cut_off = false;
    tokio::select! {
        biased;
        () = admissions.idle() => {}
        // The supervisor was told already.
        () = second_signal_came(ending.clone()) => {}
        () = time_after_signal(ending.clone(), drain_timeout) => {
            is_cut_off = true;
            warn!(open = admissions.now().open, "the time for open work is up: it is ended");
            supervisor.interrupt(EndSignal::Terminate).await;
            interrupt.send_replace(Ending::Orderly(EndSignal::Terminate));
        }
    }
    let orderly = async {
        supervisor.drain().await;
        readers.finished().await;
        admissions.idle().await;
        hooks.close().await;
    };
    tokio::select! {
        () = orderly => {}
        () = lifecycle::forced_end(&mut ending) => {}
    }
    match *ending.borrow() {
        Ending::AtOnce(signal) => Ok(Exit::Interrupted(signal)),
        Ending::NotYet | Ending::Orderly(_) if is_cut_off => Ok(Exit::RequestFailed),
        Ending::NotYet | Ending::Orderly(_) => Ok(Exit::Success),
    }
}

/// Waits until the time for open work is up. Without a signal there is none: whoever
/// asks for the end over HTTP waits for as long as the work takes. Cancel-safe.
async fn time_after_signal(mut ending: watch::Receiver<Ending>, time: Duration) {
    // The sender lives as long as the program.
    let _ = ending.wait_for(|ending| ending.signal().is_some()).await;
    tokio::time::sleep(time).await;
}

async fn second_signal_came(mut ending: watch::Receiver<Ending>) {
    // The sender lives as long as the program.
    let _ = ending.wait_for(|ending| matches!(ending, Ending::AtOnce(_))).await;
}

/// What hooks inherit if their caller does not say: nothing of this process but who it
/// is, and its resource limits, of which no value suits everybody.
fn default_caller() -> Arc<CallerProcess> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: OsString| variables.insert(OsString::from(name), value);
    set("PATH", "/usr/local/bin:/usr/bin:/bin".into());
    set("LANG", "C.UTF-8".into());
    if let Ok(Some(user)) = User::from_uid(geteuid()) {
        set("HOME", user.dir.into());
        set("USER", user.name.clone().into());
        set("LOGNAME", user.name.into());
    }
    Arc::new(CallerProcess { variables, umask: 0o022, limits: Vec::new() })
}
