//! What is installed in an environment, read from its `.dist-info` folders.
//!
//! The content id is the same for the same distributions, whichever installer
//! unpacked them: what installers add of their own is left out.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep508_rs::PackageName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::metadata::name_and_version;

/// An installed distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Distribution {
    /// Its name, normalised: lower case, `-` for runs of `-`, `_` and `.`.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// The digest of its files, as its RECORD lists them.
    pub digest: String,
}

/// The distributions in the environment, in order.
pub(super) fn installed(environment: &Path) -> io::Result<Vec<Distribution>> {
    let mut found = Vec::new();
    for folder in site_packages(environment)? {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "dist-info") {
                found.push(distribution(&path)?);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `lib/python3.11/site-packages`; `lib64` is a link to `lib`.
fn site_packages(environment: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in environment.join("lib").read_dir()? {
        let folder = entry?.path().join("site-packages");
        if folder.is_dir() {
            folders.push(folder);
        }
    }
    Ok(folders)
}

fn distribution(folder: &Path) -> io::Result<Distribution> {
    let metadata = String::from_utf8_lossy(&std::fs::read(folder.join("METADATA"))?).into_owned();
    let Some((name, version)) = name_and_version(&metadata) else {
        return Err(io::Error::other(format!("{}: METADATA without a name or a version", folder.display())));
    };
    // As installers take it, too: what they have installed is not ours to judge.
    let name = PackageName::from_str(&name).map_or(name, |name| name.to_string());
    let digest = match std::fs::read(folder.join("RECORD")) {
        Ok(record) => record_digest(&String::from_utf8_lossy(&record)),
        // Optional, as long as nobody wants to uninstall it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => digest([metadata.as_str()]),
        Err(error) => return Err(error),
    };
    Ok(Distribution { name, version, digest })
}

/// The digest of the lines that do not depend on the installer.
fn record_digest(record: &str) -> String {
    let mut lines: Vec<&str> = record.lines().map(str::trim).filter(|line| counts(line)).collect();
    lines.sort_unstable();
    digest(lines)
}

/// Whether a line of a RECORD counts: a path, a hash, a size; a path with a
/// comma or a quotation mark is in quotation marks.
fn counts(line: &str) -> bool {
    const INSTALLERS_OWN: [&str; 6] =
        ["INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"];
    let path = match line.strip_prefix('"') {
        Some(quoted) => quoted.split("\",").next().unwrap_or(quoted),
        None => line.split(',').next().unwrap_or(line),
    };
    let mut parts = path.rsplit('/');
    let (file, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_installers_own = parent.ends_with(".dist-info") && INSTALLERS_OWN.contains(&file);
    // Scripts are generated, or have their first line rewritten.
    let is_outside = path.starts_with("..") || path.starts_with('/');
    !path.is_empty() && !is_installers_own && !is_outside && !file.ends_with(".pyc")
}

/// What an environment of this interpreter with these distributions is known
/// by.
pub(super) fn content_id(interpreter: &str, installed: &[Distribution]) -> String {
    let distributions = installed.iter().flat_map(|distribution| {
        [distribution.name.as_str(), distribution.version.as_str(), distribution.digest.as_str()]
    });
    digest(std::iter::once(interpreter).chain(distributions))
}

/// A digest of texts, in which none can run into the next.
pub(super) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_installers_add_does_not_count() {
        let by_pip = "a/__init__.py,sha256=x,3\na/__pycache__/__init__.cpython-311.pyc,,\n../../../bin/a,sha256=p,200\n\
                      a-1.dist-info/INSTALLER,sha256=pip,4\r\na-1.dist-info/METADATA,sha256=m,9\na-1.dist-info/RECORD,,\n";
        let by_uv = "a-1.dist-info/INSTALLER,sha256=uv,2\na-1.dist-info/METADATA,sha256=m,9\na-1.dist-info/RECORD,,\n\
                     a-1.dist-info/REQUESTED,sha256=e,0\na/__init__.py,sha256=x,3\n../../../bin/a,sha256=u,300\n";
        assert_eq!(record_digest(by_pip), record_digest(by_uv));
        assert_ne!(record_digest(by_uv), record_digest(&by_uv.replace("sha256=x", "sha256=y")));
        assert!(counts("\"a,b/RECORD\",sha256=x,1") && counts("a/INSTALLER,sha256=x,1"));
    }
}
