//! A build by a service, if there is one that may do it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use hookd_protocol::LineDecoder;
use hookpool_frontend::JobId;
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{CallerProcess, EndSignal, ErrorKind, HookError, is_within_hook};
use hookpool_wire::{BuildEvent, BuildRequest, BuildSource, DRAINING, Version};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::show::Display;
use crate::arguments::GivenFlag;
use crate::arguments::build::ServiceChoice;
use crate::building::jobs::Job;
use crate::building::sources::{Built, failed, interrupted};
use crate::exit::{Exit, Failure};
use crate::folders;
use crate::lifecycle::EndReason;
use crate::service::builds::{OF_THE_CLIENT, OF_THE_POOL, path_in};
use crate::service::client::{Client, ClientError};
use crate::service::identity::REQUEST_ID;
use crate::service::{socket, version};
use crate::settings::BuildSettings;
use crate::signals::Signals;
use crate::streams::output::Output;
use crate::timings::{Target, with_page};

/// How often a service that is being drained is asked, and the wait in between.
const TRIES: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// How long a service may take to clean up after a build.
const CLEANING_TIME: Duration = Duration::from_secs(5);

/// How long a reader that stalls may take to read the last results after a signal.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// A build that a service has begun.
pub struct RemoteBuild {
    body: Incoming,
    /// The file for the report on the run.
    timings: Option<Target>,
    /// Dropping it ends the build.
    _client: Client,
}

/// Has a service begin the build. `None`: this process is to do it.
pub async fn begin(
    settings: &BuildSettings,
    given: &[GivenFlag],
    jobs: &[Job],
    shows_output: bool,
) -> Result<Option<RemoteBuild>, Failure> {
    let (path, is_required) = match &settings.service {
        ServiceChoice::Never => return Ok(None),
        ServiceChoice::Auto => (None, false),
        ServiceChoice::Require(path) => (path.clone(), true),
    };
    let timings = match settings.pool.timings.clone() {
        Some(file) => Some(unblock(move || Target::check(&file)).await.map_err(Failure::pool)?),
        None => None,
    };
    match try_begin(path, settings, given, jobs, shows_output).await {
        Ok((client, body)) => Ok(Some(RemoteBuild { body, timings, _client: client })),
        Err(reason) if is_required => Err(Failure::pool(format!("--service: {reason}"))
            .with_hint("start one with `hookpool serve`, or pass --service never")),
        Err(reason) => {
            info!("no service does the work: {reason}");
            Ok(None)
        }
    }
}

/// Why no service does the work.
#[derive(Debug, thiserror::Error)]
enum NoService {
    #[error("{0}")]
    Socket(#[from] socket::SocketError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("this is a hook of another hookpool")]
    WithinHook,
    #[error("{setting} asks for workers of its own")]
    OwnWorkers { setting: String },
    #[error("it is another build of hookpool ({version})")]
    OtherBuild { version: String },
    #[error("its cache folder is {cache}")]
    OtherCache { cache: String },
    #[error("{what} is not UTF-8")]
    NotText { what: &'static str },
    #[error("the umask cannot be read: {0}")]
    Umask(std::io::Error),
    #[error("{python} is not found: {reason}")]
    Python { python: String, reason: which::Error },
}

async fn try_begin(
    path: Option<PathBuf>,
    settings: &BuildSettings,
    given: &[GivenFlag],
    jobs: &[Job],
    shows_output: bool,
) -> Result<(Client, Incoming), NoService> {
    if is_within_hook() {
        return Err(NoService::WithinHook);
    }
    if let Some(flag) = given.iter().find(|flag| OF_THE_POOL.contains(&flag.name.as_str())) {
        return Err(NoService::OwnWorkers { setting: flag.written() });
    }
    let named = path.or_else(|| std::env::var_os("HOOKPOOL_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from));
    let path = socket::path_or_default(named, settings.pool.cache_folder.clone())?;
    let mut tries = TRIES;
    loop {
        match ask(&path, settings, given, jobs, shows_output).await {
            // Another service may be taking its place.
            Err(NoService::Client(ClientError::Refused(problem))) if problem.title == DRAINING && tries > 1 => {
                tries -= 1;
                tokio::time::sleep(RETRY_DELAY).await;
            }
            begun => return begun,
        }
    }
}

/// Asks the service at this path.
async fn ask(
    path: &Path,
    settings: &BuildSettings,
    given: &[GivenFlag],
    jobs: &[Job],
    shows_output: bool,
) -> Result<(Client, Incoming), NoService> {
    let mut client = Client::connect(path).await?;
    let theirs: Version = client.ask(Method::GET, "/v1/version", None::<&()>).await?;
    let cache = folders::cache_path(settings.pool.cache_folder.clone());
    let ours = version(&cache.unwrap_or_default());
    if theirs.build != ours.build {
        return Err(NoService::OtherBuild { version: theirs.version });
    }
    if theirs.cache != ours.cache {
        return Err(NoService::OtherCache { cache: theirs.cache });
    }
    let request = request(settings, given, jobs, shows_output)?;
    let body = serde_json::to_vec(&request).expect("strings and JSON values can be written as JSON");
    let response = client.send(Method::POST, "/v1/builds", body).await?;
    let http_request = response.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    info!(socket = %path.display(), pid = theirs.pid, http_request, "a service does the work");
    Ok((client, response.into_body()))
}

fn request(
    settings: &BuildSettings,
    given: &[GivenFlag],
    jobs: &[Job],
    shows_output: bool,
) -> Result<BuildRequest, NoService> {
    let mut options = Map::new();
    for flag in given.iter().filter(|flag| !OF_THE_CLIENT.contains(&flag.name.as_str())) {
        let values = flag.values.iter().map(|value| option(&flag.name, value)).collect::<Result<Vec<_>, _>>()?;
        let value = if values.is_empty() { Value::Bool(true) } else { Value::Array(values) };
        options.insert(flag.name.clone(), value);
    }
    options.insert("python".into(), text(&python(&settings.pool.python)?, "the path of the interpreter")?.into());
    if let Some(folder) = settings.output_folder() {
        options.insert("output-dir".into(), text(folder.path(), "the output folder")?.into());
    }
    let source = |job: &Job| {
        let path = absolute(job.name());
        let name = text(job.name(), "the path of a source")?;
        Ok(BuildSource { path: text(&path, "the path of a source")?, name: Some(name) })
    };
    let caller = CallerProcess::of_this_process().map_err(NoService::Umask)?;
    let caller = serde_json::to_value(caller).and_then(serde_json::from_value);
    Ok(BuildRequest {
        command: settings.command().to_owned(),
        sources: jobs.iter().map(source).collect::<Result<_, NoService>>()?,
        options,
        output: shows_output,
        timings: settings.pool.timings.is_some(),
        caller: Some(caller.expect("both have the same form")),
    })
}

/// The value of a flag, with absolute paths.
fn option(flag: &str, value: &OsStr) -> Result<Value, NoService> {
    let value = value.to_str().ok_or(NoService::NotText { what: "the value of a flag" })?;
    let path = path_in(flag, value).unwrap_or_default();
    if path.is_empty() {
        return Ok(value.into());
    }
    let before = &value[..value.len() - path.len()];
    Ok(format!("{before}{}", text(&absolute(Path::new(path)), "the working directory")?).into())
}

fn absolute(path: &Path) -> PathBuf {
    // It fails for the empty path only.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The interpreter that this process would use: the service has another PATH.
fn python(name: &Path) -> Result<PathBuf, NoService> {
    if name.components().count() > 1 {
        return Ok(absolute(name));
    }
    which::which(name).map_err(|reason| NoService::Python { python: name.display().to_string(), reason })
}

fn text(path: &Path, what: &'static str) -> Result<String, NoService> {
    path.to_str().map(ToOwned::to_owned).ok_or(NoService::NotText { what })
}

impl RemoteBuild {
    /// Shows and writes what the service tells. A signal ends what it does for this
    /// process.
    pub async fn run(
        mut self,
        settings: &BuildSettings,
        jobs: &[Job],
        signals: Signals,
        display: &Display,
    ) -> Result<Exit, Failure> {
        let timings = self.timings.take();
        let mut page = None;
        let outcome = self.show(settings, jobs, signals, display, &mut page).await;
        let Some(target) = timings else { return outcome };
        let write = move || match page {
            Some(page) => crate::timings::write(&target, &page),
            // It is the service that knows where the time went.
            None => {
                warn!(file = %target.path().display(), "the timings are not written: the service has not told them");
                Ok(())
            }
        };
        with_page(unblock(write).await, outcome)
    }

    async fn show(
        self,
        settings: &BuildSettings,
        jobs: &[Job],
        mut signals: Signals,
        display: &Display,
        page: &mut Option<String>,
    ) -> Result<Exit, Failure> {
        let failure = |error| Failure::pool(format!("cannot use standard output: {error}"));
        let mut output = Output::start().map_err(failure)?;
        let (send, results) = mpsc::channel(1);
        let mut signal = None;
        let receive = async {
            signal = self.receive(jobs, &mut signals, display, send, page).await;
            std::future::pending::<()>().await;
        };
        let reason = tokio::select! {
            biased;
            reason = super::show(settings, jobs, display, results, &mut output, std::future::pending()) => reason,
            () = receive => unreachable!("it never resolves"),
        };
        let any_failed = match reason {
            EndReason::AllAnswered { any_failed } => any_failed,
            EndReason::OutputFailed(error) => return crate::lifecycle::output_failed(error),
            EndReason::InputFailed(_) | EndReason::TimeIsUp => true,
        };
        let written = async {
            let written = output.finish().await;
            display.finish(signal.is_some()).await;
            crate::lifecycle::console_flushed().await;
            written
        };
        let written = match signal {
            None => written.await,
            Some(_) => tokio::select! {
                written = tokio::time::timeout(OUTPUT_GRACE, written) => written.unwrap_or(Ok(())),
                // The second signal.
                _ = signals.end() => Ok(()),
            },
        };
        match (signal, written) {
            (Some(signal), _) => Ok(Exit::Interrupted(signal)),
            (None, Err(error)) => crate::lifecycle::output_failed(error),
            (None, Ok(())) if any_failed => Ok(Exit::RequestFailed),
            (None, Ok(())) => Ok(Exit::Success),
        }
    }

    /// Passes on what the service tells, until all is told. Returns the signal that has
    /// ended it, if one has.
    async fn receive(
        self,
        jobs: &[Job],
        signals: &mut Signals,
        display: &Display,
        results: mpsc::Sender<Built>,
        page: &mut Option<String>,
    ) -> Option<EndSignal> {
        let mut open: BTreeMap<JobId, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
        let (tell, mut lines) = (display.observer(), EventLines::new(self.body));
        let (signal, error) = loop {
            let event = tokio::select! {
                biased;
                signal = signals.end() => break (Some(signal), interrupted()),
                event = lines.next(), if !open.is_empty() => event,
                else => return None,
            };
            match event {
                Ok(BuildEvent::Result { source, result }) => {
                    if open.remove(&JobId(source)).is_some() && results.send((JobId(source), result)).await.is_err() {
                        return None;
                    }
                }
                Ok(event) => tell(event),
                Err(reason) => {
                    let message = format!("the service ended before this was built: {reason}");
                    break (None, HookError::new(ErrorKind::SystemRefused, message));
                }
            }
            if open.is_empty() {
                // The service removes temporary files from the output folder.
                let _ = tokio::time::timeout(CLEANING_TIME, lines.end(page)).await;
                return None;
            }
        };
        // The service learns that nobody waits any more.
        drop(lines);
        for (id, job) in open {
            if results.send((id, Box::new(failed(job.name(), error.clone())))).await.is_err() {
                break;
            }
        }
        signal
    }
}

/// The events in the body of a response.
struct EventLines {
    body: Incoming,
    decoder: LineDecoder,
}

impl EventLines {
    fn new(body: Incoming) -> Self {
        // The service is the same program.
        Self { body, decoder: LineDecoder::with_limit(usize::MAX) }
    }

    /// Waits until the service has told all, which is the page of timings at most.
    async fn end(&mut self, page: &mut Option<String>) {
        while let Ok(event) = self.next().await {
            if let BuildEvent::Timings { page: told } = event {
                *page = Some(told);
            }
        }
    }

    /// The next event. Cancel-safe.
    async fn next(&mut self) -> Result<BuildEvent, String> {
        loop {
            match self.decoder.next_line() {
                Ok(Some(line)) => return serde_json::from_slice(&line).map_err(|error| error.to_string()),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.decoder.push(&frame.into_data().unwrap_or_else(|_| Bytes::new())),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection was closed".to_owned()),
            }
        }
    }
}
