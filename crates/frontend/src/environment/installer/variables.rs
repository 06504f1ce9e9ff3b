//! Variables of the user: those that do not reach an installer, and their values.

use std::process::Command;

use crate::environment::settings::EnvironmentSettings;

/// Variables that are removed for an installer: they would install to another place,
/// leave something out, hide messages, or change how bytecode is written.
pub(super) const REMOVED: [&str; 51] = [
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "PIP_ABI",
    "PIP_BREAK_SYSTEM_PACKAGES",
    // pip sets it for the builds that it starts; it would be that of an outer pip.
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
    // It makes Python write bytecode that is checked by content at each import.
    "SOURCE_DATE_EPOCH",
    "UV_BREAK_SYSTEM_PACKAGES",
    "UV_COMPILE_BYTECODE",
    // They constrain the run-time requirements of a project.
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

/// Removes [`REMOVED`] from the variables that `command` inherits.
pub(in crate::environment) fn remove_variables(command: &mut Command) {
    for name in REMOVED {
        command.env_remove(name);
    }
}

/// Whether a variable is set to a yes.
pub(super) fn says_yes(settings: &EnvironmentSettings, name: &str) -> bool {
    settings.text_variable(name).is_some_and(|value| is_yes(&value))
}

/// Whether a value is a yes or a no, as both installers understand it.
pub(super) fn is_yes_or_no(value: &str) -> bool {
    is_yes(value) || matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off" | "f" | "n")
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on" | "t" | "y")
}
