//! Results as text.

use std::path::Path;

use hookpool_frontend::{
    AnswerUse, Before, BuildWarning, CoreMetadata, EnvironmentEvent, HookRun, Keeping, Origin, OutputFile, Product,
    Report, redact,
};

use super::super::jobs::Job;
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
pub fn result(job: &Job, report: &Report, shows_reason: bool) -> String {
    let names = job.names.iter().map(|source| name(source)).collect::<Vec<_>>().join(", ");
    let mut text = match &report.outcome {
        Err(_) => return String::new(),
        Ok(Product::Metadata(metadata, origin)) => metadata_lines(metadata, *origin, &names),
        Ok(Product::File(file)) => format!("{}{}  from {names}\n", file_name(&file.path), note(file)),
        Ok(_) => format!("{names}: the build backend cannot make a source distribution of it\n"),
    };
    if shows_reason && let Some(reason) = &report.not_static {
        text.push_str(&format!("    hooks ran, because {}\n", printable(&reason.to_string())));
    }
    if shows_reason {
        report.hooks.iter().filter_map(answer).for_each(|line| text.push_str(&line));
    }
    if let Some(fallback) = &report.fallback {
        let (source, required) = (name(&fallback.source), printable(&fallback.extensions.join(", ")));
        text.push_str(&format!("    by its source, {source}: the wheel requires {required}, which is not supported\n"));
    }
    if let Some(wheel) = &report.kept_wheel {
        text.push_str(&format!("    wheel kept: {}\n", file_name(&wheel.path)));
    }
    if let Some(environment) = report.environment.as_ref().filter(|environment| !environment.modified.is_empty()) {
        let first = name(&environment.modified[0]);
        let count = environment.modified.len();
        text.push_str(&format!(
            "    its build environment was changed ({first}; {count} in all) and will be made again\n"
        ));
    }
    if let Some(environment) = report.environment.as_ref().filter(|environment| environment.needed) {
        text.push_str(&format!(
            "    it needs its build environment ({}): `hookpool cache prune` and `clean` would break it\n",
            name(&environment.python)
        ));
    }
    text
}

/// What became of the answer of a hook.
fn answer(run: &HookRun) -> Option<String> {
    match &run.answer {
        AnswerUse::Used { .. } => Some(format!("    {} did not run, its answer was kept\n", run.hook)),
        AnswerUse::New(Keeping::NotKept(reason)) => {
            Some(format!("    the answer of {} is not kept: {}\n", run.hook, printable(&reason.to_string())))
        }
        _ => None,
    }
}

fn metadata_lines(metadata: &CoreMetadata, origin: Origin, names: &str) -> String {
    let way = match origin {
        Origin::Static => "static",
        Origin::PrepareMetadata => "by hook",
        Origin::BuiltWheel => "by wheel",
        Origin::Wheel => "of the wheel",
    };
    let mut text = format!("{} {}  ({way})  from {names}\n", printable(&metadata.name), printable(&metadata.version));
    let mut field = |title: &str, value: &str| text.push_str(&format!("    {title}: {}\n", printable(value)));
    if let Some(python) = &metadata.requires_python {
        field("Requires-Python", python);
    }
    metadata.requires_dist.iter().for_each(|requirement| field("Requires-Dist", requirement));
    metadata.provides_extra.iter().for_each(|extra| field("Provides-Extra", extra));
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
pub fn warning(job: &Job, warning: &BuildWarning) -> String {
    format!("warning: {}: {}", name(job.name()), printable(&warning.to_string()))
}

/// The line for an event of the build environments, if it is shown.
pub fn environment_event(event: &EnvironmentEvent) -> Option<String> {
    let list = |names: &[String]| if names.is_empty() { "nothing".into() } else { printable(&names.join(", ")) };
    match event {
        EnvironmentEvent::Made { requirements, after, .. } => {
            Some(format!("made a build environment with {} in {:.1} s", list(requirements), after.as_secs_f64()))
        }
        EnvironmentEvent::PipInPlaceOfUv { told_by } => Some(printable(&pip_in_place_of_uv(told_by))),
        EnvironmentEvent::Matched { requirements, after, .. } => Some(format!(
            "resolved {} in {:.1} s: a build environment with the same packages exists already",
            list(requirements),
            after.as_secs_f64()
        )),
        EnvironmentEvent::Awaited { requirements } => {
            Some(format!("waiting: another process makes a build environment with {}", list(requirements)))
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
