//! The progress of the run: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookpool_frontend::JobId;
use hookpool_wire::{BuildResult, HookState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::console;

/// The progress of the run.
pub struct Progress {
    names: Arc<Vec<String>>,
    is_quiet: bool,
    /// `None`: standard error is not a terminal, or only failures are shown.
    bars: Option<Bars>,
    /// The sources that are being built.
    open: BTreeMap<JobId, OpenSource>,
    done: usize,
}

/// A source that is being built.
struct OpenSource {
    step: String,
    hook: HookState,
    since: Instant,
    /// When the last reminder was printed.
    reminded: Instant,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    sources: BTreeMap<JobId, ProgressBar>,
}

/// The step that is no hook.
const UNPACKING: &str = "unpacking";

/// The most sources with a line of their own on the screen.
const MAX_LINES: usize = 10;

/// How often a line says that a source is still being built, if there are no bars.
const REMINDER: Duration = Duration::from_secs(60);

impl Progress {
    pub fn new(names: Arc<Vec<String>>, is_quiet: bool) -> Self {
        let shows_bars = !is_quiet && stderr().is_terminal();
        let bars = shows_bars.then(|| Bars::new(names.len()));
        Self { names, is_quiet, bars, open: BTreeMap::new(), done: 0 }
    }

    /// A source begins its next step.
    pub fn step(&mut self, job: JobId, step: String) {
        let hook = if step == UNPACKING { HookState::Running } else { HookState::Queued };
        self.open.insert(job, OpenSource::new(step, hook, Instant::now()));
        self.show(job);
    }

    /// The hook of a source is in this state now.
    pub fn hook_is(&mut self, job: JobId, state: HookState) {
        if let Some(open) = self.open.get_mut(&job) {
            *open = OpenSource::new(std::mem::take(&mut open.step), state, Instant::now());
            self.show(job);
        }
    }

    fn show(&mut self, job: JobId) {
        if let (Some(bars), Some(open)) = (&mut self.bars, self.open.get(&job)) {
            bars.show(job, &self.names[job.0], open.words());
        }
    }

    /// A source is done.
    pub fn done(&mut self, job: JobId, result: &BuildResult) {
        self.open.remove(&job);
        self.done += 1;
        match &mut self.bars {
            Some(bars) => bars.ended(job, self.done),
            None if self.is_quiet => {}
            None => {
                let seconds = worked(result).as_secs_f64();
                let outcome = match &result.error {
                    None => format!("done in {seconds:.1} s"),
                    Some(_) if result.is_cut_off() => "not done".to_owned(),
                    Some(_) => format!("failed in {seconds:.1} s"),
                };
                console::print(&[format!("{}/{} {}: {outcome}", self.done, self.names.len(), self.names[job.0])]);
            }
        }
    }

    /// Prints a line, unless only failures are shown.
    pub fn note(&self, line: &str) {
        if !self.is_quiet {
            console::print(&[line.to_owned()]);
        }
    }

    /// Prints lines, whatever the verbosity.
    pub fn print(&self, lines: &[String]) {
        console::print(lines);
    }

    /// Whether the bars would overwrite results on standard output.
    pub fn owns_the_terminal(&self) -> bool {
        self.bars.is_some() && stdout().is_terminal()
    }

    /// Redraws the bars, or prints reminders that are due.
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

    /// Removes the bars.
    pub fn finish(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.finish();
        }
    }
}

/// How long a source was worked on, without the time that its hooks were queued.
fn worked(result: &BuildResult) -> Duration {
    let queued: f64 = result.hooks.iter().filter_map(|run| run.timing.queued_ms).sum();
    Duration::from_secs_f64((result.total_ms - queued).max(0.0) / 1e3)
}

impl OpenSource {
    fn new(step: String, hook: HookState, now: Instant) -> Self {
        Self { step, hook, since: now, reminded: now }
    }

    /// The reminder that the step still runs, when it is due.
    fn reminder(&mut self, now: Instant) -> Option<String> {
        if self.hook == HookState::Queued || now - self.reminded < REMINDER {
            return None;
        }
        self.reminded = now;
        Some(format!("{} has taken {} s so far", self.words(), (now - self.since).as_secs()))
    }

    fn words(&self) -> String {
        match self.hook {
            HookState::Queued => format!("{} (queued)", self.step),
            HookState::Preparing => "build environment".to_owned(),
            HookState::Running => self.step.clone(),
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
        if !self.sources.contains_key(&job) && self.sources.len() < MAX_LINES {
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

    #[test]
    fn a_long_step_is_reported_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut open = OpenSource::new("build_wheel".into(), HookState::Queued, start);
        assert_eq!(open.reminder(at(500)), None, "waiting in the queue does not count");
        open = OpenSource::new(open.step.clone(), HookState::Running, at(500));
        let told: Vec<_> = (500..700).step_by(5).filter_map(|seconds| open.reminder(at(seconds))).collect();
        let expected = [60, 120, 180].map(|seconds| format!("build_wheel has taken {seconds} s so far"));
        assert_eq!(told, expected);
    }
}
