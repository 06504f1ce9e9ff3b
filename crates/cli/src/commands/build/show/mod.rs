//! What is shown of a run: results, failures, progress.

mod failure;
mod json;
mod live;
mod progress;
mod summary;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookpool_frontend::{BuildEvent, EnvironmentEvent, JobId, Report, Step};
use hookpool_supervisor::{Event, RequestId};

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

/// What is shown. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Display {
    format: OutputFormat,
    verbosity: Verbosity,
    names: Arc<Vec<String>>,
    /// Locked for an update only. Observers of three kinds and the session
    /// tell of different sides of one thing.
    state: Arc<Mutex<State>>,
}

struct State {
    progress: Progress,
    summary: Summary,
    live: LiveOutput,
    /// Whose hook a request is.
    requests: HashMap<RequestId, JobId>,
}

impl State {
    fn moves(&mut self, request: RequestId, phase: Phase) {
        if let Some(job) = self.requests.get(&request).copied() {
            self.progress.moves(job, phase);
        }
    }
}

impl Display {
    pub fn new(jobs: &[Job], format: OutputFormat, wants_metadata: bool, verbosity: Verbosity) -> Self {
        let names: Arc<Vec<String>> = Arc::new(jobs.iter().map(|job| text::name(job.name())).collect());
        let state = State {
            progress: Progress::new(names.clone(), verbosity.is_quiet),
            summary: Summary::new(jobs.len(), wants_metadata),
            live: LiveOutput::default(),
            requests: HashMap::new(),
        };
        Self { format, verbosity, names, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the frontend.
    pub fn build_observer(&self) -> impl Fn(&BuildEvent) + Send + Sync + 'static {
        let display = self.clone();
        move |event| display.build_event(event)
    }

    fn build_event(&self, event: &BuildEvent) {
        let mut state = self.state();
        match event {
            BuildEvent::Step { job, step } => state.progress.step(*job, *step),
            BuildEvent::HookSubmitted { job, request, .. } => {
                state.requests.insert(*request, *job);
            }
            _ => {}
        }
    }

    /// For the supervisor.
    pub fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let display = self.clone();
        move |event| display.pool_event(event)
    }

    fn pool_event(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::RequestPreparing { request } => state.moves(*request, Phase::Preparing),
            Event::RequestPrepared { request } => state.moves(*request, Phase::Queued),
            Event::RequestAccepted { request, .. } => state.moves(*request, Phase::Running),
            Event::OutputCaptured { request, stdout, stderr } if self.verbosity.shows_output => {
                if let Some(job) = state.requests.get(request).copied() {
                    state.live.begin(*request, self.names[job.0].clone(), stdout, stderr);
                }
            }
            Event::RequestFinished { request, .. } => {
                let lines = state.live.end(*request);
                state.progress.print(&lines);
                state.requests.remove(request);
            }
            _ => {}
        }
    }

    /// For the environments.
    pub fn environment_observer(&self) -> impl Fn(&EnvironmentEvent) + Send + Sync + 'static {
        let display = self.clone();
        move |event| {
            let mut state = display.state();
            if matches!(event, EnvironmentEvent::Made { .. }) {
                state.summary.environment_made();
            }
            if let Some(line) = text::environment_event(event) {
                state.progress.note(&line);
            }
        }
    }

    /// Shows what hooks have written since the last time, and that time passes.
    pub fn refresh(&self) {
        let mut state = self.state();
        let lines = state.live.read();
        state.progress.print(&lines);
        state.progress.tick();
    }

    /// A source is done: what is to be written to standard output for it.
    pub fn done(&self, job: &Job, report: &Report, took: Duration) -> Option<Vec<u8>> {
        let mut state = self.state();
        state.summary.add(report);
        state.progress.ended(job.id, report, took);
        if let Err(error) = &report.outcome {
            state.progress.print(&failure::lines(job, report, error));
        }
        let shows_reason = self.verbosity.shows_output;
        let bytes = match self.format {
            OutputFormat::Json => json::lines(job, report, took),
            OutputFormat::Text => text::result(job, report, shows_reason).into_bytes(),
        };
        if state.progress.owns_the_terminal() {
            state.progress.print(&String::from_utf8_lossy(&bytes).lines().map(Into::into).collect::<Vec<_>>());
            return None;
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Nothing more comes.
    pub fn finish(&self, interrupted: bool) {
        let mut state = self.state();
        let lines = state.summary.lines(interrupted);
        state.progress.finish();
        if !self.verbosity.is_quiet {
            state.progress.print(&lines);
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
