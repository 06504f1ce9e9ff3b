//! How a run went, in one line.

use std::time::Instant;

use hookpool_frontend::{Origin, Product, Report};
use hookpool_supervisor::ErrorKind;

/// Counts what is told at the end.
pub struct Summary {
    sources: usize,
    wants_metadata: bool,
    succeeded: usize,
    without_hooks: usize,
    failed: usize,
    not_done: usize,
    environments_made: usize,
    started: Instant,
}

impl Summary {
    pub fn new(sources: usize, wants_metadata: bool) -> Self {
        Self {
            sources,
            wants_metadata,
            succeeded: 0,
            without_hooks: 0,
            failed: 0,
            not_done: 0,
            environments_made: 0,
            started: Instant::now(),
        }
    }

    pub fn add(&mut self, report: &Report) {
        match &report.outcome {
            Ok(product) => {
                self.succeeded += 1;
                let is_static = matches!(product, Product::Metadata(_, Origin::Static | Origin::Wheel));
                self.without_hooks += usize::from(is_static);
            }
            Err(error) if matches!(error.kind, ErrorKind::Interrupted | ErrorKind::Cancelled) => self.not_done += 1,
            Err(_) => self.failed += 1,
        }
    }

    /// A source may need two, and one that fails may have made some.
    pub fn environment_made(&mut self) {
        self.environments_made += 1;
    }

    /// The lines for the end.
    pub fn lines(&self, interrupted: bool) -> Vec<String> {
        let mut parts = vec![format!("{} done", self.succeeded)];
        if self.wants_metadata && self.succeeded > 0 {
            parts[0].push_str(&format!(" ({} without hooks)", self.without_hooks));
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        let not_done = self.sources - self.succeeded - self.failed;
        if not_done > 0 {
            parts.push(format!("{not_done} not done"));
        }
        if self.environments_made > 0 {
            parts.push(format!("{} made", count(self.environments_made, "build environment")));
        }
        let word = if interrupted { "interrupted: " } else { "" };
        let seconds = self.started.elapsed().as_secs_f64();
        vec![format!("{word}{}: {}; {seconds:.1} s", count(self.sources, "source"), parts.join(", "))]
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
