//! What might help, as far as the output of hooks tells.

/// A hint for output that has one of these in it.
struct Known {
    /// All of these, in any order.
    signs: &'static [&'static str],
    hint: &'static str,
}

/// Not of the installer, whose failures have hints of their own.
const DOWNLOADS: &str =
    "the build itself downloads something, and there is no network: the log tells what; provide that beforehand";

const KNOWN: &[Known] = &[
    Known {
        signs: &["Python.h", "No such file or directory"],
        hint: "the headers of Python are missing: install the development package of the interpreter (python3-dev, python3-devel)",
    },
    Known {
        signs: &["fatal error:", ": No such file or directory"],
        hint: "a header of a C library is missing: install the development package of that library",
    },
    Known {
        signs: &["error: command '", "' failed: No such file or directory"],
        hint: "a compiler is missing: install a C compiler (gcc or clang), or name yours in the variable CC",
    },
    Known {
        signs: &["Unknown compiler(s)"],
        hint: "a compiler is missing: install a C compiler (gcc or clang), or name yours in the variable CC",
    },
    Known { signs: &["cannot find -l"], hint: "a library to link with is missing: install its development package" },
    Known { signs: &["can't find Rust compiler"], hint: "the project needs Rust: install rustc and cargo" },
    Known {
        signs: &["Cargo, the Rust package manager, is not installed or is not on PATH"],
        hint: "the project needs Rust: install rustc and cargo",
    },
    Known {
        signs: &["CMake must be installed"],
        hint: "the project needs CMake: install it, or add cmake to build-system.requires",
    },
    Known {
        signs: &["setuptools-scm was unable to detect version"],
        hint: "the version comes from git tags: build from a clone with its history, or set SETUPTOOLS_SCM_PRETEND_VERSION",
    },
    Known {
        signs: &["No space left on device"],
        hint: "a disk is full: free some space, or set TMPDIR to a folder on another disk",
    },
    Known { signs: &["Temporary failure in name resolution"], hint: DOWNLOADS },
    Known { signs: &["Could not resolve host"], hint: DOWNLOADS },
    Known { signs: &["Network is unreachable"], hint: DOWNLOADS },
];

/// What might help with a failure that wrote this.
pub(crate) fn for_output(output: &str) -> Option<String> {
    missing_module(output).or_else(|| {
        let known = KNOWN.iter().find(|known| known.signs.iter().all(|sign| output.contains(sign)))?;
        Some(known.hint.to_owned())
    })
}

/// A module that the build imports and its requirements do not bring.
fn missing_module(output: &str) -> Option<String> {
    const SIGN: &str = "No module named '";
    let rest = &output[output.rfind(SIGN)? + SIGN.len()..];
    let module = rest.split('\'').next()?;
    let is_name = |text: &str| text.chars().all(|character| character.is_alphanumeric() || "._".contains(character));
    (!module.is_empty() && is_name(module)).then(|| {
        let package = module.split('.').next().unwrap_or(module);
        let advice = match package {
            "distutils" => {
                "Python 3.12 and newer have no distutils: setuptools brings one, an older interpreter has it"
            }
            "pkg_resources" => {
                "newer setuptools have no pkg_resources: bound it in build-system.requires (setuptools<82)"
            }
            _ => "add the distribution that has it to build-system.requires",
        };
        format!("the build imports {module}, which is not in its environment: {advice}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_that_are_known() {
        let hint = |output: &str| for_output(output).unwrap_or_default();
        assert!(hint("ModuleNotFoundError: No module named 'numpy.distutils'").contains("numpy.distutils"));
        assert!(hint("No module named 'pkg_resources'").contains("setuptools<82"));
        assert!(hint("x.c:1:10: fatal error: Python.h: No such file or directory").contains("headers of Python"));
        assert!(hint("x.c:1:10: fatal error: ffi.h: No such file or directory").contains("C library"));
        assert!(hint("error: command 'gcc' failed: No such file or directory").contains("compiler"));
        assert!(hint("fatal: unable to access 'x': Could not resolve host: x").contains("build itself"));
        assert_eq!(for_output("error: something else"), None);
        assert_eq!(for_output("No module named '"), None);
    }
}
