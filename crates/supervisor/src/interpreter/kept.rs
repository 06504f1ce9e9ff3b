//! What interpreters have said of themselves, kept for other processes, because asking
//! takes longer than all else that a hook with a kept answer needs.
//!
//! What is kept is believed only if nothing has changed that the answer depends on: the
//! program, the libraries and modules that it had loaded, the folders of `sys.path`, the
//! files that `site` reads, the environment variables, and the kernel. Programs that start
//! another one to answer, such as scripts, are not kept: what they start is not known.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Interpreter;
use super::stamp::site_files;
use crate::files::{FileStamp, Links, Moment, kept, read_regular_file};

/// An interpreter's answer, with what tells when it has to be asked again.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub interpreter: Interpreter,
    /// Device and inode of the program that answered, where the system tells.
    #[serde(default)]
    image: Option<(u64, u64)>,
    /// The files that it had loaded.
    #[serde(default)]
    loaded: Vec<PathBuf>,
}

/// The folder of the answers, and the variables with which interpreters are asked.
#[derive(Debug)]
pub(crate) struct KeptInterpreters {
    folder: PathBuf,
    counted: Vec<Vec<u8>>,
    withheld: Vec<OsString>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    interpreter: Interpreter,
    /// Nanoseconds since 1970.
    asked_at: u64,
    /// Where the path of the program leads to.
    program: PathBuf,
    /// `None`: it did not exist.
    files: Vec<(Option<FileStamp>, PathBuf)>,
}

impl KeptInterpreters {
    /// `counted` stands for the variables with which interpreters are asked;
    /// `withheld` are the names of the others.
    pub fn new(cache_folder: &Path, counted: Vec<Vec<u8>>, withheld: Vec<OsString>) -> Self {
        Self { folder: cache_folder.join("interpreters"), counted, withheld }
    }

    /// Removes the variables that do not count, so that the answer cannot depend on them.
    pub fn withhold(&self, command: &mut Command) {
        self.withheld.iter().for_each(|name| {
            command.env_remove(name);
        });
    }

    /// What the program has said, and when it was asked. `None` if it has to be asked.
    /// Blocks.
    pub fn find(&self, program: &Path) -> Option<(Interpreter, SystemTime)> {
        let path = self.path(program)?;
        let content = kept::read(&path).ok()?;
        let (digest, json) = content.split_at_checked(64)?;
        let record: Record =
            if digest_of([json]).as_bytes() == digest { serde_json::from_slice(json).ok() } else { None }?;
        let is_unchanged = program.canonicalize().is_ok_and(|leads_to| leads_to == record.program)
            && record.files.iter().all(|(stamp, path)| stamp_of(path) == *stamp);
        if !is_unchanged {
            return None;
        }
        // The time only decides when it is pruned.
        let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some((record.interpreter, UNIX_EPOCH + Duration::from_nanos(record.asked_at)))
    }

    /// Keeps what the program has said, unless it may have changed since it was asked.
    /// Blocks.
    pub fn keep(&self, program: &Path, answer: &Answer, asked_at: SystemTime) {
        let Some((path, record)) = self.path(program).zip(record(program, answer, asked_at)) else { return };
        // It only saves time.
        let written = serde_json::to_vec(&record).map_err(std::io::Error::from).and_then(|json| {
            let content = [digest_of([json.as_slice()]).as_bytes(), &json].concat();
            match kept::write(&path, &content) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    kept::folder(&self.folder).map_err(std::io::Error::other)?;
                    kept::write(&path, &content)
                }
                written => written,
            }
        });
        if let Err(error) = written {
            tracing::debug!("{}: {error}", path.display());
        }
    }

    /// Named by what the answer depends on, but for files.
    fn path(&self, program: &Path) -> Option<PathBuf> {
        let system = uname().ok()?;
        // Markers describe the system.
        let mut parts =
            vec![program.as_os_str(), system.sysname(), system.release(), system.version(), system.machine()]
                .into_iter()
                .map(OsStrExt::as_bytes)
                .collect::<Vec<_>>();
        parts.extend(self.counted.iter().map(Vec::as_slice));
        Some(self.folder.join(digest_of(parts)).with_extension("json"))
    }
}

fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record(program: &Path, answer: &Answer, asked_at: SystemTime) -> Option<Record> {
    let at = Moment::from(asked_at);
    let interpreter = answer.interpreter.clone();
    let itself = stamp_of(program)?.identity();
    if answer.image != Some(itself) || answer.loaded.iter().any(|path| stamp_of(path).is_none()) {
        return None;
    }
    let stamped = |path: PathBuf| (stamp_of(&path), path);
    let files: Vec<(Option<FileStamp>, PathBuf)> = dependencies(program, answer).into_iter().map(stamped).collect();
    // What is not there may have been there when the interpreter looked.
    let is_settled = |(stamp, path): &(Option<FileStamp>, PathBuf)| {
        let stamp = stamp.or_else(|| path.ancestors().skip(1).find_map(stamp_of));
        stamp.is_some_and(|stamp| stamp.is_settled(at))
    };
    let asked_at = u64::try_from(asked_at.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    let program = program.canonicalize().ok()?;
    files.iter().all(is_settled).then_some(Record { interpreter, asked_at, program, files })
}

/// The files and folders that the answer depends on, whether they exist or not.
fn dependencies(program: &Path, answer: &Answer) -> BTreeSet<PathBuf> {
    let Answer { interpreter, loaded, .. } = answer;
    let mut paths: BTreeSet<PathBuf> = loaded.iter().chain(&interpreter.path).cloned().collect();
    for executable in [program, &interpreter.executable] {
        paths.insert(executable.to_owned());
        paths.extend(executable.ancestors().skip(1).take(2).map(|folder| folder.join("pyvenv.cfg")));
    }
    paths.insert(interpreter.prefix.join("pyvenv.cfg"));
    for folder in &interpreter.site_folders {
        paths.insert(folder.clone());
        for file in site_files(folder) {
            paths.extend(folders_named_by(&file));
            paths.insert(file);
        }
    }
    // Where the dynamic linker looks.
    paths.extend(["/etc/ld.so.cache", "/etc/ld.so.preload"].map(PathBuf::from));
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    paths.extend(std::env::split_paths(&searched).filter(|folder| folder.is_absolute()));
    paths
}

/// What a `.pth` file adds to `sys.path` if it exists.
fn folders_named_by(file: &Path) -> Vec<PathBuf> {
    const LARGEST: u64 = 16 << 20;
    let content = read_regular_file(file, Links::Follow, LARGEST).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new("/"));
    let text = String::from_utf8_lossy(&content);
    let lines = text.lines().map(str::trim_end);
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("import"));
    names.map(|name| folder.join(name)).collect()
}

fn stamp_of(path: &Path) -> Option<FileStamp> {
    path.metadata().ok().map(|metadata| FileStamp::of(&metadata))
}
