//! Results as JSON: a line for each name of a source. Callers may rely on the order of
//! the fields, and on each being present.

use std::path::Path;
use std::time::Duration;

use hookpool_frontend::{Before, DeclaredExtension, EnvironmentUse, Fallback, HookRun, OutputFile, Product, Report};
use serde_json::{Value, json};

use super::super::jobs::Job;
use super::failure::failed_hook;
use crate::format::{answer_fields, error_fields, milliseconds, timing_fields};

/// The lines for a source, one for each of its names.
pub fn lines(job: &Job, report: &Report, took: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    for source in &job.names {
        bytes.extend(line(source, report, took).to_string().into_bytes());
        bytes.push(b'\n');
    }
    bytes
}

fn line(source: &Path, report: &Report, took: Duration) -> Value {
    let product = report.outcome.as_ref().ok();
    let (metadata, origin) = match product {
        Some(Product::Metadata(metadata, origin)) => (Some(metadata), Some(origin.name())),
        _ => (None, None),
    };
    let built = match product {
        Some(Product::File(file)) => Some(file),
        _ => None,
    };
    let failed = failed_hook(report);
    json!({
        "source": text(source),
        "ok": product.is_some(),
        "name": metadata.map(|metadata| &metadata.name),
        "version": metadata.map(|metadata| &metadata.version),
        "requires_python": metadata.and_then(|metadata| metadata.requires_python.as_ref()),
        "requires_dist": metadata.map(|metadata| &metadata.requires_dist),
        "provides_extra": metadata.map(|metadata| &metadata.provides_extra),
        "metadata": metadata.map(|metadata| &metadata.text),
        "origin": origin,
        "not_static": report.not_static.as_ref().map(ToString::to_string),
        "extensions": report.extensions.as_ref().map(|all| all.iter().map(extension).collect::<Vec<_>>()),
        "fallback": report.fallback.as_ref().map(fallback),
        "file": built.map(file),
        "kept_wheel": report.kept_wheel.as_ref().map(file),
        "sdist_unsupported": matches!(product, Some(Product::SdistUnsupported)),
        "warnings": report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "error": report.outcome.as_ref().err().cloned().map(error_fields),
        "log": failed.and_then(|run| run.log.as_deref()).map(text),
        "stdout": failed.map(|run| run.stdout.text()),
        "stderr": failed.map(|run| run.stderr.text()),
        "environment": report.environment.as_ref().map(environment),
        "hooks": report.hooks.iter().map(hook).collect::<Vec<_>>(),
        "total_ms": milliseconds(took),
    })
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into()
}

fn extension(declared: &DeclaredExtension) -> Value {
    let DeclaredExtension { extension, supported, .. } = declared;
    json!({
        "name": extension.name,
        "required": extension.required,
        "supported": supported,
        "file": extension.file,
    })
}

fn fallback(fallback: &Fallback) -> Value {
    json!({
        "wheel": text(&fallback.wheel),
        "source": text(&fallback.source),
        "extensions": fallback.extensions,
    })
}

fn file(file: &OutputFile) -> Value {
    let before = match file.before {
        Before::Nothing => "nothing",
        Before::SameContent => "same_content",
        Before::OtherContent => "other_content",
    };
    json!({"path": text(&file.path), "before": before})
}

fn environment(environment: &EnvironmentUse) -> Value {
    json!({
        "python": text(&environment.python),
        "id": environment.id,
        "made": environment.made,
        "modified": environment.modified.iter().map(|path| text(path)).collect::<Vec<_>>(),
        "needed": environment.needed,
    })
}

fn hook(run: &HookRun) -> Value {
    json!({
        "hook": run.hook.name(),
        "error": run.error,
        "worker": run.worker,
        "timing": timing_fields(run.timing),
        "answer": answer_fields(&run.answer),
        "log": run.log.as_deref().map(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookpool_frontend::JobId;
    use hookpool_supervisor::{ErrorKind, HookError};
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
