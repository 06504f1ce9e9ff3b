//! A failure as text: the hook, the error, its last output, its log and a hint.

use hookpool_supervisor::CapturedOutput;
use hookpool_wire::{BuildResult, Error};

use super::live::visible_part;
use super::text::name;
use crate::building::jobs::Job;
use crate::format::printable;

/// How many of the last lines of each stream are shown.
const LAST_LINES: usize = 20;

/// The lines for a failure; `shows_all` adds Python's traceback.
pub fn lines(job: &Job, result: &BuildResult, error: &Error, shows_all: bool) -> Vec<String> {
    if result.is_cut_off() {
        return Vec::new();
    }
    let place = result.failed_hook().map(|run| format!("{} of ", run.hook)).unwrap_or_default();
    let mut lines = vec![format!("error: {place}{}: {}", name(job.name()), error.kind)];
    lines.extend(error.message.trim_end().lines().map(|line| format!("  {}", printable(line))));
    if let Some(traceback) = error.traceback.as_ref().filter(|_| shows_all) {
        lines.extend(traceback.trim_end().lines().map(|line| format!("    {}", printable(line))));
    }
    for (title, output) in [("standard output", &result.stdout), ("standard error", &result.stderr)] {
        lines.extend(output.iter().flat_map(|output| last_output(title, output)));
    }
    lines.extend(result.log.iter().map(|path| format!("  full log: {}", printable(path))));
    lines.extend(error.hint.iter().map(|hint| format!("  hint: {}", printable(hint))));
    lines
}

fn last_output(title: &str, output: &str) -> Vec<String> {
    let all: Vec<&str> = output.trim_end().lines().collect();
    if all.is_empty() {
        return Vec::new();
    }
    let last = &all[all.len().saturating_sub(LAST_LINES)..];
    // A character that was cut in two is missing at the beginning.
    let is_part = last.len() < all.len() || output.len() + 3 >= CapturedOutput::LIMIT;
    let note = if is_part { format!(", last {} lines", last.len()) } else { String::new() };
    let mut lines = vec![format!("  {title}{note}:")];
    lines.extend(last.iter().map(|line| format!("    {}", printable(visible_part(line)))));
    lines
}
