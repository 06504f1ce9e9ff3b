//! The sources of a command line, without duplicates.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use hookpool_frontend::{JobId, Source, read_list};
use hookpool_supervisor::HookError;

use crate::exit::Failure;

/// A source to build.
#[derive(Debug)]
pub struct Job {
    pub id: JobId,
    /// The names that the user gave it: several if it was named several times.
    pub names: Vec<PathBuf>,
    /// The source, or why it cannot be built.
    pub source: Result<Source, HookError>,
    /// The size of an archive.
    pub archive_bytes: Option<u64>,
}

impl Job {
    /// A job with one name. Blocks.
    pub fn new(id: JobId, name: PathBuf, source: Result<Source, HookError>) -> Self {
        let archive_bytes = match &source {
            Ok(Source::SourceArchive(path)) => path.metadata().ok().map(|metadata| metadata.len()),
            _ => None,
        };
        Self { id, names: vec![name], source, archive_bytes }
    }

    /// The jobs for these sources and those in the lists. A file or folder that is
    /// named twice is one job, and so are copies of an archive.
    pub fn all(sources: &[PathBuf], lists: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        let stdin = Path::new("-");
        let mut names = Vec::new();
        for source in sources {
            if source == stdin { names.extend(list(source)?) } else { names.push(source.clone()) }
        }
        for path in lists {
            names.extend(list(path)?);
        }
        Ok(Self::unique(names))
    }

    fn unique(names: Vec<PathBuf>) -> Vec<Self> {
        let mut jobs: Vec<Self> = Vec::new();
        let mut by_identity = HashMap::new();
        // Only archives of the same size are compared.
        let mut by_size: HashMap<u64, Vec<usize>> = HashMap::new();
        for name in names {
            let source = Source::find(&name).map_err(HookError::from);
            let job = Self::new(JobId(jobs.len()), name, source);
            let identity = job.source.as_ref().ok().and_then(|source| source.identity().ok());
            let known = identity.as_ref().and_then(|identity| by_identity.get(identity).copied());
            let known = known.or_else(|| {
                let same_size = job.archive_bytes.and_then(|size| by_size.get(&size)).into_iter().flatten();
                same_size.copied().find(|known| is_copy(&job.source, &jobs[*known].source))
            });
            let index = known.unwrap_or(jobs.len());
            by_identity.extend(identity.map(|identity| (identity, index)));
            match jobs.get_mut(index) {
                Some(known) => known.names.extend(job.names),
                None => {
                    job.archive_bytes.into_iter().for_each(|size| by_size.entry(size).or_default().push(index));
                    jobs.push(job);
                }
            }
        }
        jobs
    }

    /// The jobs with large archives first, and those without an archive last: a large one
    /// takes long to unpack and to look through.
    pub fn largest_first(jobs: &[Self]) -> Vec<&Self> {
        let mut jobs: Vec<&Self> = jobs.iter().collect();
        jobs.sort_by_key(|job| Reverse(job.archive_bytes));
        jobs
    }

    /// The name for messages.
    pub fn name(&self) -> &Path {
        &self.names[0]
    }
}

fn is_copy(one: &Result<Source, HookError>, other: &Result<Source, HookError>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if one.is_copy_of(other))
}

fn list(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let named = |error: &dyn std::fmt::Display| {
        let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
        Failure::usage(format!("list of sources {name}: {error}"))
    };
    if path == Path::new("-") {
        return read_list(io::stdin().lock()).map_err(|error| named(&error));
    }
    let file = File::open(path).map_err(|error| named(&error))?;
    read_list(BufReader::new(file)).map_err(|error| named(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_named_twice_is_one_job() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, link) = (folder.path().join("tree"), folder.path().join("link"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("pyproject.toml"), "").unwrap();
        std::os::unix::fs::symlink(&tree, &link).unwrap();
        let missing = folder.path().join("missing");
        let jobs = Job::unique(vec![tree.clone(), missing.clone(), link.clone()]);
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0].names, [tree, link]);
        assert!(jobs[0].source.is_ok() && jobs[1].source.is_err());
        assert_eq!(jobs[1].name(), missing);
    }

    #[test]
    fn large_archives_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            ["tree", "small-1.tar.gz", "large-1.zip", "missing", "middle-1.tgz"].map(|name| folder.path().join(name));
        std::fs::create_dir(&names[0]).unwrap();
        std::fs::write(names[0].join("pyproject.toml"), "").unwrap();
        for (name, bytes) in [(&names[1], 10), (&names[2], 1000), (&names[4], 100)] {
            std::fs::write(name, vec![0; bytes]).unwrap();
        }
        let jobs = Job::unique(names.to_vec());
        let ordered: Vec<usize> = Job::largest_first(&jobs).iter().map(|job| job.id.0).collect();
        assert_eq!(ordered, [2, 4, 1, 0, 3]);
    }

    #[test]
    fn copies_of_an_archive_are_one_job() {
        let folder = tempfile::tempdir().unwrap();
        let archive = |place: &str, content: &str| {
            let path = folder.path().join(place).join("a-1.tar.gz");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path
        };
        let [one, other, copy] = [archive("one", "1"), archive("other", "2"), archive("copy", "1")];
        let jobs = Job::unique(vec![one.clone(), other.clone(), copy.clone(), copy.clone()]);
        let names: Vec<_> = jobs.iter().map(|job| job.names.clone()).collect();
        assert_eq!(names, [vec![one, copy.clone(), copy], vec![other]]);
    }
}
