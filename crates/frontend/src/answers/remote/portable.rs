//! What may leave this machine.
//!
//! Paths of one machine are wrong on another one, and nobody's business there. So an
//! answer that names one of the folders below stays here: in what the hook returned, or
//! in a file that it made, also if that is compressed in an archive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use hookpool_supervisor::files::{Links, open_regular_file};
use memchr::memmem::Finder;
use serde_json::Value;
use url::Url;
use zip::ZipArchive;

use crate::answers::answer::{Answer, Outcome, Output};
use crate::answers::files::FileStore;

/// Folders of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Foreign(Vec<Finder<'static>>);

impl Foreign {
    /// The folders, by each of their names.
    pub fn new<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for folder in folders {
            let canonical: Option<PathBuf> = folder.canonicalize().ok();
            for path in [Some(folder), canonical.as_deref()].into_iter().flatten() {
                names.push(path.as_os_str().as_bytes().to_vec());
                // As in `direct_url.json`.
                names.extend(Url::from_file_path(path).ok().map(|url| url.path().as_bytes().to_vec()));
            }
        }
        for name in &mut names {
            while name.last() == Some(&b'/') {
                name.pop();
            }
        }
        // Every path begins with the root.
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(|name| Finder::new(&name).into_owned()).collect())
    }

    /// The answer as it may leave this machine: without what was printed. `None` if it
    /// names one of the folders, or if a file of it cannot be read. Blocks.
    pub fn without(&self, answer: &Answer, files: &FileStore) -> Option<Answer> {
        if let Outcome::Returned(value) = &answer.outcome
            && self.is_in_value(value)
        {
            return None;
        }
        for file in answer.files.iter() {
            let open = open_regular_file(&files.path(file.sha256), Links::Refuse).ok()?;
            if self.is_in(file.path.as_bytes()) || self.is_in_file(&file.path, open).unwrap_or(true) {
                return None;
            }
        }
        Some(Answer { stdout: Output::default(), stderr: Output::default(), ..answer.clone() })
    }

    fn is_in_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.is_in(text.as_bytes()),
            Value::Array(values) => values.iter().any(|value| self.is_in_value(value)),
            Value::Object(values) => {
                values.iter().any(|(name, value)| self.is_in(name.as_bytes()) || self.is_in_value(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Whether a text names one of the folders, and not another one whose name begins like
    /// that.
    fn is_in(&self, text: &[u8]) -> bool {
        let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || [b'_', b'-'].contains(byte);
        self.0
            .iter()
            .any(|name| name.find_iter(text).any(|place| !text.get(place + name.needle().len()).is_some_and(goes_on)))
    }

    fn is_in_file(&self, name: &str, mut file: File) -> io::Result<bool> {
        match Path::new(name).extension().and_then(OsStr::to_str) {
            Some("whl" | "zip") => {
                let mut archive = ZipArchive::new(file)?;
                for index in 0..archive.len() {
                    let mut member = archive.by_index(index)?;
                    if self.is_in(member.name_raw()) || self.is_in_stream(&mut member)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            // Of a tar file, names and contents alike.
            Some("gz" | "tgz") => self.is_in_stream(&mut MultiGzDecoder::new(file)),
            _ => self.is_in_stream(&mut file),
        }
    }

    fn is_in_stream(&self, stream: &mut dyn Read) -> io::Result<bool> {
        const PART: u64 = 1 << 18;
        // With the byte that follows a name.
        let overlap = self.0.iter().map(|name| name.needle().len() + 1).max().unwrap_or(0);
        let mut text = Vec::new();
        loop {
            let more = stream.take(PART).read_to_end(&mut text)?;
            if self.is_in(&text) {
                return Ok(true);
            }
            if more == 0 {
                return Ok(false);
            }
            text.drain(..text.len().saturating_sub(overlap));
        }
    }
}
