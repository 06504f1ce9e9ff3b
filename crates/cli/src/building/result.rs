//! From the report of the frontend to a result as it is written and shown.

use std::path::Path;

use hookpool_frontend::{
    Before, DeclaredExtension, EnvironmentUse, Fallback, HookRun, Origin, OutputFile, Product, Report,
};
use hookpool_supervisor::{CapturedOutput, ErrorKind};
use hookpool_wire::BuildResult;

use crate::format::{answer_fields, error_fields, milliseconds, timing_fields, worker_fields};

/// The result of a source.
pub fn result(source: &Path, report: &Report) -> BuildResult {
    let product = report.outcome.as_ref().ok();
    let (metadata, origin) = match product {
        Some(Product::Metadata(metadata, origin)) => (Some(metadata), Some(self::origin(*origin))),
        _ => (None, None),
    };
    let built = match product {
        Some(Product::File(file)) => Some(file),
        _ => None,
    };
    let failed = failed_hook(report);
    BuildResult {
        source: text(source),
        ok: product.is_some(),
        name: metadata.map(|metadata| metadata.name.clone()),
        version: metadata.map(|metadata| metadata.version.clone()),
        requires_python: metadata.and_then(|metadata| metadata.requires_python.clone()),
        requires_dist: metadata.map(|metadata| metadata.requires_dist.clone()),
        provides_extra: metadata.map(|metadata| metadata.provides_extra.clone()),
        metadata: metadata.map(|metadata| metadata.text.clone()),
        origin,
        not_static: report.not_static.as_ref().map(ToString::to_string),
        extensions: report.extensions.as_ref().map(|all| all.iter().map(extension).collect()),
        fallback: report.fallback.as_ref().map(fallback),
        file: built.map(file),
        kept_wheel: report.kept_wheel.as_ref().map(file),
        sdist_unsupported: matches!(product, Some(Product::SdistUnsupported)),
        warnings: report.warnings.iter().map(ToString::to_string).collect(),
        error: report.outcome.as_ref().err().cloned().map(error_fields),
        log: failed.and_then(|run| run.log.as_deref()).map(text),
        stdout: failed.map(|run| &run.stdout).map(CapturedOutput::text),
        stderr: failed.map(|run| &run.stderr).map(CapturedOutput::text),
        environment: report.environment.as_ref().map(environment),
        hooks: report.hooks.iter().map(hook).collect(),
        total_ms: milliseconds(report.took),
    }
}

/// The hook that failed, if the failure came from a hook. It was the last to run.
fn failed_hook(report: &Report) -> Option<&HookRun> {
    let error = report.outcome.as_ref().err()?;
    report.hooks.last().filter(|run| run.error == Some(error.kind))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn origin(origin: Origin) -> hookpool_wire::Origin {
    match origin {
        Origin::Static => hookpool_wire::Origin::Static,
        Origin::PrepareMetadata => hookpool_wire::Origin::PrepareMetadata,
        Origin::BuiltWheel => hookpool_wire::Origin::BuiltWheel,
        Origin::Wheel => hookpool_wire::Origin::Wheel,
    }
}

fn extension(declared: &DeclaredExtension) -> hookpool_wire::Extension {
    let DeclaredExtension { extension, supported, .. } = declared;
    hookpool_wire::Extension {
        name: extension.name.clone(),
        required: extension.required,
        supported: *supported,
        file: extension.file.to_owned(),
    }
}

fn fallback(fallback: &Fallback) -> hookpool_wire::Fallback {
    hookpool_wire::Fallback {
        wheel: text(&fallback.wheel),
        source: text(&fallback.source),
        extensions: fallback.extensions.clone(),
    }
}

fn file(file: &OutputFile) -> hookpool_wire::OutputFile {
    let before = match file.before {
        Before::Nothing => hookpool_wire::Before::Nothing,
        Before::SameContent => hookpool_wire::Before::SameContent,
        Before::OtherContent => hookpool_wire::Before::OtherContent,
    };
    hookpool_wire::OutputFile { path: text(&file.path), before }
}

fn environment(environment: &EnvironmentUse) -> hookpool_wire::EnvironmentUse {
    hookpool_wire::EnvironmentUse {
        python: text(&environment.python),
        id: environment.id.clone(),
        made: environment.made,
        modified: environment.modified.iter().map(|path| text(path)).collect(),
        needed: environment.needed,
    }
}

fn hook(run: &HookRun) -> hookpool_wire::HookRun {
    hookpool_wire::HookRun {
        hook: run.hook.name().to_owned(),
        error: run.error.as_ref().map(ErrorKind::to_string),
        worker: run.worker.map(worker_fields),
        timing: timing_fields(run.timing),
        answer: answer_fields(&run.answer),
        log: run.log.as_deref().map(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use hookpool_supervisor::HookError;

    #[test]
    fn a_failure_has_every_field() {
        let error = HookError::new(ErrorKind::InvalidSource, "m");
        let mut report = Report::failed(error);
        report.took = Duration::from_millis(3);
        let result = result(Path::new("a"), &report);
        let expected = concat!(
            r#"{"source":"a","ok":false,"name":null,"version":null,"requires_python":null,"requires_dist":null,"#,
            r#""provides_extra":null,"metadata":null,"origin":null,"not_static":null,"extensions":null,"#,
            r#""fallback":null,"file":null,"kept_wheel":null,"#,
            r#""sdist_unsupported":false,"warnings":[],"error":{"kind":"InvalidSource","message":"m","exception":null,"#,
            r#""unsupported_operation":false,"traceback":null,"exit":null,"hint":null},"log":null,"stdout":null,"#,
            r#""stderr":null,"environment":null,"hooks":[],"total_ms":3.0}"#,
        );
        assert_eq!(serde_json::to_string(&result).unwrap(), expected);
    }
}
