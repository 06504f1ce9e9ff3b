//! The flags for the settings that the libraries name in their errors.

use hookpool_supervisor::{ErrorKind, HookError, Setting, SourceInstead};

/// Adds the flag to the hint of an error.
pub fn with_flags(mut error: HookError) -> HookError {
    if error.kind == ErrorKind::QueueFull {
        error.setting = Some(Setting::QueueSize);
    }
    error.hint = hint(error.hint.take(), error.setting.as_ref());
    error
}

/// The hint of a library with the flag for the setting that it is about.
pub fn hint(hint: Option<String>, setting: Option<&Setting>) -> Option<String> {
    let flags = match setting {
        None => return hint,
        Some(Setting::RequiredExtension { extension, distribution, source }) => {
            return Some(required_extension(extension, distribution, *source));
        }
        Some(Setting::QueueSize) => "--queue-size",
        Some(Setting::HookTimeout) => "--hook-timeout, or `timeout` in the request",
        Some(Setting::HookMemoryLimit) => "--hook-memory-limit",
        Some(Setting::LockTimeout) => "--lock-timeout",
        Some(Setting::RestartWindow) => "--restart-window",
        Some(Setting::CacheFolder) => "--cache-dir",
        Some(Setting::Interpreter) => "--python",
        Some(Setting::FindLinks) => "--find-links",
        Some(Setting::Offline) => "--offline",
        Some(Setting::BuildConstraint) => "--build-constraint",
        Some(Setting::BuildIsolation) => "--no-build-isolation",
        Some(Setting::InstallerTimeout) => "--installer-timeout",
        // The enum is non-exhaustive.
        Some(_) => return hint,
    };
    Some(match hint {
        Some(hint) => format!("{hint} ({flags})"),
        None => flags.to_owned(),
    })
}

fn required_extension(extension: &str, distribution: &str, source: SourceInstead) -> String {
    let supports = format!("--supports-extension {extension}, if the installer of {distribution} supports it");
    let source_for = format!("--source-for {distribution}=TREE");
    match source {
        SourceInstead::Impossible => format!("pass {supports}"),
        SourceInstead::NotWanted => {
            format!("pass {supports}; or --on-required-extension source and {source_for}, to build it from source")
        }
        SourceInstead::NotNamed => format!("pass {source_for}, to build it from source; or {supports}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_the_hint() {
        let error = HookError::new(ErrorKind::HookTimeout, "m").with_hint("h").with_setting(Setting::RestartWindow);
        assert_eq!(with_flags(error).hint.as_deref(), Some("h (--restart-window)"));
        let full = with_flags(HookError::new(ErrorKind::QueueFull, "m"));
        assert_eq!(full.hint.as_deref(), Some("--queue-size"));
        assert_eq!(with_flags(HookError::new(ErrorKind::Cancelled, "m").with_hint("h")).hint.as_deref(), Some("h"));
    }
}
