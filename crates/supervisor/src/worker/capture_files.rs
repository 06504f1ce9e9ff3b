//! The output of hooks, in capture files until the caller takes the response.
//!
//! So memory is bounded, whatever hooks write and however slow callers are, and
//! disk space too, since only the end of each file is kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::files::{Links, open_regular_file};
use crate::response::CapturedOutput;

/// The files with everything that a hook wrote, deleted when this is dropped.
///
/// Given with [`Ticket::with_output`](crate::Ticket::with_output). They are
/// whole if [`Builder::keep_output`](crate::Builder::keep_output) asked for it,
/// else cut to their ends.
#[derive(Debug, Default)]
pub struct CaptureFiles {
    pub(crate) stdout: Option<CaptureFile>,
    pub(crate) stderr: Option<CaptureFile>,
    /// The worker says that both are empty.
    pub(crate) are_empty: bool,
}

/// The files that a worker's last hook has left empty, which the worker may use
/// for the next one. Deleted when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct EmptyCaptures(Vec<PathBuf>);

#[derive(Debug)]
pub(crate) struct CaptureFile {
    path: PathBuf,
    /// Whether the start of the output was cut off.
    cut: bool,
}

impl CaptureFiles {
    /// Takes the files of a hook that has just ended away from its worker, and,
    /// unless `keep_whole`, cuts each to the end that is kept. Files without
    /// output stay with the worker, in `empty`, in place of others. Blocks.
    pub(crate) fn take(mut self, keep_whole: bool, empty: &mut EmptyCaptures) -> Self {
        let mut left = Vec::new();
        let mut take = |file: Option<CaptureFile>| {
            let path = file?.into_path();
            match CaptureFile::take(&path) {
                Some(file) => {
                    // The worker may have used a file of `empty` again.
                    empty.0.retain(|before| *before != path);
                    Some(if keep_whole { file } else { file.cut() })
                }
                None => {
                    left.push(path);
                    None
                }
            }
        };
        let files = Self { stdout: take(self.stdout.take()), stderr: take(self.stderr.take()), are_empty: false };
        empty.replace(left);
        files
    }

    /// Leaves files that are empty to the worker.
    pub(crate) fn leave(mut self, empty: &mut EmptyCaptures) {
        let files = self.stdout.take().into_iter().chain(self.stderr.take());
        empty.replace(files.map(CaptureFile::into_path).collect());
    }

    /// Deletes them. Blocks.
    pub(crate) fn delete(mut self) {
        for file in self.stdout.iter_mut().chain(&mut self.stderr) {
            let _ = std::fs::remove_file(std::mem::take(&mut file.path));
        }
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.are_empty || (self.stdout.is_none() && self.stderr.is_none())
    }

    /// The ends of standard output and of standard error. A file that is
    /// missing, which the hook may have deleted, is empty output.
    pub(crate) fn read(&self) -> (CapturedOutput, CapturedOutput) {
        let read = |file: &Option<CaptureFile>| file.as_ref().map(CaptureFile::read).unwrap_or_default();
        (read(&self.stdout), read(&self.stderr))
    }
}

impl From<PathBuf> for CaptureFile {
    /// A file that is still the worker's.
    fn from(path: PathBuf) -> Self {
        Self { path, cut: false }
    }
}

impl CaptureFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn into_path(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }

    /// Takes a file away from the worker, under another name where the system
    /// allows it. `None` where there is no output, or no file.
    fn take(path: &Path) -> Option<Self> {
        if length(path) == 0 {
            return None;
        }
        let kept = with_suffix(path, ".kept");
        // This may fail on a full disk. The worker uses only empty files again.
        let renamed = std::fs::rename(path, &kept);
        Some(Self { path: if renamed.is_ok() { kept } else { path.to_owned() }, cut: false })
    }

    fn cut(self) -> Self {
        if length(&self.path) <= CapturedOutput::LIMIT as u64 { self } else { self.with_end_only() }
    }

    fn with_end_only(mut self) -> Self {
        // To a new file: processes of the hook may still write to the old one.
        let end = with_suffix(&self.path, ".end");
        match copy_end(&self.path, &end) {
            Ok(()) => {
                let _ = std::fs::remove_file(std::mem::replace(&mut self.path, end));
                self.cut = true;
            }
            // On a full disk, for example. The whole file is kept instead.
            Err(_) => {
                let _ = std::fs::remove_file(&end);
            }
        }
        self
    }

    fn read(&self) -> CapturedOutput {
        let mut output = read_end(&self.path).unwrap_or_default();
        output.truncated |= self.cut;
        output
    }
}

impl EmptyCaptures {
    /// Replaces the files by those that the last hook has left empty. The others
    /// are deleted.
    pub fn replace(&mut self, paths: Vec<PathBuf>) {
        let mut before = std::mem::replace(&mut self.0, paths);
        before.retain(|path| !self.0.contains(path));
        remove(before);
    }

    /// Deletes them, and waits for that.
    pub async fn delete(mut self) {
        let paths = std::mem::take(&mut self.0);
        if paths.is_empty() {
            return;
        }
        // Files that remain are removed with their folder.
        let _ = tokio::task::spawn_blocking(move || remove_now(&paths)).await;
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            remove(vec![std::mem::take(&mut self.path)]);
        }
    }
}

impl Drop for EmptyCaptures {
    fn drop(&mut self) {
        remove(std::mem::take(&mut self.0));
    }
}

/// Removes files, on a thread if there is a runtime. Files that remain are
/// removed with their folder.
fn remove(paths: Vec<PathBuf>) {
    if paths.is_empty() {
        return;
    }
    let work = move || remove_now(&paths);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

fn remove_now(paths: &[PathBuf]) {
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
}

fn length(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |metadata| metadata.len())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

impl CaptureFiles {
    /// Writes the hook's standard output to `to`. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or `to` cannot be written.
    pub fn write_stdout(&self, to: &mut impl Write) -> io::Result<()> {
        copy(self.stdout.as_ref(), to)
    }

    /// Writes the hook's standard error to `to`. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or `to` cannot be written.
    pub fn write_stderr(&self, to: &mut impl Write) -> io::Result<()> {
        copy(self.stderr.as_ref(), to)
    }
}

fn copy(file: Option<&CaptureFile>, to: &mut impl Write) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let from = open(&file.path)?;
    // Bounded: processes of the hook may still write to the file.
    let length = from.metadata()?.len();
    io::copy(&mut from.take(length), to).map(drop)
}

/// The hook knows the path, and may have replaced the file by a named pipe or a
/// link.
fn open(path: &Path) -> io::Result<File> {
    open_regular_file(path, Links::Refuse)
}

fn copy_end(from: &Path, to: &Path) -> io::Result<()> {
    let end = read_end(from)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?.write_all(&end.tail)
}

fn read_end(path: &Path) -> io::Result<CapturedOutput> {
    let mut file = open(path)?;
    let limit = CapturedOutput::LIMIT as u64;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(CapturedOutput::default());
    }
    let truncated = length > limit;
    if truncated {
        file.seek(SeekFrom::Start(length - limit))?;
    }
    let mut tail = Vec::new();
    // Bounded: processes of the hook may still write to the file.
    file.take(limit).read_to_end(&mut tail)?;
    Ok(CapturedOutput { tail, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(
        stdout: Option<PathBuf>,
        stderr: Option<PathBuf>,
        keep_whole: bool,
        empty: &mut EmptyCaptures,
    ) -> CaptureFiles {
        let files = CaptureFiles { stdout: stdout.map(Into::into), stderr: stderr.map(Into::into), are_empty: false };
        files.take(keep_whole, empty)
    }

    #[test]
    fn keeps_the_end_and_deletes_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (folder.path().join("out"), folder.path().join("err"));
        let mut text = vec![b'a'; 10];
        text.extend("é".repeat(CapturedOutput::LIMIT / 2).as_bytes());
        text.push(b'!');
        std::fs::write(&stdout, &text).unwrap();
        std::fs::write(&stderr, b"\xff short").unwrap();
        let files = taken(Some(stdout.clone()), Some(stderr), false, &mut EmptyCaptures::default());
        assert!(!stdout.exists());
        let (stdout, stderr) = files.read();
        assert!(stdout.truncated && !stderr.truncated);
        assert_eq!(stdout.tail.len(), CapturedOutput::LIMIT);
        assert!(stdout.text().starts_with('é') && stdout.text().ends_with("é!"));
        assert_eq!(stderr.text(), "\u{fffd} short");
        drop(files);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_whole_output_is_kept_where_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let text = vec![b'a'; CapturedOutput::LIMIT + 10];
        std::fs::write(&path, &text).unwrap();
        let files = taken(Some(path), None, true, &mut EmptyCaptures::default());
        assert!(files.read().0.truncated);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        files.write_stdout(&mut stdout).unwrap();
        files.write_stderr(&mut stderr).unwrap();
        assert!(stdout == text && stderr.is_empty());
        drop(files);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_hook_put_in_the_place_of_its_files_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("out"), folder.path().join("err"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let mut empty = EmptyCaptures::default();
        let files = taken(Some(pipe), Some(link), false, &mut empty);
        assert_eq!(files.read(), (CapturedOutput::default(), CapturedOutput::default()));
        drop((files, empty));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn empty_files_stay_for_the_next_hook_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["first", "second", "third"].map(|name| folder.path().join(name));
        let [first, second, third] = &paths;
        for path in &paths {
            std::fs::write(path, "").unwrap();
        }
        let mut empty = EmptyCaptures::default();
        let mut end =
            |stdout: &Path, stderr: &Path| taken(Some(stdout.to_owned()), Some(stderr.to_owned()), false, &mut empty);
        let there = || paths.each_ref().map(|path| path.exists());
        end(first, second);
        assert_eq!(there(), [true, true, true]);
        // The worker has used one of them again, and the hook has written to it.
        std::fs::write(second, "output").unwrap();
        let files = end(second, third);
        assert_eq!(files.read().0.text(), "output");
        assert_eq!(there(), [false, false, true], "the first is not wanted, the second is ours");
        // A hook that was not accepted has no files.
        taken(None, None, false, &mut empty);
        assert_eq!(there(), [false; 3]);
        drop((files, empty));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn output_is_kept_under_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "output").unwrap();
        std::fs::create_dir(folder.path().join("out.kept")).unwrap();
        let files = taken(Some(path.clone()), None, false, &mut EmptyCaptures::default());
        assert_eq!(files.read().0.text(), "output");
        drop(files);
        assert!(!path.exists());
    }

    #[test]
    fn files_that_are_gone_are_empty_output() {
        let files = taken(Some("/no/such/file".into()), None, false, &mut EmptyCaptures::default());
        assert_eq!(files.read(), (CapturedOutput::default(), CapturedOutput::default()));
    }
}
