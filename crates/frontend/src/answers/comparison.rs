//! How a new answer differs from one that was kept for the same key.
//!
//! Archives hold the times of their files, so two builds are seldom equal byte for
//! byte: of wheels and source distributions, the members count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use zip::ZipArchive;

use super::answer::{Answer, Files, Outcome};
use super::digest::Digest;
use super::files::list;
use super::store::{AnswerStore, NewAnswer};

/// The members of an archive by their names: permissions, and a digest of the content.
type Members = BTreeMap<String, (u32, Digest)>;

impl AnswerStore {
    /// How an answer differs from a kept one, for the reader; `None` if it does not. What
    /// was printed does not count. Blocks.
    ///
    /// # Errors
    /// The files that the hook made cannot be read.
    pub(super) fn difference(&self, new: &NewAnswer, kept: &Answer) -> io::Result<Option<String>> {
        let shown = |outcome: &Outcome| match outcome {
            Outcome::Returned(value) => value.to_string(),
            Outcome::Missing => "no such hook".to_owned(),
        };
        if new.outcome != kept.outcome {
            return Ok(Some(format!("it returned {}, and {} is kept", shown(&new.outcome), shown(&kept.outcome))));
        }
        let made = list(&new.made)?;
        let others = |files: &Files, others: &Files| -> BTreeSet<String> {
            files.iter().filter(|file| !others.contains(file)).map(|file| file.path.clone()).collect()
        };
        let (only_new, only_kept) = (others(&made, &kept.files), others(&kept.files, &made));
        for path in only_new.union(&only_kept) {
            let difference = match (only_new.contains(path), only_kept.contains(path)) {
                (true, true) => self.difference_of_file(path, new, kept)?,
                (true, false) => Some(format!("it made {path}, which is not kept")),
                _ => Some(format!("it did not make {path}, which is kept")),
            };
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }

    /// How two files with the same path differ, which are not equal byte for byte.
    fn difference_of_file(&self, path: &str, new: &NewAnswer, kept: &Answer) -> io::Result<Option<String>> {
        let different = || Ok(Some(format!("it made another {path}")));
        let made = new.made.iter().find(|made| made.file_name().is_some_and(|name| name == path));
        let kept = kept.files.iter().find(|file| file.path == path);
        let (Some(made), Some(kept)) = (made, kept) else { return different() };
        let members: fn(&Path) -> io::Result<Members> = match path {
            wheel if wheel.ends_with(".whl") => members_of_zip,
            sdist if sdist.ends_with(".tar.gz") => members_of_tar,
            _ => return different(),
        };
        // What is kept may have been removed meanwhile.
        let Ok(kept) = members(&self.files.path(kept.sha256)) else { return different() };
        let made = members(made)?;
        let mut names = made.keys().chain(kept.keys());
        let other = names.find(|name| made.get(*name) != kept.get(*name));
        Ok(other.map(|name| format!("it made another {path}, with another {name}")))
    }
}

fn members_of_zip(path: &Path) -> io::Result<Members> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(io::Error::other)?;
    (0..archive.len())
        .map(|index| {
            let mut member = archive.by_index(index).map_err(io::Error::other)?;
            let name = member.name().map_err(io::Error::other)?.into_owned();
            let mode = member.unix_mode().unwrap_or_default();
            Ok((name, (mode, Digest::of_content(&mut member)?)))
        })
        .collect()
}

fn members_of_tar(path: &Path) -> io::Result<Members> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(path)?)));
    let members = archive.entries()?.map(|member| {
        let mut member = member?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let mode = member.header().mode()?;
        Ok((name, (mode, Digest::of_content(&mut member)?)))
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn members_count_and_not_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = |name: &str, content: &str, year: u16, mode: u32| {
            let path = folder.path().join(name);
            let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
            let time = zip::DateTime::from_date_and_time(year, 1, 1, 0, 0, 0).unwrap();
            let options = zip::write::SimpleFileOptions::default().last_modified_time(time).unix_permissions(mode);
            archive.start_file("a.py", options).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
            archive.finish().unwrap();
            (std::fs::read(&path).unwrap(), members_of_zip(&path).unwrap())
        };
        let (bytes, members) = wheel("one", "a = 1", 2020, 0o644);
        let (later_bytes, later) = wheel("later", "a = 1", 2021, 0o644);
        assert!(bytes != later_bytes && members == later);
        assert_ne!(members, wheel("other", "a = 2", 2020, 0o644).1);
        assert_ne!(members, wheel("executable", "a = 1", 2020, 0o755).1);
    }
}
