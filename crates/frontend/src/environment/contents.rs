//! The content of an environment, read from its `.dist-info` folders.
//!
//! The content id is the same for the same distributions, whichever installer unpacked them:
//! files that installers add themselves do not count.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hookpool_supervisor::files::{Links, read_regular_file};
use pep508_rs::PackageName;
use serde::{Deserialize, Serialize};

use crate::files::{digest_of_list, short};
use crate::metadata::name_and_version;

/// An installed distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Distribution {
    /// The name, normalised: lower case, `-` for runs of `-`, `_` and `.`.
    pub name: String,
    /// The version, not normalised.
    pub version: String,
    /// The digest of its RECORD, which lists its files.
    pub digest: String,
}

/// The distributions in an environment, sorted.
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

/// For example `lib/python3.11/site-packages`; `lib64` is a link to `lib`.
pub(super) fn site_packages(environment: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in environment.join("lib").read_dir()? {
        let folder = entry?.path().join("site-packages");
        if folder.is_dir() {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// A distribution, by its `.dist-info` folder.
pub(super) fn distribution(folder: &Path) -> io::Result<Distribution> {
    let metadata = String::from_utf8_lossy(&read(&folder.join("METADATA"))?).into_owned();
    let Some((name, version)) = name_and_version(&metadata) else {
        return Err(io::Error::other(format!("{}: METADATA without a name or a version", folder.display())));
    };
    // A name that is invalid but was installed is accepted.
    let name = PackageName::from_str(&name).map_or(name, |name| name.to_string());
    let digest = match read(&folder.join("RECORD")) {
        Ok(record) => record_digest(&record, folder.parent().unwrap_or(folder))?,
        // RECORD is optional; it is needed to uninstall a distribution.
        Err(error) if error.kind() == io::ErrorKind::NotFound => digest([metadata.as_str()]),
        Err(error) => return Err(error),
    };
    Ok(Distribution { name, version, digest })
}

/// Reads a regular file with a limit: an installed distribution may contain anything.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LIMIT: u64 = 64 << 20;
    read_regular_file(path, Links::Follow, LIMIT)
}

/// The digest of the entries that do not depend on the installer. A hash is optional:
/// files without one are read.
fn record_digest(record: &[u8], packages: &Path) -> io::Result<String> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(record);
    let mut entries = Vec::new();
    for entry in reader.byte_records() {
        let entry = entry.map_err(io::Error::other)?;
        let field = |index| String::from_utf8_lossy(entry.get(index).unwrap_or_default());
        let (path, hash, size) = (field(0), field(1), field(2));
        if !counts(&path) {
            continue;
        }
        let content = if hash.is_empty() { content(&packages.join(&*path))? } else { None };
        entries.push(match content {
            Some(content) => format!("{path},{content}"),
            None => format!("{path},{hash},{size}"),
        });
    }
    entries.sort_unstable();
    Ok(digest(entries.iter().map(String::as_str)))
}

/// A digest of a file; `None` if it is missing or a folder.
fn content(path: &Path) -> io::Result<Option<String>> {
    match digest_of_file(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the file at a path in RECORD counts.
fn counts(path: &str) -> bool {
    // Scripts: installers generate them, or rewrite their first line.
    let is_outside = path.starts_with("..") || path.starts_with('/');
    !path.is_empty() && !is_installers_own(Path::new(path)) && !is_outside && !path.ends_with(".pyc")
}

/// Whether it is a file of `.dist-info` that the installer writes.
pub(super) fn is_installers_own(path: &Path) -> bool {
    const INSTALLERS_OWN: [&str; 6] =
        ["INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"];
    let is_own = path.file_name().is_some_and(|name| INSTALLERS_OWN.iter().any(|own| name == *own));
    is_own && path.parent().and_then(Path::extension) == Some(OsStr::new("dist-info"))
}

/// The id of an environment with these distributions and this interpreter.
pub(super) fn content_id(interpreter: &str, installed: &[Distribution]) -> String {
    let distributions = installed.iter().flat_map(|distribution| {
        [distribution.name.as_str(), distribution.version.as_str(), distribution.digest.as_str()]
    });
    digest(std::iter::once(interpreter).chain(distributions))
}

/// A digest of a file.
pub(super) fn digest_of_file(path: &Path) -> io::Result<String> {
    Ok(short(&crate::files::digest_of_file(path)?))
}

/// A digest of texts, including where each ends.
pub(super) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    short(&digest_of_list(texts.into_iter().map(str::as_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_installers_do_not_count() {
        let by_pip = "a/__init__.py,sha256=x,3\na/__pycache__/__init__.cpython-311.pyc,,\n../../../bin/a,sha256=p,200\n\
                      a-1.dist-info/INSTALLER,sha256=pip,4\r\na-1.dist-info/METADATA,sha256=m,9\na-1.dist-info/RECORD,,\n";
        let by_uv = "a-1.dist-info/INSTALLER,sha256=uv,2\na-1.dist-info/METADATA,sha256=m,9\na-1.dist-info/RECORD,,\n\
                     a-1.dist-info/REQUESTED,sha256=e,0\na/__init__.py,sha256=x,3\n../../../bin/a,sha256=u,300\n";
        let digest = |record: &str| record_digest(record.as_bytes(), Path::new("/no/such/folder")).unwrap();
        assert_eq!(digest(by_pip), digest(by_uv));
        assert_ne!(digest(by_uv), digest(&by_uv.replace("sha256=x", "sha256=y")));
        // A path that is quoted where that is not needed is the same path.
        assert_eq!(digest("\"a\",sha256=x,1\n\"b,c\",sha256=y,1\n"), digest("\"b,c\",sha256=y,1\r\na,sha256=x,1\n"));
        assert!(counts("a,b/RECORD") && counts("a/INSTALLER"));
    }

    #[test]
    fn files_without_a_hash_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let record = "a.py,,\nb.py,sha256=x,1\nmissing.py,,\n";
        let digest = |a: &str, b: &str| {
            std::fs::write(folder.path().join("a.py"), a).unwrap();
            std::fs::write(folder.path().join("b.py"), b).unwrap();
            record_digest(record.as_bytes(), folder.path()).unwrap()
        };
        assert_ne!(digest("1", "1"), digest("2", "1"));
        assert_eq!(digest("1", "1"), digest("1", "2"), "a hash in RECORD is trusted");
    }
}
