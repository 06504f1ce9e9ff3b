//! Hints for failed hooks, from their error messages and output.

use hookpool_supervisor::{ErrorKind, HookError, Setting};

/// A hint, and the setting that it mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub text: String,
    pub setting: Option<Setting>,
}

/// A hint for a line that contains `sign`.
struct KnownFailure {
    sign: &'static str,
    hint: &'static str,
}

const COMPILER: &str = "a compiler is missing: install a C compiler (gcc or clang), or name yours in the variable CC";
const RUST: &str = "the project needs Rust: install rustc and cargo";
/// For hooks that download. Failures of installers have hints of their own.
const DOWNLOADS: &str = "the build itself downloads something, and there is no network: see the log for what it is, and provide it beforehand";

const KNOWN: &[KnownFailure] = &[
    KnownFailure { sign: "' failed: No such file or directory", hint: COMPILER },
    KnownFailure { sign: "Unknown compiler(s)", hint: COMPILER },
    KnownFailure { sign: "cannot find -l", hint: "a library to link with is missing: install its development package" },
    KnownFailure { sign: "can't find Rust compiler", hint: RUST },
    KnownFailure { sign: "Cargo, the Rust package manager, is not installed or is not on PATH", hint: RUST },
    KnownFailure {
        sign: "CMake must be installed",
        hint: "the project needs CMake: install it, or add cmake to build-system.requires",
    },
    KnownFailure {
        sign: "setuptools-scm was unable to detect version",
        hint: "the version comes from git tags: build from a clone with its history, or set SETUPTOOLS_SCM_PRETEND_VERSION",
    },
    KnownFailure {
        sign: "No space left on device",
        hint: "a disk is full: free some space, or set TMPDIR to a folder on another disk",
    },
    KnownFailure {
        sign: "ZIP does not support timestamps before 1980",
        hint: "files of the source have times that a wheel cannot hold: set SOURCE_DATE_EPOCH=315532800 (1980-01-01) \
               or later, or give the files another time",
    },
    KnownFailure { sign: "Temporary failure in name resolution", hint: DOWNLOADS },
    KnownFailure { sign: "Could not resolve host", hint: DOWNLOADS },
    KnownFailure { sign: "Network is unreachable", hint: DOWNLOADS },
];

/// Headers that older versions of CPython have beside `Python.h`, and newer ones do not have,
/// or elsewhere. Without headers whose names other libraries use too.
const PRIVATE_HEADERS: &[&str] = &[
    "Python-ast.h",
    "accu.h",
    "asdl.h",
    "bytes_methods.h",
    "cellobject.h",
    "classobject.h",
    "funcobject.h",
    "genobject.h",
    "graminit.h",
    "interpreteridobject.h",
    "longintrepr.h",
    "metagrammar.h",
    "namespaceobject.h",
    "odictobject.h",
    "parsetok.h",
    "pgenheaders.h",
    "picklebufobject.h",
    "pyarena.h",
    "pyctype.h",
    "pydebug.h",
    "pyfpe.h",
    "pystrhex.h",
    "pytime.h",
    "ucnhash.h",
];

/// The number of last lines of an output that may explain the failure.
const LAST_LINES: usize = 60;

/// A hint for a failure. `outputs` is the output of the hook, `isolated` whether it ran in a
/// build environment.
///
/// The message comes first, because it is the reason. The output counts only if the message
/// just says that a program failed, or that the hook's process ended; then the last line with
/// a known sign counts.
pub(crate) fn for_failure(error: &HookError, outputs: &[String], isolated: bool) -> Option<Hint> {
    let of_message = error.message.lines().find_map(|line| for_line(line, missing_module(line), isolated));
    of_message.or_else(|| {
        let relevant = ends_with_a_program(error).then_some(outputs)?;
        relevant.iter().find_map(|output| {
            // Only at the end of a traceback: programs also print it in passing.
            let raised = |line: &str| line.trim_start().starts_with("ModuleNotFoundError: ");
            let module = |line| missing_module(line).filter(|_| raised(line));
            output.lines().rev().take(LAST_LINES).find_map(|line| for_line(line, module(line), isolated))
        })
    })
}

fn ends_with_a_program(error: &HookError) -> bool {
    const SIGNS: &[&str] = &["exit status", "exit code", "ompil"];
    let exits_with_a_number = |text: &str| {
        let code = text.split_once("called sys.exit(").map(|(_, code)| code);
        code.is_some_and(|code| code.starts_with(|first: char| first.is_ascii_digit() || first == '-'))
    };
    error.kind == ErrorKind::HookCrashed
        || SIGNS.iter().any(|sign| error.message.contains(sign))
        || exits_with_a_number(&error.message)
}

fn for_line(line: &str, module: Option<&str>, isolated: bool) -> Option<Hint> {
    let plain = |text: String| Hint { text, setting: None };
    if let Some(module) = module {
        return Some(for_module(module, isolated));
    }
    if let Some(header) = missing_header(line) {
        return Some(plain(for_header(header)));
    }
    let known = KNOWN.iter().find(|known| line.contains(known.sign))?;
    Some(plain(known.hint.to_owned()))
}

/// The module that could not be imported.
fn missing_module(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("No module named '")?;
    let (module, _) = rest.split_once('\'')?;
    let is_name = |text: &str| text.chars().all(|character| character.is_alphanumeric() || "._".contains(character));
    (!module.is_empty() && is_name(module)).then_some(module)
}

fn for_module(module: &str, isolated: bool) -> Hint {
    let (advice, setting) = match (module.split('.').next().unwrap_or(module), isolated) {
        ("distutils", _) => {
            ("Python 3.12 and newer have no distutils: setuptools brings one, an older interpreter has it", None)
        }
        ("pkg_resources", true) => (
            "newer setuptools have no pkg_resources: bound it (setuptools<82) in build-system.requires, \
             or, if the project is not yours, in a file of constraints",
            Some(Setting::BuildConstraint),
        ),
        ("pkg_resources", false) => ("newer setuptools have no pkg_resources: install setuptools<82", None),
        (_, true) => (
            "add the distribution that contains it to build-system.requires, \
             or, if the project is not yours, build in an environment of your own that has it",
            Some(Setting::BuildIsolation),
        ),
        (_, false) => ("install the distribution that contains it", None),
    };
    Hint { text: format!("the build imports {module}, which is not in its environment: {advice}"), setting }
}

/// The header that GCC or Clang did not find.
fn missing_header(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("fatal error: ")?;
    let header = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split_once("' file not found")?.0,
        None => rest.split_once(": No such file or directory")?.0,
    };
    (!header.is_empty()).then_some(header)
}

fn for_header(header: &str) -> String {
    let name = header.rsplit('/').next().unwrap_or(header);
    if name == "Python.h" {
        return "the headers of Python are missing: install the development package of the interpreter \
                (python3-dev, python3-devel)"
            .to_owned();
    }
    if PRIVATE_HEADERS.contains(&name) || name.starts_with("pycore_") {
        return format!(
            "{header} belongs to CPython's own implementation, and this version of Python does not have it: \
             build with an older interpreter, or build a newer version of the project"
        );
    }
    format!("the header {header} is missing: install the development package of the library that it belongs to")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(message: &str, output: &str) -> String {
        let error = HookError::new(ErrorKind::HookRuntimeError, message);
        for_failure(&error, &[output.to_owned()], true).map(|hint| hint.text).unwrap_or_default()
    }

    #[test]
    fn known_failures() {
        let missing = "ModuleNotFoundError: No module named 'numpy.distutils'";
        assert!(hint(missing, "").contains("numpy.distutils"));
        assert!(hint("ModuleNotFoundError: No module named 'pkg_resources'", "").contains("setuptools<82"));
        let compiler = "CompileError: command 'gcc' failed with exit code 1";
        for (line, expected) in [
            ("x.c:1:10: fatal error: Python.h: No such file or directory", "headers of Python"),
            ("x.c:1:10: fatal error: ffi.h: No such file or directory", "the header ffi.h"),
            ("x.c:1:10: fatal error: 'sys/ffi.h' file not found", "the header sys/ffi.h"),
            ("x.inc:78:10: fatal error: pystrhex.h: No such file or directory", "CPython's own implementation"),
            ("x.c:1:1: fatal error: internal/pycore_frame.h: No such file or directory", "CPython's own"),
            ("/usr/bin/ld: cannot find -lssl: No such file or directory", "library to link with"),
            ("fatal: unable to access 'x': Could not resolve host: x", "build itself"),
        ] {
            assert!(hint(compiler, &format!("{line}\ncompilation terminated.\n")).contains(expected), "{line}");
        }
        let no_compiler = r#"the hook called sys.exit("error: command 'gcc' failed: No such file or directory")"#;
        assert!(hint(no_compiler, "").contains("compiler"));
        assert!(hint("ValueError: ZIP does not support timestamps before 1980", "").contains("SOURCE_DATE_EPOCH"));
        assert_eq!(hint("KeyError: 'x'", "error: something else"), "");
        assert_eq!(hint("No module named '", ""), "");
    }

    #[test]
    fn only_the_reason_of_a_failure_counts() {
        let passing = "No module named 'numpy', building without\nModuleNotFoundError: No module named 'numpy'";
        for (message, output, expected) in [
            // The exception itself gives the reason.
            ("KeyError: 'version'", passing, ""),
            ("KeyError: 'version'", "x.c:1:1: fatal error: ffi.h: No such file or directory", ""),
            (r#"the hook called sys.exit("set the version")"#, passing, ""),
            // The reason is at the end of a program's output.
            ("the hook called sys.exit(1)", "No module named 'numpy', building without", ""),
            ("the hook called sys.exit(1)", passing, "numpy"),
            ("the hook called sys.exit(1)", &format!("{passing}{}", "\nx".repeat(60)), ""),
            (
                "CalledProcessError: Command 'make' returned non-zero exit status 2.",
                &format!("{passing}\nx.c:1:1: fatal error: ffi.h: No such file or directory"),
                "ffi.h",
            ),
            // The exception itself counts, and not its context.
            (
                "ModuleNotFoundError: No module named 'tomli'\nwhile handling ModuleNotFoundError: No module named 'tomllib'",
                "",
                "tomli,",
            ),
        ] {
            let hint = hint(message, output);
            assert!(if expected.is_empty() { hint.is_empty() } else { hint.contains(expected) }, "{message}: {hint}");
        }
    }

    #[test]
    fn a_hint_can_be_followed() {
        let of = |module, isolated| for_module(module, isolated);
        assert_eq!(of("pkg_resources", true).setting, Some(Setting::BuildConstraint));
        assert_eq!(of("numpy", true).setting, Some(Setting::BuildIsolation));
        assert!(!of("numpy", false).text.contains("build-system.requires"));
        assert!(!of("pkg_resources", false).text.contains("build-system.requires"));
    }
}
