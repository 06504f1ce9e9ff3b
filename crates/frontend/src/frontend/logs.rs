//! Files with the whole output of hooks.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use hookpool_supervisor::files::{kept, unblock};
use hookpool_supervisor::{CaptureFiles, ErrorKind, HookError, Removed, Response};
use walkdir::WalkDir;

use crate::files::disk_space;
use crate::output::no_folder;

/// Which hooks have their logs kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptLogs {
    /// All hooks.
    All,
    /// Hooks that failed.
    Failures,
}

/// A folder with one log file for each hook. It is made with the first of them.
#[derive(Clone, Debug)]
pub struct LogFolder {
    path: PathBuf,
    keep: KeptLogs,
    in_cache: bool,
    count: Arc<AtomicUsize>,
}

impl LogFolder {
    /// The folder at `path`, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf, keep: KeptLogs) -> Self {
        Self { path, keep, in_cache: false, count: Arc::default() }
    }

    /// Makes a folder, which may exist.
    ///
    /// # Errors
    /// Those of mkdir(2); one for a file says what was expected.
    pub fn make(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(no_folder)
    }

    /// The folder for the logs of failed hooks in a cache folder.
    #[must_use]
    pub fn in_cache(cache_folder: &Path) -> Self {
        Self { in_cache: true, ..Self::new(Self::path_in(cache_folder), KeptLogs::Failures) }
    }

    /// The path of that folder.
    #[must_use]
    pub fn path_in(cache_folder: &Path) -> PathBuf {
        cache_folder.join("logs")
    }

    /// Removes the logs in a cache folder that were written before `unused_since`. Blocks.
    pub(crate) fn prune(cache_folder: &Path, unused_since: SystemTime) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let entries = WalkDir::new(Self::path_in(cache_folder)).max_depth(1).into_iter().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_file()) {
            let modified = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
            if modified.is_some_and(|modified| modified < unused_since) {
                removed += Removed { count: 1, bytes: disk_space(entry.path()) };
                kept::remove(entry.path())?;
            }
        }
        Ok(removed)
    }

    /// Writes the log of a hook, if it is to be kept, and returns its path. If that fails, the
    /// result of the hook is not lost.
    pub(crate) async fn keep(&self, name: &Path, response: &Response, output: CaptureFiles) -> Option<PathBuf> {
        let error = response.outcome.as_ref().err();
        let failed = error.is_some_and(|error| error.kind != ErrorKind::UnsupportedHook);
        if self.keep == KeptLogs::Failures && !failed {
            return None;
        }
        let head = head(name, response);
        let tail = error.map(foot).unwrap_or_default();
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let (folder, name) = (self.path.clone(), format!("{number:04}-{}-{}", label(name), response.hook));
        let in_cache = self.in_cache;
        let written = unblock(move || {
            if in_cache {
                kept::folder(&folder).map_err(io::Error::other)?;
            }
            write(&folder, &name, &head, &output, &tail)
        });
        let written = written.await;
        match written {
            Ok(path) => Some(path),
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), "cannot write a hook's log: {error}");
                None
            }
        }
    }
}

fn head(name: &Path, response: &Response) -> String {
    let outcome = match &response.outcome {
        Ok(value) => format!("returned {value}"),
        Err(error) => format!("failed: {error}"),
    };
    let time = response.timing.hook.map(|time| format!(" after {:.3} s", time.as_secs_f64())).unwrap_or_default();
    format!("{} of {}\n{outcome}{time}\n", response.hook, name.display())
}

fn foot(error: &HookError) -> String {
    error
        .traceback
        .as_ref()
        .map(|traceback| format!("\n=== traceback ===\n{}\n", traceback.trim_end()))
        .unwrap_or_default()
}

/// The file name of the source, in characters that every file system and shell accepts.
fn label(name: &Path) -> String {
    const LONGEST: usize = 80;
    let last = name.file_name().map_or_else(|| b"source".to_vec(), |last| last.as_bytes().to_vec());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    last.into_iter().take(LONGEST).map(|byte| if allowed(byte) { char::from(byte) } else { '_' }).collect()
}

fn write(folder: &Path, name: &str, head: &str, output: &CaptureFiles, foot: &str) -> io::Result<PathBuf> {
    LogFolder::make(folder)?;
    let (path, file) = create(folder, name)?;
    let mut file = BufWriter::new(file);
    file.write_all(head.as_bytes())?;
    file.write_all(b"\n=== standard output ===\n")?;
    output.write_stdout(&mut file)?;
    file.write_all(b"\n=== standard error ===\n")?;
    output.write_stderr(&mut file)?;
    file.write_all(foot.as_bytes())?;
    file.flush()?;
    Ok(path)
}

/// Never overwrites a log of an earlier run.
fn create(folder: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    for attempt in 0.. {
        let suffix = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let path = folder.join(format!("{name}{suffix}.log"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("there are fewer files than numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_and_unique() {
        assert_eq!(label(Path::new("/src/a b/../flask-3.0.tar.gz")), "flask-3.0.tar.gz");
        assert_eq!(label(Path::new("/x/$(rm -rf)\n")), "__rm_-rf__");
        assert_eq!(label(Path::new("..")), "source");
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = create(folder.path(), "x").unwrap();
        let (second, _) = create(folder.path(), "x").unwrap();
        assert_ne!(first, second);
    }
}
