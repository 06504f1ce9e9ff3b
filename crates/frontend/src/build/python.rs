//! Whether what is built supports the Python that it is built with.

use std::path::Path;

use hookpool_supervisor::{ErrorKind, HookError, Setting};

use super::run::Run;
use super::warning::BuildWarning;
use crate::metadata::{declared_requires_python, excludes};
use crate::unblock::unblock;

impl Run<'_> {
    /// Compares what a tree says before any hook ran.
    pub async fn check_python_of(&mut self, tree: &Path, believes_pkg_info: bool) -> Result<(), HookError> {
        let tree = tree.to_owned();
        let declared = unblock(move || declared_requires_python(&tree, believes_pkg_info)).await;
        self.check_python(declared.as_deref()).await
    }

    /// Compares a Requires-Python.
    pub async fn check_python(&mut self, requires_python: Option<&str>) -> Result<(), HookError> {
        let Some(requires_python) = requires_python else { return Ok(()) };
        // An interpreter that cannot be asked is told of by whoever needs it.
        let Ok(interpreter) = self.frontend.shared.supervisor.interpreter(None).await else { return Ok(()) };
        if !excludes(requires_python, interpreter.version) || self.unsupported_python().is_some() {
            return Ok(());
        }
        let (requires_python, version) = (requires_python.to_owned(), interpreter.version);
        let warning = BuildWarning::UnsupportedPython { requires_python, version };
        if self.frontend.shared.settings.check_requires_python {
            let error = HookError::new(ErrorKind::UnsupportedPython, format!("{}: {warning}", self.name.display()));
            return Err(error.with_hint("use an interpreter that it supports").with_setting(Setting::Interpreter));
        }
        self.warn(warning);
        Ok(())
    }

    /// That it does not support the interpreter, if that was found.
    fn unsupported_python(&self) -> Option<&BuildWarning> {
        self.warnings.iter().find(|warning| matches!(warning, BuildWarning::UnsupportedPython { .. }))
    }

    /// A failure, with the hint that it may be for the interpreter: rather than
    /// with one that comes from what a hook said.
    pub fn with_python_hint(&self, error: HookError) -> HookError {
        match self.unsupported_python() {
            Some(warning) if error.hint.is_none() || is_of_a_hook(error.kind) => {
                error.with_hint(warning.to_string()).with_setting(Setting::Interpreter)
            }
            _ => error,
        }
    }
}

fn is_of_a_hook(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::HookRuntimeError | ErrorKind::HookCrashed | ErrorKind::BackendImportError)
}
