//! Environment variables that distinguish templates: those that an interpreter
//! reads when it starts, and those that modules have read when they were imported.
//! Decisions only.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use crate::caller::Variables;

/// What the interpreter, `site`, the C library and the libraries of the standard
/// library's modules read by themselves: nobody can see that they do.
const AT_START: &[&str] = &[
    // The folder of the user's packages.
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOCPATH",
    "GCONV_PATH",
    "TZ",
    "TZDIR",
    "GLIBC_TUNABLES",
    // Its reader is a line of `distutils-precedence.pth`.
    "SETUPTOOLS_USE_DISTUTILS",
    "__PYVENV_LAUNCHER__",
];

const AT_START_PREFIXES: &[&str] =
    &["PYTHON", "PYPY", "LD_", "DYLD_", "LC_", "MALLOC_", "MIMALLOC_", "OPENSSL_", "LIBFFI_"];

fn is_read_at_start(name: &OsStr) -> bool {
    let name = name.as_bytes();
    AT_START.iter().any(|read| read.as_bytes() == name)
        || AT_START_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// The variables that a template's interpreter is started with: all others are set
/// later, as they belong to one of many callers, and `/proc/PID/environ` of all
/// workers shows what the interpreter was started with.
pub(crate) fn read_at_start(variables: &Variables) -> Variables {
    entries_at_start(variables).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn entries_at_start(variables: &Variables) -> impl Iterator<Item = (&OsString, &OsString)> {
    variables.iter().filter(|(name, _)| is_read_at_start(name))
}

/// The variables that modules were seen to read when they were imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadVariables {
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// Every variable may have been read.
    #[serde(default)]
    pub all: bool,
}

impl ReadVariables {
    const MOST: usize = 1000;

    /// Adds others. Returns whether there are more than before.
    pub fn add(&mut self, others: &Self) -> bool {
        let before = (self.names.len(), self.all);
        self.all |= others.all;
        self.names.extend(others.names.iter().cloned());
        self.all |= self.names.len() > Self::MOST;
        before != (self.names.len(), self.all)
    }

    /// Whether a template that was started with `one` is as one that was started
    /// with `other`.
    pub fn are_equal(&self, one: &Variables, other: &Variables) -> bool {
        // First what is cheap, and true most of the time.
        if one == other || self.all {
            return one == other;
        }
        self.names.iter().all(|name| one.get(OsStr::new(name)) == other.get(OsStr::new(name)))
            && entries_at_start(one).eq(entries_at_start(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn variables_that_nobody_read_may_differ() {
        let read = |names: &[&str], all| ReadVariables { names: names.iter().map(|&name| name.into()).collect(), all };
        let common = variables(&[("PATH", "/bin"), ("LANG", "C"), ("RUN", "1"), ("MODE", "x")]);
        for (other, names, all, expected) in [
            (&[("RUN", "2")][..], &["MODE"][..], false, true),
            (&[("NEW", "2")], &["MODE"], false, true),
            (&[("RUN", "2")], &["RUN"], false, false),
            (&[("RUN", "2")], &[], true, false),
            (&[("RUN", "1")], &[], true, true),
            (&[("NEW", "2")], &["NEW"], false, false),
            (&[("LANG", "de_DE.UTF-8")], &[], false, false),
            (&[("TZ", "UTC")], &[], false, false),
            (&[("PYTHONHASHSEED", "0")], &[], false, false),
            (&[("LC_ALL", "C")], &[], false, false),
            (&[("LANGUAGES", "2")], &[], false, true),
        ] {
            let mut changed = common.clone();
            changed.extend(variables(other));
            let read = read(names, all);
            assert_eq!(read.are_equal(&common, &changed), expected, "{other:?} {names:?} {all}");
            assert_eq!(read.are_equal(&changed, &common), expected, "{other:?} {names:?} {all}");
        }
    }

    #[test]
    fn a_template_starts_with_what_is_read_at_its_start() {
        let started = read_at_start(&variables(&[("TOKEN", "secret"), ("PYTHONUTF8", "1"), ("PATH", "/bin")]));
        assert_eq!(started, variables(&[("PYTHONUTF8", "1")]));
    }

    #[test]
    fn more_than_before_is_news() {
        let mut read = ReadVariables::default();
        let one = ReadVariables { names: ["A".to_owned()].into(), all: false };
        assert!(read.add(&one) && !read.add(&one));
        assert!(read.add(&ReadVariables { names: BTreeSet::new(), all: true }));
    }
}
