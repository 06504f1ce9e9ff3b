//! A failure as text: the hook, the error, its last output, its log and a hint.

use hookpool_frontend::{HookRun, Report};
use hookpool_supervisor::{ErrorKind, HookError};

use super::super::jobs::Job;
use super::live::visible_part;
use super::text::name;
use crate::flags::with_flags;
use crate::format::printable;

/// How many of the last lines of each stream are shown.
const LAST_LINES: usize = 20;

/// The lines for a failure; `shows_all` adds Python's traceback.
pub fn lines(job: &Job, report: &Report, error: &HookError, shows_all: bool) -> Vec<String> {
    if matches!(error.kind, ErrorKind::Interrupted | ErrorKind::Cancelled) {
        return Vec::new();
    }
    let run = failed_hook(report);
    let place = run.map(|run| format!("{} of ", run.hook)).unwrap_or_default();
    let mut lines = vec![format!("error: {place}{}: {}", name(job.name()), error.kind)];
    lines.extend(error.message.trim_end().lines().map(|line| format!("  {}", printable(line))));
    if let Some(traceback) = error.traceback.as_ref().filter(|_| shows_all) {
        lines.extend(traceback.trim_end().lines().map(|line| format!("    {}", printable(line))));
    }
    if let Some(run) = run {
        lines.extend(last_output(run));
    }
    let log = run.and_then(|run| run.log.as_ref());
    lines.extend(log.map(|path| format!("  full log: {}", printable(&path.display().to_string()))));
    lines.extend(with_flags(error.clone()).hint.map(|hint| format!("  hint: {}", printable(&hint))));
    lines
}

/// The hook that failed, if the failure came from a hook. It was the last to run.
pub fn failed_hook(report: &Report) -> Option<&HookRun> {
    let error = report.outcome.as_ref().err()?;
    report.hooks.last().filter(|run| run.error == Some(error.kind))
}

fn last_output(run: &HookRun) -> Vec<String> {
    let streams = [("standard output", &run.stdout), ("standard error", &run.stderr)];
    let mut lines = Vec::new();
    for (title, output) in streams {
        let text = output.text();
        let all: Vec<&str> = text.trim_end().lines().collect();
        if all.is_empty() {
            continue;
        }
        let last = &all[all.len().saturating_sub(LAST_LINES)..];
        let is_part = last.len() < all.len() || output.truncated;
        lines.push(format!(
            "  {title}{}:",
            if is_part { format!(", last {} lines", last.len()) } else { String::new() }
        ));
        lines.extend(last.iter().map(|line| format!("    {}", printable(visible_part(line)))));
    }
    lines
}
