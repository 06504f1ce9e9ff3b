//! Results as text.

use std::path::Path;

use hookpool_frontend::redact;
use hookpool_wire::{Answer, Before, BuildEvent, BuildResult, HookRun, Origin, OutputFile};

use crate::building::jobs::Job;
use crate::format::printable;
use crate::observer::pip_in_place_of_uv;

/// The name of a source in messages, in quotes if it has spaces.
pub fn name(source: &Path) -> String {
    // The user may have passed an address with a password.
    let name = printable(&redact(&source.display().to_string()));
    if name.contains(char::is_whitespace) { format!("\"{name}\"") } else { name }
}

/// The name of an output file, relative to the working directory if it is in there.
fn file_name(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    name(here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path))
}

/// The lines for standard output about a source; none if it failed.
pub fn result(job: &Job, result: &BuildResult, shows_reason: bool) -> String {
    if !result.ok {
        return String::new();
    }
    let names = job.names.iter().map(|source| name(source)).collect::<Vec<_>>().join(", ");
    let mut text = match (result.origin, &result.file) {
        (Some(origin), _) => metadata_lines(result, origin, &names),
        (None, Some(file)) => format!("{}{}  from {names}\n", file_name(Path::new(&file.path)), note(file)),
        (None, None) => format!("{names}: the build backend cannot make a source distribution of it\n"),
    };
    if shows_reason && let Some(reason) = &result.not_static {
        text.push_str(&format!("    hooks ran, because {}\n", printable(reason)));
    }
    if shows_reason {
        result.hooks.iter().filter_map(answer).for_each(|line| text.push_str(&line));
    }
    if let Some(fallback) = &result.fallback {
        let (source, required) = (name(Path::new(&fallback.source)), printable(&fallback.extensions.join(", ")));
        text.push_str(&format!("    by its source, {source}: the wheel requires {required}, which is not supported\n"));
    }
    if let Some(wheel) = &result.kept_wheel {
        text.push_str(&format!("    wheel kept: {}\n", file_name(Path::new(&wheel.path))));
    }
    if let Some(environment) = result.environment.as_ref().filter(|environment| !environment.modified.is_empty()) {
        let first = name(Path::new(&environment.modified[0]));
        let count = environment.modified.len();
        text.push_str(&format!(
            "    its build environment was changed ({first}; {count} in all) and will be made again\n"
        ));
    }
    if let Some(environment) = result.environment.as_ref().filter(|environment| environment.needed) {
        text.push_str(&format!(
            "    it needs its build environment ({}): `hookpool cache prune` and `clean` would break it\n",
            name(Path::new(&environment.python))
        ));
    }
    text
}

/// What became of the answer of a hook.
fn answer(run: &HookRun) -> Option<String> {
    match &run.answer {
        Some(Answer::Used { .. }) => Some(format!("    {} did not run, its answer was kept\n", run.hook)),
        Some(Answer::NotKept { reason }) => {
            Some(format!("    the answer of {} is not kept: {}\n", run.hook, printable(reason)))
        }
        _ => None,
    }
}

fn metadata_lines(result: &BuildResult, origin: Origin, names: &str) -> String {
    let way = match origin {
        Origin::Static => "static",
        Origin::PrepareMetadata => "by hook",
        Origin::BuiltWheel => "by wheel",
        Origin::Wheel => "of the wheel",
    };
    let known = |value: &Option<String>| value.as_deref().map_or_else(String::new, printable);
    let mut text = format!("{} {}  ({way})  from {names}\n", known(&result.name), known(&result.version));
    let mut field = |title: &str, value: &str| text.push_str(&format!("    {title}: {}\n", printable(value)));
    if let Some(python) = &result.requires_python {
        field("Requires-Python", python);
    }
    result.requires_dist.iter().flatten().for_each(|requirement| field("Requires-Dist", requirement));
    result.provides_extra.iter().flatten().for_each(|extra| field("Provides-Extra", extra));
    text
}

fn note(file: &OutputFile) -> &'static str {
    match file.before {
        Before::Nothing => "",
        Before::SameContent => " (unchanged)",
        Before::OtherContent => " (replaced)",
    }
}

/// The line for a warning.
pub fn warning(job: &Job, warning: &str) -> String {
    format!("warning: {}: {}", name(job.name()), printable(warning))
}

/// The line for an event, if it is shown.
pub fn event(event: &BuildEvent) -> Option<String> {
    let list = |names: &[String]| if names.is_empty() { "nothing".into() } else { printable(&names.join(", ")) };
    match event {
        BuildEvent::TreeLocked { tree } => Some(format!("waiting: another process uses {}", name(Path::new(tree)))),
        BuildEvent::EnvironmentMade { requirements, after_ms } => {
            Some(format!("made a build environment with {} in {:.1} s", list(requirements), after_ms / 1e3))
        }
        BuildEvent::PipInPlaceOfUv { told_by } => Some(printable(&pip_in_place_of_uv(told_by))),
        BuildEvent::EnvironmentMatched { requirements, after_ms } => Some(format!(
            "resolved {} in {:.1} s: a build environment with the same packages exists already",
            list(requirements),
            after_ms / 1e3
        )),
        BuildEvent::EnvironmentAwaited { requirements } => {
            Some(format!("waiting: another process makes a build environment with {}", list(requirements)))
        }
        BuildEvent::EnvironmentOutdated { requirements, reason } => {
            let reason = printable(reason);
            Some(format!("warning: an older build environment is used for {}: {reason}", list(requirements)))
        }
        BuildEvent::EnvironmentDiscarded { folder, reason } => {
            let (folder, reason) = (name(Path::new(folder)), printable(reason));
            Some(format!("warning: build environment {folder} is not used again: {reason}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_are_quoted() {
        assert_eq!(name(Path::new("a/b-1.0.tar.gz")), "a/b-1.0.tar.gz");
        assert_eq!(name(Path::new(" six ")), "\" six \"");
        assert_eq!(name(Path::new("my project")), "\"my project\"");
    }
}
