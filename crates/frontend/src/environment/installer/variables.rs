//! Which variables of the user reach an installer.

use std::process::Command;

/// They would lead what is installed elsewhere, leave something out, hide what
/// is said, or have the bytecode written otherwise.
pub(super) const REMOVED: [&str; 51] = [
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "PIP_ABI",
    "PIP_BREAK_SYSTEM_PACKAGES",
    // pip sets it for the builds that it starts; one of an outer pip is not ours.
    "PIP_BUILD_TRACKER",
    "PIP_DRY_RUN",
    "PIP_EDITABLE",
    "PIP_GROUP",
    "PIP_IMPLEMENTATION",
    "PIP_NO_BUILD_ISOLATION",
    "PIP_NO_COMPILE",
    "PIP_NO_DEPS",
    "PIP_NO_DEPENDENCIES",
    "PIP_PLATFORM",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_QUIET",
    "PIP_REPORT",
    "PIP_REQUIREMENT",
    "PIP_REQUIRE_HASHES",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_SRC",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    // It has Python write bytecode that is checked by content at each import.
    "SOURCE_DATE_EPOCH",
    "UV_BREAK_SYSTEM_PACKAGES",
    "UV_COMPILE_BYTECODE",
    // What a project needs when it runs is constrained by these.
    "UV_CONSTRAINT",
    "UV_EXCLUDE",
    "UV_OVERRIDE",
    "UV_LINK_MODE",
    "UV_NO_BUILD_ISOLATION",
    "UV_NO_MANAGED_PYTHON",
    "UV_MANAGED_PYTHON",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_PYTHON_PREFERENCE",
    "UV_REQUIRE_HASHES",
    "UV_SYSTEM_PYTHON",
    "UV_WORKING_DIR",
    "UV_WORKING_DIRECTORY",
    "VIRTUAL_ENV",
];

/// Gives `command` the variables of this process but for those.
pub(super) fn clean(command: &mut Command) {
    for name in REMOVED {
        command.env_remove(name);
    }
}

/// Whether a variable says yes.
pub(super) fn says_yes(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| is_yes(&value))
}

/// Whether a value is one of the words for it.
pub(super) fn is_yes_or_no(value: &str) -> bool {
    is_yes(value) || matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off" | "f" | "n")
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on" | "t" | "y")
}
