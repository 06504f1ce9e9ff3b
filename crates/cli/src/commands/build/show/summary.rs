//! The end of a run: the sources that failed, and a line with the counts.

use std::time::Instant;

use hookpool_wire::{BuildResult, Origin};

/// Counts the results.
pub struct Summary {
    sources: usize,
    wants_metadata: bool,
    succeeded: usize,
    without_hooks: usize,
    /// No hook ran for them: all answers were kept.
    kept: usize,
    /// Some hooks ran for them, and answers of others were kept.
    partly_kept: usize,
    /// The names of the sources that failed, and their errors.
    failed: Vec<(String, String)>,
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
            kept: 0,
            partly_kept: 0,
            failed: Vec::new(),
            environments_made: 0,
            started: Instant::now(),
        }
    }

    /// Adds the result of a source.
    pub fn add(&mut self, name: &str, result: &BuildResult) {
        match &result.error {
            None => {
                self.succeeded += 1;
                let is_static = matches!(result.origin, Some(Origin::Static | Origin::Wheel));
                self.without_hooks += usize::from(is_static);
                self.kept += usize::from(result.is_by_kept_answers());
                self.partly_kept += usize::from(result.is_partly_by_kept_answers());
            }
            Some(_) if result.is_cut_off() => {}
            Some(error) => self.failed.push((name.to_owned(), error.kind.clone())),
        }
    }

    /// Counts an environment. A source may need two, and make some before it fails.
    pub fn environment_made(&mut self) {
        self.environments_made += 1;
    }

    /// The lines for the end.
    pub fn lines(&self, interrupted: bool) -> Vec<String> {
        let mut parts = vec![format!("{} done", self.succeeded)];
        let how = [
            (self.wants_metadata && self.succeeded > 0).then(|| format!("{} without hooks", self.without_hooks)),
            (self.kept > 0).then(|| format!("{} by kept answers", self.kept)),
            (self.partly_kept > 0).then(|| format!("{} by some kept answers", self.partly_kept)),
        ];
        let how: Vec<String> = how.into_iter().flatten().collect();
        if !how.is_empty() {
            parts[0].push_str(&format!(" ({})", how.join(", ")));
        }
        let failed = self.failed.len();
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        let not_done = self.sources - self.succeeded - failed;
        if not_done > 0 {
            parts.push(format!("{not_done} not done"));
        }
        if self.environments_made > 0 {
            parts.push(format!("{} made", count(self.environments_made, "build environment")));
        }
        let word = if interrupted { "interrupted: " } else { "" };
        let seconds = self.started.elapsed().as_secs_f64();
        let mut lines = Vec::new();
        // A single failure has just been shown.
        if self.sources > 1 {
            lines.extend(self.failed.iter().map(|(name, kind)| format!("failed: {name}: {kind}")));
        }
        lines.push(format!("{word}{}: {}; {seconds:.1} s", count(self.sources, "source"), parts.join(", ")));
        lines
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_wire::{Answer, Error, HookRun};

    #[test]
    fn sources_by_kept_answers_are_counted() {
        let with = |answers: &[Answer]| {
            let run = |answer: &Answer| HookRun { answer: Some(answer.clone()), ..HookRun::default() };
            BuildResult { hooks: answers.iter().map(run).collect(), ..BuildResult::default() }
        };
        let (used, kept) = (Answer::Used { saved_ms: 1.0 }, Answer::Kept);
        let mut summary = Summary::new(4, true);
        for answers in [&[used.clone(), used.clone()][..], &[used, kept.clone()], &[kept], &[]] {
            summary.add("a", &with(answers));
        }
        let expected = "4 sources: 4 done (0 without hooks, 1 by kept answers, 1 by some kept answers); ";
        assert!(summary.lines(false)[0].starts_with(expected), "{:?}", summary.lines(false));
    }

    #[test]
    fn failed_sources_are_listed_if_there_are_several_sources() {
        let failed = |kind: &str| {
            let error = Error { kind: kind.into(), message: "m".into(), ..Error::default() };
            BuildResult { error: Some(error), ..BuildResult::default() }
        };
        let mut several = Summary::new(3, false);
        several.add("a", &failed("HookCrashed"));
        several.add("b", &failed("Cancelled"));
        let lines = several.lines(false);
        assert_eq!((lines.len(), lines[0].as_str()), (2, "failed: a: HookCrashed"));
        assert!(lines[1].starts_with("3 sources: 0 done, 1 failed, 2 not done; "), "{lines:?}");
        let mut only = Summary::new(1, false);
        only.add("a", &failed("HookCrashed"));
        assert_eq!(only.lines(false).len(), 1);
    }
}
