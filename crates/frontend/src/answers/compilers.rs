//! What identifies the compilers and tools that build compiled code.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::variables::EnvironmentVariables;

/// Variables that name a program.
const VARIABLES: &[&str] =
    &["CC", "CXX", "CPP", "FC", "F77", "F90", "LD", "LDSHARED", "AR", "AS", "RANLIB", "NVCC", "RUSTC", "CARGO"];

/// Programs that builds start by these names.
const PROGRAMS: &[&str] = &[
    "cc",
    "c++",
    "gcc",
    "g++",
    "clang",
    "clang++",
    "ld",
    "as",
    "ar",
    "gfortran",
    "rustc",
    "cargo",
    "go",
    "cmake",
    "ninja",
    "make",
    "meson",
    "pkg-config",
    "swig",
    "nvcc",
];

/// Databases of what the system's packages have installed: headers and libraries
/// among others.
const PACKAGES: &[&str] = &["/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/lib/apk/db/installed"];

/// A digest of the compilers that hooks with these variables find, and of the system's
/// packages. A compiler that was replaced has another size or time; which toolchain
/// `rustup` selects is in its settings. Blocks.
pub(super) fn identity(variables: &EnvironmentVariables) -> String {
    let path = variables.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let named = VARIABLES.iter().filter_map(|name| variables.get(OsStr::new(name)));
    let first_words = named.filter_map(|command| {
        let word = command.as_bytes().split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
        Some(OsStr::from_bytes(word).to_owned())
    });
    let programs = PROGRAMS.iter().map(OsString::from).chain(first_words);
    let found = programs.filter_map(|program| which::which_in(&program, Some(&path), "/").ok());
    let home = variables
        .get(OsStr::new("RUSTUP_HOME"))
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(variables.get(OsStr::new("HOME"))?).join(".rustup")));
    let files =
        found.chain(PACKAGES.iter().map(PathBuf::from)).chain(home.into_iter().map(|home| home.join("settings.toml")));
    let parts: Vec<Vec<u8>> = files.map(|file| stamp(&file)).collect();
    Digest::of_list(parts.iter().map(Vec::as_slice)).to_string()
}

fn stamp(path: &Path) -> Vec<u8> {
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let mut stamp = path.as_os_str().as_bytes().to_vec();
    if let Ok(metadata) = path.metadata() {
        let (size, seconds, nanoseconds) = (metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        stamp.extend(format!(" {size} {seconds}.{nanoseconds:09}").into_bytes());
    }
    stamp
}
