//! What belongs to the key of an environment, beside its requirements and its
//! interpreter.
//!
//! | part | belongs to the key |
//! |---|---|
//! | settings of the installer that runs, from its variables (`PIP_*`, `UV_*`) and its files | all but those that cannot change what is installed ([`SETTINGS_THAT_DO_NOT`]): unknown settings do |
//! | constraints that apply to build environments | their contents, wherever they are named |
//! | distributions in folders of this machine | names, sizes and times ([`LocalPlaces`](super::local_places::LocalPlaces)) |
//! | variables that builds of requirements read | the known ones ([`BUILD_VARIABLES`], [`BUILD_FAMILIES`]) |
//! | all other variables (`PATH`, `HOME`, the job numbers of CI systems) | no: they differ from one job to the next, and no environment would ever be found again |
//! | variables that do not reach the installer ([`REMOVED`]) | no |
//! | credentials | whether there are any, but not which: tokens are new in each job |
//!
//! A setting too many costs time, a setting too few gives a wrong environment.

use super::variables::REMOVED;
use crate::environment::settings::InstallerKind;

/// Settings of pip and uv, by their names in files, that do not change what is
/// installed: how the network is reached, what is shown, where caches are. With
/// `offline`, environments are found that were made with a network.
const SETTINGS_THAT_DO_NOT: [&str; 50] = [
    "allow-insecure-host",
    "cache-dir",
    "cert",
    "client-cert",
    "color",
    "compile-bytecode",
    "config-file",
    "credentials-dir",
    "debug",
    "default-timeout",
    "disable-pip-version-check",
    "env-file",
    "exists-action",
    "hide-build-output",
    "insecure-host",
    "insecure-no-zip-validation",
    "keyring-provider",
    "link-mode",
    "lock-timeout",
    "log",
    "log-context",
    "log-file",
    "native-tls",
    "no-cache",
    "no-cache-dir",
    "no-color",
    "no-env-file",
    "no-input",
    "no-progress",
    "no-proxy",
    "no-python-version-warning",
    "no-warn-conflicts",
    "no-warn-script-location",
    "no-wrap",
    "offline",
    "progress-bar",
    "proxy",
    "python-downloads",
    "quiet",
    "request-timeout",
    "resume-retries",
    "retries",
    "root-user-action",
    "stack-size",
    "system-certs",
    "timeout",
    "trusted-host",
    "trusted-publishing",
    "upload-http-timeout",
    "verbose",
];

/// Settings of constraints. The contents of the files that they name are a part of
/// their own ([`Constraints`](super::constraints::Constraints)).
const CONSTRAINTS: [&str; 6] = [
    "build-constraint",
    "build-constraint-dependencies",
    "constraint",
    "constraint-dependencies",
    "exclude-dependencies",
    "override-dependencies",
];

/// Prefixes of settings that do not change what is installed.
const FAMILIES_THAT_DO_NOT: [&str; 9] =
    ["concurrent-", "http-", "https-", "internal--", "publish-", "python-cache-", "python-install-", "show-", "tool-"];

/// Endings of settings that are credentials, for example `UV_INDEX_NAME_PASSWORD`.
const CREDENTIALS: [&str; 3] = ["-username", "-password", "-token"];

/// Variables that make an interpreter say that it is for another platform.
///
/// uv does not get them: its cache keeps what an interpreter says by the path of
/// the interpreter alone, and would give it to other runs too, without the
/// variables.
pub(super) const OF_THE_PLATFORM: [&str; 4] =
    ["_PYTHON_HOST_PLATFORM", "_PYTHON_PROJECT_BASE", "_PYTHON_SYSCONFIGDATA_NAME", "_PYTHON_SYSCONFIGDATA_PATH"];

/// Other variables that builds read.
const BUILD_VARIABLES: [&str; 48] = [
    // The target platform.
    "ARCHFLAGS",
    "DEVELOPER_DIR",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
    // Compilers and linkers, and their options.
    "AR",
    "ARFLAGS",
    "AS",
    "BASECFLAGS",
    "CC",
    "CCSHARED",
    "CFLAGS",
    "CPATH",
    "CPP",
    "CPPFLAGS",
    "CPLUS_INCLUDE_PATH",
    "CXX",
    "CXXFLAGS",
    "C_INCLUDE_PATH",
    "F77",
    "F90",
    "FC",
    "FCFLAGS",
    "FFLAGS",
    "LD",
    "LDCXXSHARED",
    "LDFLAGS",
    "LDSHARED",
    "LIBRARY_PATH",
    "NM",
    "OPT",
    "RANLIB",
    "STRIP",
    "PKG_CONFIG",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_SYSROOT_DIR",
    // Rust.
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    // Single projects and build backends.
    "AUDITWHEEL_PLAT",
    "CIBUILDWHEEL",
    "CUDA_HOME",
    "CUDA_PATH",
    "DISTUTILS_USE_SDK",
    "PBR_VERSION",
];

/// Prefixes of variables that builds read.
const BUILD_FAMILIES: [&str; 16] = [
    "CARGO_BUILD_",
    "CARGO_FEATURE_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CMAKE_",
    "CYTHON_",
    "HATCH_",
    "MATURIN_",
    "MESON_",
    "NPY_",
    "PDM_BUILD_",
    "POETRY_DYNAMIC_VERSIONING_",
    "PYO3_",
    "SETUPTOOLS_",
    "SKBUILD_",
    "VCS_VERSIONING_",
];

/// Exceptions from these prefixes: how fast a build goes, and what it shows.
const BUILD_VARIABLES_THAT_DO_NOT: [&str; 4] =
    ["CARGO_BUILD_JOBS", "CARGO_TARGET_DIR", "CMAKE_BUILD_PARALLEL_LEVEL", "CMAKE_COLOR_DIAGNOSTICS"];

/// Whether a setting, by its name in the installer's files, may change what is
/// installed.
pub(super) fn setting_decides(name: &str) -> bool {
    let is_credential = CREDENTIALS.iter().any(|end| name.ends_with(end));
    let is_of_family = FAMILIES_THAT_DO_NOT.iter().any(|family| name.starts_with(family));
    !is_credential && !is_of_family && !SETTINGS_THAT_DO_NOT.contains(&name) && !CONSTRAINTS.contains(&name)
}

/// The name in the installer's files of the setting that a variable is for; `None`
/// if the variable is for something else.
pub(super) fn setting_of(installer: InstallerKind, variable: &str) -> Option<String> {
    let prefix = match installer {
        InstallerKind::Pip => "PIP_",
        InstallerKind::Uv => "UV_",
    };
    Some(variable.strip_prefix(prefix)?.to_ascii_lowercase().replace('_', "-"))
}

/// Whether builds of requirements may read a variable.
pub(super) fn is_read_by_builds(installer: InstallerKind, variable: &str) -> bool {
    let is_of_platform = installer == InstallerKind::Pip && OF_THE_PLATFORM.contains(&variable);
    let is_of_family = BUILD_FAMILIES.iter().any(|family| variable.starts_with(family));
    (is_of_platform || BUILD_VARIABLES.contains(&variable) || is_of_family)
        && !BUILD_VARIABLES_THAT_DO_NOT.contains(&variable)
        && !REMOVED.contains(&variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a variable belongs to the key.
    fn decides(installer: InstallerKind, variable: &str) -> bool {
        match setting_of(installer, variable) {
            Some(setting) => setting_decides(&setting) && !REMOVED.contains(&variable),
            None => is_read_by_builds(installer, variable),
        }
    }

    #[test]
    fn variables_that_belong_to_the_key() {
        use InstallerKind::{Pip, Uv};
        for (variable, by_pip, by_uv) in [
            ("_PYTHON_HOST_PLATFORM", true, false),
            ("CFLAGS", true, true),
            ("CC", true, true),
            ("ARCHFLAGS", true, true),
            ("MACOSX_DEPLOYMENT_TARGET", true, true),
            ("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_X", true, true),
            ("CMAKE_ARGS", true, true),
            ("CARGO_BUILD_TARGET", true, true),
            ("PYO3_USE_ABI3_FORWARD_COMPATIBILITY", true, true),
            ("PIP_INDEX_URL", true, false),
            ("PIP_NO_BINARY", true, false),
            ("PIP_UPLOADED_PRIOR_TO", true, false),
            ("PIP_A_SETTING_OF_TOMORROW", true, false),
            ("UV_DEFAULT_INDEX", false, true),
            ("UV_EXCLUDE_NEWER", false, true),
            ("UV_NO_BUILD", false, true),
            // They change how something is installed, not what.
            ("PIP_TIMEOUT", false, false),
            ("PIP_CACHE_DIR", false, false),
            ("UV_CACHE_DIR", false, false),
            ("UV_CONCURRENT_DOWNLOADS", false, false),
            ("UV_HTTP_TIMEOUT", false, false),
            ("UV_OFFLINE", false, false),
            ("UV_PUBLISH_TOKEN", false, false),
            ("CMAKE_BUILD_PARALLEL_LEVEL", false, false),
            ("CARGO_BUILD_JOBS", false, false),
            // The contents of the files belong to it, if the constraints apply.
            ("PIP_CONSTRAINT", false, false),
            ("UV_BUILD_CONSTRAINT", false, false),
            ("UV_OVERRIDE", false, false),
            // Credentials.
            ("UV_INDEX_INTERNAL_PASSWORD", false, false),
            ("UV_INDEX_INTERNAL_USERNAME", false, false),
            // They do not reach the installer.
            ("PIP_TARGET", false, false),
            ("UV_PYTHON", false, false),
            ("SOURCE_DATE_EPOCH", false, false),
            // They differ in each job.
            ("PATH", false, false),
            ("HOME", false, false),
            ("PWD", false, false),
            ("TMPDIR", false, false),
            ("GITHUB_RUN_ID", false, false),
            ("CI_JOB_TOKEN", false, false),
            ("MAKEFLAGS", false, false),
            ("PYTHONHASHSEED", false, false),
        ] {
            assert_eq!((decides(Pip, variable), decides(Uv, variable)), (by_pip, by_uv), "{variable}");
        }
    }
}
