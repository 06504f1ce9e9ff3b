//! Shows results, failures and progress.
//!
//! A thread of its own keeps the state of the display and draws it: it reads the
//! output of hooks, and the terminal may be slow.

mod failure;
mod live;
mod progress;
mod summary;
mod text;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookpool_frontend::JobId;
use hookpool_wire::{BuildEvent, BuildResult, to_line};
use tokio::sync::oneshot;

use self::live::LiveOutput;
use self::progress::Progress;
use self::summary::Summary;
use crate::arguments::build::OutputFormat;
use crate::building::events::Tell;
use crate::building::jobs::Job;

/// How often the display is redrawn and the output of hooks is read.
const REFRESH: Duration = Duration::from_millis(100);

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Verbosity {
    /// Show the output of hooks while they run.
    pub shows_output: bool,
    /// Show failures only.
    pub is_quiet: bool,
}

/// The display. Only [`Display::finish`] waits for its thread.
pub struct Display {
    format: OutputFormat,
    verbosity: Verbosity,
    owns_the_terminal: bool,
    thread: DisplayThread,
}

/// A change of the state of the display, made by the thread.
type Change = Box<dyn FnOnce(&mut DisplayState) + Send>;

/// Sends changes to the thread. The channel is unbounded, since no change may be lost;
/// each hook causes only a few.
#[derive(Clone)]
struct DisplayThread(Sender<Change>);

impl DisplayThread {
    fn change(&self, change: impl FnOnce(&mut DisplayState) + Send + 'static) {
        // After the end of the thread nothing is shown.
        let _ = self.0.send(Box::new(change));
    }
}

impl Display {
    /// Starts the thread.
    pub fn start(jobs: &[Job], format: OutputFormat, wants_metadata: bool, verbosity: Verbosity) -> io::Result<Self> {
        let names: Arc<Vec<String>> = Arc::new(jobs.iter().map(|job| text::name(job.name())).collect());
        let progress = Progress::new(names.clone(), verbosity.is_quiet);
        let owns_the_terminal = progress.owns_the_terminal();
        let state = DisplayState {
            progress,
            summary: Summary::new(jobs.len(), wants_metadata),
            live: LiveOutput::default(),
            names,
        };
        let (changes, received) = channel();
        std::thread::Builder::new().name("display".into()).spawn(move || state.run(&received))?;
        Ok(Self { format, verbosity, owns_the_terminal, thread: DisplayThread(changes) })
    }

    /// Whether the output of hooks is shown while they run.
    pub fn shows_output(&self) -> bool {
        self.verbosity.shows_output
    }

    /// Shows events, but for results.
    pub fn observer(&self) -> Tell {
        let thread = Mutex::new(self.thread.clone());
        Arc::new(move |event| {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.change(move |state| state.observe(event));
        })
    }

    /// Shows the result of a source. Returns what is to be written to standard output.
    pub fn done(&self, job: &Job, result: BuildResult) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        if !self.verbosity.is_quiet {
            lines.extend(result.warnings.iter().map(|warning| text::warning(job, warning)));
        }
        if let Some(error) = &result.error {
            lines.extend(failure::lines(job, &result, error, self.verbosity.shows_output));
        }
        let bytes = match self.format {
            OutputFormat::Json => json_lines(job, &result),
            OutputFormat::Text => text::result(job, &result, self.verbosity.shows_output).into_bytes(),
        };
        if self.owns_the_terminal {
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(Into::into));
        }
        let job = job.id;
        self.thread.change(move |state| {
            state.summary.add(&state.names[job.0], &result);
            state.progress.done(job, &result);
            state.progress.print(&lines);
        });
        (!self.owns_the_terminal && !bytes.is_empty()).then_some(bytes)
    }

    /// Shows the summary, and waits until all is drawn. Cancel-safe.
    pub async fn finish(&self, interrupted: bool) {
        let (drawn, is_drawn) = oneshot::channel();
        let is_quiet = self.verbosity.is_quiet;
        self.thread.change(move |state| {
            state.progress.finish();
            if !is_quiet {
                state.progress.print(&state.summary.lines(interrupted));
            }
            let _ = drawn.send(());
        });
        let _ = is_drawn.await;
    }
}

/// A line for each name of a source.
fn json_lines(job: &Job, result: &BuildResult) -> Vec<u8> {
    let named = |source: &PathBuf| BuildResult { source: source.to_string_lossy().into_owned(), ..result.clone() };
    job.names.iter().flat_map(|source| to_line(&named(source))).collect()
}

/// The state of the display.
struct DisplayState {
    progress: Progress,
    summary: Summary,
    live: LiveOutput,
    names: Arc<Vec<String>>,
}

impl DisplayState {
    fn observe(&mut self, event: BuildEvent) {
        if let Some(line) = text::event(&event) {
            self.progress.note(&line);
        }
        match event {
            BuildEvent::Step { source, step } => self.progress.step(JobId(source), step),
            BuildEvent::Hook { source, state } => self.progress.hook_is(JobId(source), state),
            BuildEvent::OutputFiles { source, request, stdout, stderr } => {
                if let Some(name) = self.names.get(source).cloned() {
                    self.live.begin(request, name, Path::new(&stdout), Path::new(&stderr));
                }
            }
            BuildEvent::OutputPaused { request } => self.live.pause(request),
            BuildEvent::OutputEnded { request, stdout, stderr } => {
                self.progress.print(&self.live.end(request, [stdout, stderr]));
            }
            BuildEvent::EnvironmentMade { .. } => self.summary.environment_made(),
            _ => {}
        }
    }

    /// The body of the thread; ends when the display is dropped.
    fn run(mut self, changes: &Receiver<Change>) {
        let mut drawn = Instant::now();
        loop {
            match changes.recv_timeout(REFRESH.saturating_sub(drawn.elapsed())) {
                Ok(change) => change(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // The file of a hook may already belong to the next one, so all changes come
            // before any file is read.
            changes.try_iter().for_each(|change| change(&mut self));
            if drawn.elapsed() >= REFRESH {
                self.progress.print(&self.live.read());
                self.progress.tick();
                drawn = Instant::now();
            }
        }
    }
}
