//! How far the run is: a display on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookpool_frontend::{JobId, Report, Step};
use hookpool_supervisor::ErrorKind;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::console;

/// What is shown of how far the run is.
pub struct Progress {
    names: Arc<Vec<String>>,
    is_quiet: bool,
    /// `None`: standard error is no terminal, or nothing is to be shown.
    bars: Option<Bars>,
    /// The sources that were begun and are not done.
    open: BTreeMap<JobId, Open>,
    done: usize,
}

/// Where the hook of a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Queued,
    /// Its build environment is being made.
    Preparing,
    Running,
}

/// A source on its way.
struct Open {
    step: Step,
    phase: Phase,
    since: Instant,
    /// When it was last said that it still runs.
    said: Instant,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    sources: BTreeMap<JobId, ProgressBar>,
}

/// Sources that have a line of their own on the screen.
const MOST_LINES: usize = 10;

/// How often it is said that something still runs, where there is no display.
const REMINDER: Duration = Duration::from_secs(60);

impl Progress {
    pub fn new(names: Arc<Vec<String>>, is_quiet: bool) -> Self {
        let shows_bars = !is_quiet && stderr().is_terminal();
        let bars = shows_bars.then(|| Bars::new(names.len()));
        Self { names, is_quiet, bars, open: BTreeMap::new(), done: 0 }
    }

    /// A source goes on to its next step.
    pub fn step(&mut self, job: JobId, step: Step) {
        let phase = if matches!(step, Step::Hook(_)) { Phase::Queued } else { Phase::Running };
        self.open.insert(job, Open::new(step, phase, Instant::now()));
        self.show(job);
    }

    /// The hook of a source goes on.
    pub fn moves(&mut self, job: JobId, phase: Phase) {
        if let Some(open) = self.open.get_mut(&job) {
            *open = Open::new(open.step, phase, Instant::now());
            self.show(job);
        }
    }

    fn show(&mut self, job: JobId) {
        if let (Some(bars), Some(open)) = (&mut self.bars, self.open.get(&job)) {
            bars.show(job, &self.names[job.0], open.words());
        }
    }

    /// A source is done.
    pub fn ended(&mut self, job: JobId, report: &Report, took: Duration) {
        self.open.remove(&job);
        self.done += 1;
        match &mut self.bars {
            Some(bars) => bars.ended(job, self.done),
            None if self.is_quiet => {}
            None => {
                let seconds = worked(report, took).as_secs_f64();
                let outcome = match &report.outcome {
                    Ok(_) => format!("done in {seconds:.1} s"),
                    Err(error) if matches!(error.kind, ErrorKind::Interrupted | ErrorKind::Cancelled) => {
                        "not done".to_owned()
                    }
                    Err(_) => format!("failed in {seconds:.1} s"),
                };
                console::print(&[format!("{}/{} {}: {outcome}", self.done, self.names.len(), self.names[job.0])]);
            }
        }
    }

    /// Something worth a line, unless only failures are wanted.
    pub fn note(&self, line: &str) {
        if !self.is_quiet {
            console::print(&[line.to_owned()]);
        }
    }

    /// Lines that are shown in any case.
    pub fn print(&self, lines: &[String]) {
        console::print(lines);
    }

    /// Whether results on standard output would be drawn over by the display.
    pub fn owns_the_terminal(&self) -> bool {
        self.bars.is_some() && stdout().is_terminal()
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        match &self.bars {
            Some(bars) => bars.tick(),
            None if self.is_quiet => {}
            None => self.remind(),
        }
    }

    fn remind(&mut self) {
        let now = Instant::now();
        for (job, open) in &mut self.open {
            if let Some(line) = open.reminder(now) {
                console::print(&[format!("{}: {line}", self.names[job.0])]);
            }
        }
    }

    /// Takes the display off the screen.
    pub fn finish(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.finish();
        }
    }
}

/// How long a source was worked on: without the time in which its hooks waited
/// for their turn.
fn worked(report: &Report, took: Duration) -> Duration {
    took.saturating_sub(report.hooks.iter().filter_map(|run| run.timing.queued).sum())
}

impl Open {
    fn new(step: Step, phase: Phase, now: Instant) -> Self {
        Self { step, phase, since: now, said: now }
    }

    /// That it still runs, if it is time to say so.
    fn reminder(&mut self, now: Instant) -> Option<String> {
        if self.phase == Phase::Queued || now - self.said < REMINDER {
            return None;
        }
        self.said = now;
        Some(format!("{} has taken {} s so far", self.words(), (now - self.since).as_secs()))
    }

    fn words(&self) -> String {
        match self.phase {
            Phase::Queued => format!("{} (queued)", super::step(self.step)),
            Phase::Preparing => "build environment".to_owned(),
            Phase::Running => super::step(self.step).to_owned(),
        }
    }
}

impl Bars {
    fn new(sources: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} sources, {elapsed} so far, {eta} to go{msg}");
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(sources as u64));
        total.set_style(style.expect("the template is right"));
        console::set_display(Some(all.clone()));
        Self { all, total, sources: BTreeMap::new() }
    }

    fn show(&mut self, job: JobId, name: &str, words: String) {
        if !self.sources.contains_key(&job) && self.sources.len() < MOST_LINES {
            let style = ProgressStyle::with_template("  {prefix}: {msg} {elapsed}").expect("the template is right");
            let bar = self.all.insert_before(&self.total, ProgressBar::new_spinner());
            bar.set_style(style);
            bar.set_prefix(name.to_owned());
            self.sources.insert(job, bar);
        }
        if let Some(bar) = self.sources.get(&job) {
            bar.set_message(words);
            bar.reset_elapsed();
        }
    }

    fn ended(&mut self, job: JobId, done: usize) {
        if let Some(bar) = self.sources.remove(&job) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.total.set_position(done as u64);
    }

    fn tick(&self) {
        self.sources.values().for_each(ProgressBar::tick);
        self.total.tick();
    }

    fn finish(self) {
        self.sources.values().for_each(ProgressBar::finish_and_clear);
        self.total.finish_and_clear();
        let _ = self.all.clear();
        console::set_display(None);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_supervisor::Hook;

    #[test]
    fn what_takes_long_is_told_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut open = Open::new(Step::Hook(Hook::BuildWheel), Phase::Queued, start);
        assert_eq!(open.reminder(at(500)), None, "who waits for a turn takes no time");
        open = Open::new(open.step, Phase::Running, at(500));
        let told: Vec<_> = (500..700).step_by(5).filter_map(|seconds| open.reminder(at(seconds))).collect();
        let expected = [60, 120, 180].map(|seconds| format!("build_wheel has taken {seconds} s so far"));
        assert_eq!(told, expected);
    }
}
