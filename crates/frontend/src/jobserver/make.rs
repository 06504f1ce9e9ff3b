//! The make that hooks would find, and whether it can use a fifo.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookpool_supervisor::{Timeout, run_unguarded};

/// Its names. The second counts only if there is no first: beside a new `make` there
/// is often an old `gmake` that nobody uses.
const NAMES: [&str; 2] = ["make", "gmake"];

/// The time limit of `make --version`, which takes a millisecond or two.
const PATIENCE: Timeout = Timeout::from_secs(2);

/// Why hooks cannot have a jobserver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsuitable {
    /// This make supports only descriptors.
    #[error(
        "{} is GNU make {version}, and a make older than 4.4 stops with an error at a jobserver that is a fifo",
        make.display()
    )]
    OldMake {
        /// The program, as it was found on `PATH`.
        make: PathBuf,
        /// Its version.
        version: String,
    },
    /// This make is not GNU make, or could not be run.
    #[error("{} does not say that it is GNU make 4.4 or newer: {answer}", make.display())]
    UnknownMake {
        /// The program, as it was found on `PATH`.
        make: PathBuf,
        /// What it printed for `--version`, or why it did not.
        answer: String,
    },
    /// `MAKEFLAGS` is not UTF-8.
    #[error("the environment variable MAKEFLAGS is not UTF-8")]
    MakeFlags,
}

/// A version of GNU make: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MakeVersion(u32, u32);

impl MakeVersion {
    /// The first with `--jobserver-auth=fifo:PATH`.
    const WITH_FIFO: Self = Self(4, 4);

    /// Reads the first line of `make --version`.
    fn parse(line: &str) -> Option<Self> {
        let version = line.strip_prefix("GNU Make ")?;
        let mut parts = version.split(|character: char| !character.is_ascii_digit());
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for MakeVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

/// Checks the make that hooks would find. Without any make a jobserver is possible.
pub(super) async fn check_make() -> Result<(), Unsuitable> {
    match NAMES.iter().find_map(|name| which::which(name).ok()) {
        Some(make) => check(&make).await,
        None => Ok(()),
    }
}

async fn check(make: &Path) -> Result<(), Unsuitable> {
    let unknown = |answer: String| Unsuitable::UnknownMake { make: make.to_owned(), answer };
    let line = first_line(make).await.map_err(unknown)?;
    match MakeVersion::parse(&line) {
        Some(version) if version >= MakeVersion::WITH_FIFO => Ok(()),
        Some(version) => Err(Unsuitable::OldMake { make: make.to_owned(), version: version.to_string() }),
        None if line.is_empty() => Err(unknown("it printed nothing for --version".into())),
        None => Err(unknown(format!("it printed: {line}"))),
    }
}

/// The first line of `make --version`, or why there is none.
async fn first_line(make: &Path) -> Result<String, String> {
    let mut command = Command::new(make);
    // These variables could make it fail, or change its language.
    command.arg("--version").env("LC_ALL", "C").env_remove("MAKEFLAGS").env_remove("GNUMAKEFLAGS");
    let output = run_unguarded(command, PATIENCE).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let version = MakeVersion::parse;
        assert_eq!(version("GNU Make 4.4.1"), Some(MakeVersion(4, 4)));
        assert_eq!(version("GNU Make 4.3"), Some(MakeVersion(4, 3)));
        assert_eq!(version("GNU Make 4.4.0.91"), Some(MakeVersion(4, 4)));
        assert_eq!(version("GNU Make 3.81"), Some(MakeVersion(3, 81)));
        assert_eq!(version("GNU Make 10.0-rc1"), Some(MakeVersion(10, 0)));
        for line in ["", "GNU Make", "GNU Make x.y", "GNU Make 4", "bmake 4.4", "usage: make [-f file]"] {
            assert_eq!(version(line), None, "{line}");
        }
        assert!(MakeVersion(4, 10) > MakeVersion::WITH_FIFO && MakeVersion(3, 99) < MakeVersion::WITH_FIFO);
    }

    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join("make");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_make_is_asked_for_its_version() {
        let (_folder, new) = script("echo GNU Make 4.4.1; echo Built for x");
        assert_eq!(check(&new).await, Ok(()));
        let (_folder, old) = script("echo GNU Make 4.3");
        let error = check(&old).await.unwrap_err();
        assert_eq!(error, Unsuitable::OldMake { make: old.clone(), version: "4.3".into() });
        assert!(error.to_string().contains("is GNU make 4.3"), "{error}");
        let (_folder, other) = script("echo usage: make >&2; exit 2");
        assert!(check(&other).await.unwrap_err().to_string().contains("it printed nothing"));
        let (_folder, other) = script("echo bmake 1");
        assert!(check(&other).await.unwrap_err().to_string().contains("it printed: bmake 1"));
    }
}
