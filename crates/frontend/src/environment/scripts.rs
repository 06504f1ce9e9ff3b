//! Scripts that uv has made for one interpreter, given to another. Everything here
//! blocks, as files do.
//!
//! uv queries the interpreter that it installs for, which takes a process, and
//! remembers the answer by the interpreter's path. That of a new environment is a new
//! one. So uv installs for the interpreter that the environment is made from
//! (`--prefix`), which puts all files into the same places with the same contents,
//! except for the first lines of scripts.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::store::random_name;

/// Whether uv names this interpreter in the first line of a script as it is. A line
/// with spaces, or longer than what all kernels read, would have another form.
pub(super) fn fits_first_line(python: &Path) -> bool {
    /// In bytes. The limit is 127 with `#!` and the end of the line.
    const LONGEST: usize = 120;
    let python = python.as_os_str().as_bytes();
    python.len() <= LONGEST && !python.iter().any(u8::is_ascii_whitespace)
}

/// Makes the scripts in an environment that run with `from` run with `to`. False if
/// one runs with another Python, so that it cannot be told what it should run with.
pub(super) fn redirect(environment: &Path, from: &Path, to: &Path) -> io::Result<bool> {
    for entry in environment.join("bin").read_dir()? {
        let path = entry?.path();
        let found = path.symlink_metadata()?;
        if !found.is_file() || !begins_like_a_script(&path)? {
            continue;
        }
        let script = fs::read(&path)?;
        let (first, rest) = script.split_at(script.iter().position(|byte| *byte == b'\n').unwrap_or(script.len()));
        let interpreter = first[2..].trim_ascii();
        if interpreter != from.as_os_str().as_bytes() {
            if is_some_python(interpreter) && interpreter != to.as_os_str().as_bytes() {
                return Ok(false);
            }
            continue;
        }
        // A new file: the old one may be a hard link to uv's cache.
        let aside = path.with_file_name(format!(".{}", random_name()));
        fs::write(&aside, [b"#!", to.as_os_str().as_bytes(), rest].concat())?;
        fs::set_permissions(&aside, Permissions::from_mode(found.mode() & 0o777))?;
        fs::rename(&aside, &path)?;
    }
    Ok(true)
}

fn begins_like_a_script(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    fs::File::open(path)?.take(2).read_to_end(&mut begin)?;
    Ok(begin == b"#!")
}

/// `/usr/bin/python3 -E`, but not `/usr/bin/env python3`, which no installer writes.
fn is_some_python(interpreter: &[u8]) -> bool {
    let program = interpreter.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    [b"python".as_slice(), b"pypy", b"graalpy"].iter().any(|python| name.starts_with(python))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_the_interpreter_get_the_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let write = |name: &str, text: &[u8]| fs::write(bin.join(name), text).unwrap();
        write("tool", b"#!/base/python\nimport sys # /base/python\n");
        write("shell", b"#!/bin/sh\nexec /base/python\n");
        write("program", b"\x7fELF\xff");
        fs::set_permissions(bin.join("tool"), Permissions::from_mode(0o751)).unwrap();
        fs::hard_link(bin.join("tool"), folder.path().join("cached")).unwrap();
        std::os::unix::fs::symlink("/no/such/file", bin.join("python")).unwrap();
        let redirect = || redirect(folder.path(), Path::new("/base/python"), Path::new("/new/python")).unwrap();
        assert!(redirect());
        let read = |path: &str| fs::read(folder.path().join(path)).unwrap();
        assert_eq!(read("bin/tool"), b"#!/new/python\nimport sys # /base/python\n");
        assert_eq!(read("bin/shell"), b"#!/bin/sh\nexec /base/python\n");
        assert_eq!(bin.join("tool").metadata().unwrap().mode() & 0o777, 0o751);
        assert!(read("cached").starts_with(b"#!/base/python\n"), "uv's cache is as it was");
        for (first_line, is_known) in [
            ("#!/usr/bin/env python3", true),
            ("#!/usr/bin/perl", true),
            ("#!", true),
            ("#! /base/python ", true),
            ("#!/base/python3", false),
            ("#!/base/python -E", false),
        ] {
            write("other", first_line.as_bytes());
            assert_eq!(redirect(), is_known, "{first_line}");
        }
    }

    #[test]
    fn paths_that_uv_would_wrap_do_not_fit() {
        for (python, fits) in [
            ("/usr/bin/python3".to_owned(), true),
            ("/with space/python".to_owned(), false),
            (format!("/{}/python", "x".repeat(120)), false),
        ] {
            assert_eq!(fits_first_line(Path::new(&python)), fits, "{python}");
        }
    }
}
