//! Results for programs: an object for each source, a line each. The order of
//! the fields, and that each is always there, are promised.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use hookpool_frontend::{
    Before, CoreMetadata, DeclaredExtension, EnvironmentUse, Fallback, HookRun, Origin, OutputFile, Product, Report,
};
use hookpool_supervisor::{ErrorKind, HookError, WorkerInfo};
use serde::Serialize;

use super::super::jobs::Job;
use super::failure::failed_hook;
use crate::flags::with_flags;
use crate::milliseconds::{Milliseconds, milliseconds};

#[derive(Serialize)]
struct Line<'a> {
    source: Cow<'a, str>,
    ok: bool,
    name: Option<&'a str>,
    version: Option<&'a str>,
    requires_python: Option<&'a str>,
    requires_dist: Option<&'a [String]>,
    provides_extra: Option<&'a [String]>,
    metadata: Option<&'a str>,
    origin: Option<&'static str>,
    not_static: Option<String>,
    extensions: Option<Vec<ExtensionLine<'a>>>,
    fallback: Option<FallbackLine<'a>>,
    file: Option<FileLine<'a>>,
    kept_wheel: Option<FileLine<'a>>,
    sdist_unsupported: bool,
    warnings: Vec<String>,
    error: Option<HookError>,
    log: Option<Cow<'a, str>>,
    stdout: Option<String>,
    stderr: Option<String>,
    environment: Option<EnvironmentLine<'a>>,
    hooks: Vec<HookLine<'a>>,
    total_ms: f64,
}

#[derive(Serialize)]
struct ExtensionLine<'a> {
    name: &'a str,
    required: bool,
    supported: bool,
    file: &'a str,
}

#[derive(Serialize)]
struct FallbackLine<'a> {
    wheel: Cow<'a, str>,
    source: Cow<'a, str>,
    extensions: &'a [String],
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: Cow<'a, str>,
    before: &'static str,
}

#[derive(Serialize)]
struct EnvironmentLine<'a> {
    python: Cow<'a, str>,
    id: &'a str,
    made: bool,
    modified: Vec<Cow<'a, str>>,
    needed: bool,
}

#[derive(Serialize)]
struct HookLine<'a> {
    hook: &'a str,
    error: Option<ErrorKind>,
    worker: Option<WorkerInfo>,
    timing: Milliseconds,
    log: Option<Cow<'a, str>>,
}

/// The lines for a source, one for each of its names.
pub fn lines(job: &Job, report: &Report, took: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    for source in &job.names {
        let line = line(source, report, took);
        bytes.extend(serde_json::to_vec(&line).expect("strings and numbers can be written as JSON"));
        bytes.push(b'\n');
    }
    bytes
}

fn line<'a>(source: &'a Path, report: &'a Report, took: Duration) -> Line<'a> {
    let product = report.outcome.as_ref().ok();
    let metadata = product.and_then(metadata);
    let failed = failed_hook(report);
    let core = metadata.map(|(metadata, _)| metadata);
    Line {
        source: source.to_string_lossy(),
        ok: product.is_some(),
        name: core.map(|core| core.name.as_str()),
        version: core.map(|core| core.version.as_str()),
        requires_python: core.and_then(|core| core.requires_python.as_deref()),
        requires_dist: core.map(|core| core.requires_dist.as_slice()),
        provides_extra: core.map(|core| core.provides_extra.as_slice()),
        metadata: core.map(|core| core.text.as_str()),
        origin: metadata.map(|(_, origin)| origin.name()),
        not_static: report.not_static.as_ref().map(ToString::to_string),
        extensions: report.extensions.as_ref().map(|all| all.iter().map(ExtensionLine::of).collect()),
        fallback: report.fallback.as_ref().map(FallbackLine::of),
        file: product.and_then(file).map(FileLine::of),
        kept_wheel: report.kept_wheel.as_ref().map(FileLine::of),
        sdist_unsupported: matches!(product, Some(Product::SdistUnsupported)),
        warnings: report.warnings.iter().map(ToString::to_string).collect(),
        error: report.outcome.as_ref().err().cloned().map(with_flags),
        log: failed.and_then(|run| run.log.as_deref()).map(Path::to_string_lossy),
        stdout: failed.map(|run| run.stdout.text()),
        stderr: failed.map(|run| run.stderr.text()),
        environment: report.environment.as_ref().map(EnvironmentLine::of),
        hooks: report.hooks.iter().map(HookLine::of).collect(),
        total_ms: milliseconds(took),
    }
}

fn metadata(product: &Product) -> Option<(&CoreMetadata, Origin)> {
    match product {
        Product::Metadata(metadata, origin) => Some((metadata, *origin)),
        _ => None,
    }
}

fn file(product: &Product) -> Option<&OutputFile> {
    match product {
        Product::File(file) => Some(file),
        _ => None,
    }
}

impl<'a> ExtensionLine<'a> {
    fn of(declared: &'a DeclaredExtension) -> Self {
        let DeclaredExtension { extension, supported, .. } = declared;
        Self { name: &extension.name, required: extension.required, supported: *supported, file: extension.file }
    }
}

impl<'a> FallbackLine<'a> {
    fn of(fallback: &'a Fallback) -> Self {
        Self {
            wheel: fallback.wheel.to_string_lossy(),
            source: fallback.source.to_string_lossy(),
            extensions: &fallback.extensions,
        }
    }
}

impl<'a> FileLine<'a> {
    fn of(file: &'a OutputFile) -> Self {
        let before = match file.before {
            Before::Nothing => "nothing",
            Before::SameContent => "same_content",
            Before::OtherContent => "other_content",
        };
        Self { path: file.path.to_string_lossy(), before }
    }
}

impl<'a> EnvironmentLine<'a> {
    fn of(environment: &'a EnvironmentUse) -> Self {
        Self {
            python: environment.python.to_string_lossy(),
            id: &environment.id,
            made: environment.made,
            modified: environment.modified.iter().map(|path| path.to_string_lossy()).collect(),
            needed: environment.needed,
        }
    }
}

impl<'a> HookLine<'a> {
    fn of(run: &'a HookRun) -> Self {
        Self {
            hook: run.hook.name(),
            error: run.error,
            worker: run.worker,
            timing: run.timing.into(),
            log: run.log.as_deref().map(Path::to_string_lossy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_frontend::JobId;
    use std::path::PathBuf;

    #[test]
    fn a_failure_has_every_field() {
        let error = HookError::new(ErrorKind::InvalidSource, "m");
        let job = Job { id: JobId(0), names: vec![PathBuf::from("a"), "b".into()], source: Err(error.clone()) };
        let text = String::from_utf8(lines(&job, &Report::failed(error), Duration::from_millis(3))).unwrap();
        let expected = concat!(
            r#"{"source":"a","ok":false,"name":null,"version":null,"requires_python":null,"requires_dist":null,"#,
            r#""provides_extra":null,"metadata":null,"origin":null,"not_static":null,"extensions":null,"#,
            r#""fallback":null,"file":null,"kept_wheel":null,"#,
            r#""sdist_unsupported":false,"warnings":[],"error":{"kind":"InvalidSource","message":"m","exception":null,"#,
            r#""unsupported_operation":false,"traceback":null,"exit":null,"hint":null},"log":null,"stdout":null,"#,
            r#""stderr":null,"environment":null,"hooks":[],"total_ms":3.0}"#,
            "\n"
        );
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
