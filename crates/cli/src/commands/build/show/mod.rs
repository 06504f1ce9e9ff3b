//! What is shown of a run: results, failures, progress.
//!
//! A thread of its own keeps what is shown and draws it: it reads what hooks
//! write, and a terminal may be slow.

mod carriage;
mod failure;
mod json;
mod live;
mod progress;
mod summary;
mod text;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use hookpool_frontend::{BuildEvent, EnvironmentEvent, JobId, Report, Step};
use hookpool_supervisor::{CapturedOutput, Event, RequestId};
use tokio::sync::oneshot;

use self::live::LiveOutput;
use self::progress::{Phase, Progress};
use self::summary::Summary;
use super::jobs::Job;
use crate::arguments::build::OutputFormat;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Verbosity {
    /// What hooks write, while they write it.
    pub shows_output: bool,
    /// Failures only.
    pub is_quiet: bool,
}

/// The way to what is shown. Nothing here waits for the thread but
/// [`Display::finish`].
pub struct Display {
    format: OutputFormat,
    verbosity: Verbosity,
    owns_the_terminal: bool,
    /// Without a bound, as none of it may be lost: there are no more than a few
    /// for each hook.
    updates: Sender<Update>,
}

/// What there is to show.
enum Update {
    Step {
        job: JobId,
        step: Step,
    },
    Submitted {
        job: JobId,
        request: RequestId,
    },
    Moves {
        request: RequestId,
        phase: Phase,
    },
    OutputBegins {
        request: RequestId,
        stdout: PathBuf,
        stderr: PathBuf,
    },
    /// Its files are somebody else's from now on.
    HookEnded {
        request: RequestId,
    },
    Output {
        request: RequestId,
        stdout: CapturedOutput,
        stderr: CapturedOutput,
    },
    EnvironmentMade,
    Note(String),
    SourceDone {
        job: JobId,
        report: Box<Report>,
        took: Duration,
        lines: Vec<String>,
    },
    Finish {
        interrupted: bool,
        done: oneshot::Sender<()>,
    },
}

/// How often the display is drawn anew, and what hooks have written is read.
const REFRESH: Duration = Duration::from_millis(100);

impl Display {
    /// Starts the thread.
    pub fn start(jobs: &[Job], format: OutputFormat, wants_metadata: bool, verbosity: Verbosity) -> io::Result<Self> {
        let names: Arc<Vec<String>> = Arc::new(jobs.iter().map(|job| text::name(job.name())).collect());
        let progress = Progress::new(names.clone(), verbosity.is_quiet);
        let owns_the_terminal = progress.owns_the_terminal();
        let shown = Shown {
            progress,
            summary: Summary::new(jobs.len(), wants_metadata),
            live: LiveOutput::default(),
            requests: HashMap::new(),
            names,
            is_quiet: verbosity.is_quiet,
        };
        let (updates, received) = channel();
        std::thread::Builder::new().name("display".into()).spawn(move || shown.keep(&received))?;
        Ok(Self { format, verbosity, owns_the_terminal, updates })
    }

    /// For the frontend.
    pub fn build_observer(&self) -> impl Fn(&BuildEvent) + Send + Sync + 'static {
        let (updates, shows_output) = (self.updates.clone(), self.verbosity.shows_output);
        move |event| {
            let update = match event {
                BuildEvent::Step { job, step } => Update::Step { job: *job, step: *step },
                BuildEvent::HookSubmitted { job, request, .. } => Update::Submitted { job: *job, request: *request },
                BuildEvent::HookAnswered { request, stdout, stderr } if shows_output => {
                    Update::Output { request: *request, stdout: stdout.clone(), stderr: stderr.clone() }
                }
                _ => return,
            };
            tell(&updates, update);
        }
    }

    /// For the supervisor.
    pub fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let (updates, shows_output) = (self.updates.clone(), self.verbosity.shows_output);
        move |event| {
            let moves = |request: &RequestId, phase| Update::Moves { request: *request, phase };
            let update = match event {
                Event::RequestPreparing { request } => moves(request, Phase::Preparing),
                Event::RequestPrepared { request } => moves(request, Phase::Queued),
                Event::RequestAccepted { request, .. } => moves(request, Phase::Running),
                Event::OutputCaptured { request, stdout, stderr } if shows_output => {
                    Update::OutputBegins { request: *request, stdout: stdout.clone(), stderr: stderr.clone() }
                }
                Event::RequestFinished { request, .. } => Update::HookEnded { request: *request },
                Event::TreeLocked { tree } => {
                    Update::Note(format!("another process works in {}: waiting", text::name(tree)))
                }
                _ => return,
            };
            tell(&updates, update);
        }
    }

    /// For the environments.
    pub fn environment_observer(&self) -> impl Fn(&EnvironmentEvent) + Send + Sync + 'static {
        let updates = self.updates.clone();
        move |event| {
            if matches!(event, EnvironmentEvent::Made { .. }) {
                tell(&updates, Update::EnvironmentMade);
            }
            if let Some(line) = text::environment_event(event) {
                tell(&updates, Update::Note(line));
            }
        }
    }

    /// A source is done: what is to be written to standard output for it.
    pub fn done(&self, job: &Job, report: Report, took: Duration) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        if !self.verbosity.is_quiet {
            lines.extend(report.warnings.iter().map(|warning| text::warning(job, warning)));
        }
        if let Err(error) = &report.outcome {
            lines.extend(failure::lines(job, &report, error, self.verbosity.shows_output));
        }
        let bytes = match self.format {
            OutputFormat::Json => json::lines(job, &report, took),
            OutputFormat::Text => text::result(job, &report, self.verbosity.shows_output).into_bytes(),
        };
        if self.owns_the_terminal {
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(Into::into));
        }
        tell(&self.updates, Update::SourceDone { job: job.id, report: Box::new(report), took, lines });
        (!self.owns_the_terminal && !bytes.is_empty()).then_some(bytes)
    }

    /// Nothing more comes. Waits until all is drawn. Cancel-safe.
    pub async fn finish(&self, interrupted: bool) {
        let (done, is_done) = oneshot::channel();
        tell(&self.updates, Update::Finish { interrupted, done });
        let _ = is_done.await;
    }
}

/// After the end there is nobody who listens.
fn tell(updates: &Sender<Update>, update: Update) {
    let _ = updates.send(update);
}

/// What is shown.
struct Shown {
    progress: Progress,
    summary: Summary,
    live: LiveOutput,
    /// Whose hook a request is.
    requests: HashMap<RequestId, JobId>,
    names: Arc<Vec<String>>,
    is_quiet: bool,
}

impl Shown {
    /// The life of the thread: until the end is told, or nobody is left who
    /// could tell.
    fn keep(mut self, updates: &Receiver<Update>) {
        let mut drawn = Instant::now();
        loop {
            match updates.recv_timeout(REFRESH.saturating_sub(drawn.elapsed())) {
                Ok(update) => self.update(update),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // All of them before a file is read: it may be another hook's since.
            updates.try_iter().for_each(|update| self.update(update));
            if drawn.elapsed() >= REFRESH {
                self.progress.print(&self.live.read());
                self.progress.tick();
                drawn = Instant::now();
            }
        }
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Step { job, step } => self.progress.step(job, step),
            Update::Submitted { job, request } => {
                self.requests.insert(request, job);
            }
            Update::Moves { request, phase } => {
                if let Some(job) = self.requests.get(&request) {
                    self.progress.moves(*job, phase);
                }
            }
            Update::OutputBegins { request, stdout, stderr } => {
                if let Some(job) = self.requests.get(&request) {
                    self.live.begin(request, self.names[job.0].clone(), &stdout, &stderr);
                }
            }
            Update::HookEnded { request } => {
                self.live.pause(request);
                self.requests.remove(&request);
            }
            Update::Output { request, stdout, stderr } => {
                self.progress.print(&self.live.end(request, [stdout, stderr]))
            }
            Update::EnvironmentMade => self.summary.environment_made(),
            Update::Note(line) => self.progress.note(&line),
            Update::SourceDone { job, report, took, lines } => {
                self.summary.add(&self.names[job.0], &report);
                self.progress.ended(job, &report, took);
                self.progress.print(&lines);
            }
            Update::Finish { interrupted, done } => {
                self.progress.finish();
                if !self.is_quiet {
                    self.progress.print(&self.summary.lines(interrupted));
                }
                let _ = done.send(());
            }
        }
    }
}

/// What is being done, in words.
fn step(step: Step) -> &'static str {
    match step {
        Step::Unpacking => "unpacking",
        Step::Hook(hook) => hook.name(),
    }
}
