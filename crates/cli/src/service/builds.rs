//! Builds for clients. A request stands for a command line, which is parsed as such: its
//! options are the flags of the building commands.

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hookpool_frontend::{Durations, EnvironmentEvent, Frontend, JobId, Source};
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{Event, Events, RequestId, Supervisor};
use hookpool_wire::{BuildEvent, BuildRequest, BuildSource, to_line};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;
use super::admission::OpenWork;
use super::problem::Refusal;
use crate::arguments::{Arguments, CommandArguments};
use crate::building::events::Narrator;
use crate::building::jobs::Job;
use crate::building::sources::{Built, SourceBuilder};
use crate::building::start_frontend;
use crate::exit::Failure;
use crate::hooks::request::caller;
use crate::hooks::{Origin, traced};
use crate::lifecycle::time_is_up;
use crate::observer;
use crate::pool;
use crate::settings::BuildSettings;
use crate::streams::output::{Output, Writer};
use crate::timings::{Intervals, Report};

/// How long the last events of a build may take after its results.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// The building commands.
const COMMANDS: [&str; 4] = ["metadata", "wheel", "sdist", "editable"];

/// Flags of the building commands that a client of a service carries out itself.
pub const OF_THE_CLIENT: [&str; 5] = ["cache-dir", "format", "from", "service", "timings"];

/// Flags of the building commands that a service has chosen for all of its clients.
pub const OF_THE_POOL: [&str; 22] = [
    "capture-dir",
    "grace-period",
    "health-interval",
    "health-timeout",
    "hook-memory-limit",
    "idle-timeout",
    "isolation",
    "jobs",
    "jobserver",
    "kill-detached",
    "lock-timeout",
    "max-lifetime",
    "max-requests",
    "max-restarts",
    "max-templates",
    "max-workers",
    "no-freshness-check",
    "queue-size",
    "restart-window",
    "start-method",
    "startup-timeout",
    "workers-per-tree",
];

/// Flags whose whole values are paths.
const PATHS: [&str; 5] = ["answers-remote-credentials", "build-constraint", "keep-wheels", "log-dir", "output-dir"];

/// The path in the value of a flag, which is the end of the value; `None` if there is
/// none. A client has to make it absolute.
pub fn path_in<'value>(flag: &str, value: &'value str) -> Option<&'value str> {
    match flag {
        "source-for" => value.split_once('=').map(|(_, path)| path),
        "find-links" => Some(value).filter(|value| !value.contains("://")),
        // A name is looked for on PATH.
        "python" => Some(value).filter(|value| value.contains('/')),
        _ => Some(value).filter(|_| PATHS.contains(&flag)),
    }
}

/// Begins to build. The lines are events and results; when nobody receives them any
/// more, the build is cancelled.
pub async fn start(
    service: Shared,
    request: BuildRequest,
    origin: Origin,
) -> Result<impl Stream<Item = Vec<u8>>, Refusal> {
    let open = service.admissions.admit()?;
    let (tells_output, wants_timings) = (request.output, request.timings);
    let caller = request.caller.as_ref().map(caller).transpose()?;
    let (mut settings, jobs) = unblock(move || resolve(&request)).await?;
    settings.pool.caller.clone_from(&caller);
    let caller = caller.or_else(|| service.hooks.default_caller.clone());
    settings.frontend.caller = caller.map(|caller| traced(caller, origin.trace.as_deref()));
    settings.frontend.caller_id = origin.id;
    settings.frontend.python = Some(settings.pool.python.clone());
    settings.frontend.hook_timeout = settings.pool.limits.hook_timeout;

    let (events, told) = mpsc::unbounded_channel();
    // An error means that the client is gone, which ends the build.
    let narrator = Narrator::new(Arc::new(move |event| drop(events.send(event))), tells_output);
    let answers = pool::answers(&settings.pool, &service.cache).await;
    let (told_of, monitor) = (narrator.clone(), service.monitor.clone());
    let tell = move |event: &EnvironmentEvent| {
        observer::log_environment(event);
        told_of.of_environments(event);
        monitor.observe_environment(event);
    };
    let (cache, supervisor) = (service.cache.clone(), service.hooks.supervisor.clone());
    let (recorded, jobs_at_once) = record(&supervisor, wants_timings, settings.command()).await;
    let intervals = recorded.as_ref().map_or_else(Intervals::none, |recorded| recorded.report.intervals());
    let (of_frontend, kept) = (narrator.clone(), answers.clone());
    // Makes folders.
    let of_environments = intervals.clone();
    let make = move || {
        let frontend = start_frontend(&settings, &cache, of_environments, &supervisor, &of_frontend, tell, kept);
        frontend.map(|frontend| (frontend, settings))
    };
    let (frontend, settings) = unblock(make).await.map_err(failed)?;
    let (output, lines) = Output::to_channel();
    let monitor = service.monitor.clone();
    let build = Build { service, settings, jobs, frontend, narrator, told, open, jobs_at_once, intervals, recorded };
    tokio::spawn(async move {
        build.run(output).await;
        if let Some(answers) = answers {
            monitor.add_answers_of_build(&answers.statistics());
            answers.close().await;
        }
    });
    Ok(lines)
}

/// A build that runs.
struct Build {
    service: Shared,
    settings: BuildSettings,
    jobs: Vec<Job>,
    frontend: Frontend,
    narrator: Narrator,
    /// Not bounded, but results are: only those builds have events whose results have
    /// room.
    told: mpsc::UnboundedReceiver<BuildEvent>,
    open: OpenWork,
    /// The number of hooks that the pool runs at once.
    jobs_at_once: usize,
    /// For the report, if there is one.
    intervals: Intervals,
    recorded: Option<Recorded>,
}

/// The report on a build that the client wants.
struct Recorded {
    report: Report,
    events: Events,
}

/// Begins the report on a build, if it is wanted. Returns how many hooks the pool runs
/// at once, too.
async fn record(supervisor: &Supervisor, is_wanted: bool, command: &'static str) -> (Option<Recorded>, usize) {
    let events = is_wanted.then(|| supervisor.subscribe(|_| true));
    // None if the supervisor has ended.
    let snapshot = supervisor.snapshot().await;
    let jobs = snapshot.as_ref().map_or(1, |snapshot| snapshot.limits.jobs.get());
    let recorded = events.map(|events| {
        let report = Report::start(command, jobs);
        if let Some(snapshot) = &snapshot {
            report.begin(snapshot);
        }
        Recorded { report, events }
    });
    (recorded, jobs)
}

impl Recorded {
    /// Records until the supervisor has ended. Cancel-safe.
    async fn read(&mut self) {
        while let Some(event) = self.events.next().await {
            self.report.observe(&event);
        }
    }

    /// The page about these requests, which are answered.
    async fn page(self, requests: HashSet<RequestId>) -> Result<String, serde_json::Error> {
        let Self { report, mut events } = self;
        let mut missing = report.missing(&requests);
        let read = async {
            while !missing.is_empty()
                && let Some(event) = events.next().await
            {
                report.observe(&event);
                if let Event::RequestFinished { request, .. } = &event.event {
                    missing.remove(request);
                }
            }
        };
        // Events may be lost.
        let _ = tokio::time::timeout(LAST_EVENTS, read).await;
        unblock(move || {
            report.retain(&requests);
            report.page()
        })
        .await
    }
}

impl Build {
    async fn run(mut self, mut output: Output) {
        let cache = self.service.cache.clone();
        let mut durations = unblock(move || Durations::open(&cache)).await;
        self.carry_out(&mut durations, &mut output).await;
        let Self { settings, jobs, frontend, open, .. } = self;
        // Removes temporary files. The client waits for the end of the lines, after which
        // it must not find any.
        let clean = move || {
            let saved = durations.save();
            drop((frontend, settings, jobs));
            saved
        };
        if let Err(error) = unblock(clean).await {
            tracing::debug!("the durations of this build are not kept: {error}");
        }
        drop(output);
        drop(open);
    }

    /// Builds and tells, until all is told or nobody listens.
    async fn carry_out(&mut self, durations: &mut Durations, output: &mut Output) {
        let (supervisor, narrator) = (&self.service.hooks.supervisor, &self.narrator);
        let mut recorded = self.recorded.take();
        let builder = SourceBuilder {
            settings: &self.settings,
            frontend: &self.frontend,
            durations,
            intervals: self.intervals.clone(),
            ending: self.service.ending.clone(),
            jobs: self.jobs_at_once,
        };
        let (send, results) = mpsc::channel(1);
        let mut of_pool = supervisor.subscribe(narrator.wants());
        let tell = async {
            while let Some(event) = of_pool.next().await {
                narrator.of_pool(&event.event);
            }
        };
        let record = async {
            if let Some(recorded) = &mut recorded {
                recorded.read().await;
            }
        };
        // The results end when the build has ended, and are written after that.
        let build = async {
            tokio::join!(builder.build(&self.jobs, send), tell, record);
            std::future::pending::<()>().await;
        };
        let (writer, reports) = output.halves();
        let cut_off = async {
            tokio::select! {
                // The client is gone.
                _ = reports.failure() => {}
                // The client does not read, and the service is ending.
                () = time_is_up(supervisor.clone(), self.service.ending.clone()) => {}
            }
        };
        let mut cut_off = pin!(cut_off);
        let is_whole = tokio::select! {
            () = write(writer, &mut self.told, results) => true,
            // What is dropped here is cancelled.
            () = &mut cut_off => false,
            () = build => false,
        };
        let Some(recorded) = recorded.filter(|_| is_whole) else { return };
        let tell_page = async {
            match recorded.page(narrator.requests()).await {
                Ok(page) => writer.room().await.send(to_line(&BuildEvent::Timings { page })),
                Err(error) => tracing::error!("the timings cannot be made: {error}"),
            }
        };
        tokio::select! {
            () = tell_page => {}
            () = cut_off => {}
        }
    }
}

/// Writes events and results until there are no more results.
async fn write(writer: &Writer, told: &mut mpsc::UnboundedReceiver<BuildEvent>, mut results: mpsc::Receiver<Built>) {
    loop {
        let event = tokio::select! {
            // What led to a result comes before it.
            biased;
            Some(event) = told.recv() => event,
            built = results.recv() => match built {
                Some((JobId(source), result)) => BuildEvent::Result { source, result },
                None => return,
            },
        };
        writer.room().await.send(to_line(&event));
    }
}

/// The settings and the sources that a request asks for. Blocks.
fn resolve(request: &BuildRequest) -> Result<(BuildSettings, Vec<Job>), Refusal> {
    let line = command_line(request)?;
    let arguments = Arguments::of_a_client(&line).map_err(Refusal::invalid)?;
    let settings = match arguments.command {
        CommandArguments::Metadata(arguments) => BuildSettings::metadata(*arguments),
        CommandArguments::Wheel(arguments) => BuildSettings::wheel(*arguments),
        CommandArguments::Sdist(arguments) => BuildSettings::sdist(*arguments),
        CommandArguments::Editable(arguments) => BuildSettings::editable(*arguments),
        _ => return Err(unknown_command(&request.command)),
    };
    let settings = settings.map_err(failed)?;
    settings.prepare_outputs().map_err(failed)?;
    Ok((settings, request.sources.iter().enumerate().map(job).collect()))
}

fn job((index, source): (usize, &BuildSource)) -> Job {
    let path = PathBuf::from(&source.path);
    let name = source.name.as_ref().map_or_else(|| path.clone(), PathBuf::from);
    let source = Source::find(&path).map_err(|error| error.named(&name).into());
    Job::new(JobId(index), name, source)
}

fn failed(failure: Failure) -> Refusal {
    Refusal::invalid(failure.message()).with_hint(failure.hint().map(ToOwned::to_owned))
}

fn unknown_command(command: &str) -> Refusal {
    Refusal::invalid(format!("command: {command:?}: expected metadata, wheel, sdist or editable"))
}

fn command_line(request: &BuildRequest) -> Result<Vec<String>, Refusal> {
    if !COMMANDS.contains(&request.command.as_str()) {
        return Err(unknown_command(&request.command));
    }
    if request.sources.is_empty() {
        return Err(Refusal::invalid("sources: expected at least one"));
    }
    // The default is relative to the working directory of this process.
    if request.command != "metadata" && !request.options.contains_key("output-dir") {
        return Err(Refusal::invalid("output-dir: missing, expected an absolute path"));
    }
    let mut line = vec!["hookpool".to_owned(), request.command.clone()];
    for (name, value) in &request.options {
        let other = match name.as_str() {
            name if OF_THE_POOL.contains(&name) => Some("a setting of the service"),
            name if OF_THE_CLIENT.contains(&name) => Some("what the client does itself"),
            _ => None,
        };
        if let Some(what) = other {
            return Err(Refusal::invalid(format!("{name}: {what}, expected it to be absent")));
        }
        let values = match value {
            Value::Bool(true) => {
                line.push(format!("--{name}"));
                continue;
            }
            Value::Bool(false) | Value::Null => continue,
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let Value::String(value) = value else {
                let expected = "expected true, a string or a list of strings";
                return Err(Refusal::invalid(format!("{name}: {value}: {expected}")));
            };
            if path_in(name, value).is_some_and(|path| !path.starts_with('/')) {
                return Err(Refusal::invalid(format!("{name}: expected an absolute path, got {value:?}")));
            }
            line.push(format!("--{name}={value}"));
        }
    }
    line.push("--".to_owned());
    for BuildSource { path, .. } in &request.sources {
        if !path.starts_with('/') {
            return Err(Refusal::invalid(format!("sources: expected an absolute path, got {path:?}")));
        }
        line.push(path.clone());
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use serde_json::json;

    fn line(request: Value) -> Result<Vec<String>, String> {
        command_line(&serde_json::from_value(request).unwrap()).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn options_are_flags() {
        let request = json!({
            "command": "wheel",
            "sources": [{"path": "/a"}, {"path": "/-b"}],
            "options": {"output-dir": "/o", "via-sdist": true, "fail-fast": false, "config-setting": ["a=1", "-b=2"]},
        });
        let expected = [
            "hookpool",
            "wheel",
            "--output-dir=/o",
            "--via-sdist",
            "--config-setting=a=1",
            "--config-setting=-b=2",
            "--",
            "/a",
            "/-b",
        ];
        assert_eq!(line(request).unwrap(), expected);
    }

    #[test]
    fn what_a_client_cannot_ask_for_is_named() {
        let request = |options: Value| json!({"command": "wheel", "sources": [{"path": "/a"}], "options": options});
        let table = [
            (request(json!({})), "output-dir: missing"),
            (request(json!({"output-dir": "/o", "jobs": "3"})), "jobs: a setting of the service"),
            (request(json!({"output-dir": "/o", "service": "never"})), "service: what the client does itself"),
            (request(json!({"output-dir": "dist"})), "output-dir: expected an absolute path"),
            (request(json!({"output-dir": "/o", "python": "bin/python"})), "python: expected an absolute path"),
            (request(json!({"output-dir": "/o", "find-links": "wheels"})), "find-links: expected an absolute path"),
            (request(json!({"output-dir": "/o", "source-for": "a=b"})), "source-for: expected an absolute path"),
            (request(json!({"output-dir": "/o", "python": 3})), "python: 3: expected true, a string or a list"),
            (json!({"command": "run", "sources": [{"path": "/a"}]}), "expected metadata, wheel"),
            (json!({"command": "wheel", "sources": []}), "sources: expected at least one"),
            (json!({"command": "metadata", "sources": [{"path": "a"}]}), "sources: expected an absolute path"),
        ];
        for (request, expected) in table {
            let message = line(request).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn every_flag_of_the_building_commands_has_one_bearer() {
        /// What the service does for one build.
        const OF_A_BUILD: [&str; 29] = [
            "answers",
            "answers-remote",
            "answers-remote-access",
            "answers-remote-credentials",
            "build-constraint",
            "check-requires-python",
            "config-setting",
            "fail-fast",
            "find-links",
            "hook-timeout",
            "index-url",
            "installer",
            "installer-timeout",
            "keep-going",
            "keep-wheels",
            "log-dir",
            "no-build-isolation",
            "no-index",
            "no-static",
            "offline",
            "on-required-extension",
            "output-dir",
            "python",
            "refresh",
            "source-for",
            "strict",
            "supports-extension",
            "verify-answers",
            "via-sdist",
        ];
        let command = crate::arguments::command();
        let building = command.get_subcommands().filter(|command| COMMANDS.contains(&command.get_name()));
        let mut flags = BTreeMap::new();
        for argument in building.flat_map(clap::Command::get_arguments).filter(|flag| !flag.is_global_set()) {
            if let Some(name) = argument.get_long() {
                flags.insert(name.to_owned(), argument);
            }
        }
        let mut listed = [&OF_THE_CLIENT[..], &OF_THE_POOL, &OF_A_BUILD].concat();
        listed.sort_unstable();
        assert_eq!(listed, flags.keys().collect::<Vec<_>>());
        for name in OF_A_BUILD {
            let values = flags[name].get_value_names().unwrap_or_default().join(" ");
            let is_path = ["DIR", "FILE", "PATH", "TREE"].iter().any(|word| values.contains(word));
            assert_eq!(path_in(name, "name=dir/x").is_some(), is_path, "{name} {values}");
        }
    }
}
