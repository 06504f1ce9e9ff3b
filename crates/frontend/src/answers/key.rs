//! What the answer of a hook depends on, and the key that stands for it.
//!
//! The clock, random numbers, the network and the headers of the system cannot be
//! part of a key.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::{CallerProcess, HookRequest, WorkerProgram};
use serde_json::json;

use super::compilers;
use super::digest::Digest;
use super::variables::{self, EnvironmentVariables};

/// What all hooks of a run, or of a caller, have in common.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub variables: EnvironmentVariables,
    /// What identifies the compilers, if answers of hooks that start some are kept.
    pub compilers: Option<String>,
    digest: Digest,
}

impl Circumstances {
    /// Those of hooks that inherit from this caller; `None`: from this process.
    /// Blocks.
    pub fn new(caller: Option<&CallerProcess>, with_compilers: bool) -> Self {
        let (variables, umask) = match caller {
            Some(caller) => (caller.variables.clone(), format!("{:04o}", caller.umask)),
            None => (std::env::vars_os().collect(), umask()),
        };
        let mut parts = vec![
            env!("CARGO_PKG_VERSION").as_bytes().to_vec(),
            WorkerProgram::embedded_digest().into_bytes(),
            std::env::consts::ARCH.as_bytes().to_vec(),
            std::env::consts::OS.as_bytes().to_vec(),
            umask.into_bytes(),
        ];
        parts.extend(variables::counted(&variables));
        let compilers = with_compilers.then(|| compilers::identity(&variables));
        Self { digest: Digest::of_list(parts.iter().map(Vec::as_slice)), compilers, variables }
    }
}

/// Files outside of source and environment that hooks read, or see not to be there: that of
/// distutils.
pub(super) fn known_files(variables: &EnvironmentVariables) -> Vec<PathBuf> {
    variables::home(variables).map(|home| home.join(".pydistutils.cfg")).into_iter().collect()
}

/// The file mode creation mask, which hooks inherit: files in wheels have modes.
fn umask() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap_or_default().trim().to_owned()
}

/// What is asked of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// The digest of the source: of an archive, or of the state of a tree.
    pub source: Digest,
    /// The place of a source tree, which hooks can see. `None` for an archive: the name
    /// of the folder that it is unpacked to follows from its digest.
    pub place: Option<&'a Path>,
    /// What is above it that hooks look for.
    pub above: &'a [PathBuf],
    pub request: &'a HookRequest,
    /// The content id of the build environment.
    pub environment: &'a str,
    /// What identifies the compilers, for hooks that may start some.
    pub compilers: Option<&'a str>,
}

impl Question<'_> {
    /// The key of its answer.
    pub fn key(&self, circumstances: &Circumstances) -> Digest {
        let request = self.request;
        let arguments = json!([request.config_settings, request.backend, request.backend_path]).to_string();
        let (common, source, above) =
            (circumstances.digest.to_string(), self.source.to_string(), self.above.len().to_string());
        let place = self.place.unwrap_or(Path::new("")).as_os_str().as_bytes();
        let texts = [&common, request.hook.name(), &source, self.environment, &arguments, &above];
        let mut parts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        parts.push(place);
        // They may change while this process runs.
        let known = Digest::of_files(&known_files(&circumstances.variables)).to_string();
        parts.push(known.as_bytes());
        parts.extend(self.above.iter().map(|path| path.as_os_str().as_bytes()));
        parts.push(self.compilers.unwrap_or_default().as_bytes());
        parts.extend(request.env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        Digest::of_list(parts)
    }
}

/// What hooks look for in the folders above their tree, because it may mark the top of
/// a repository or of another project.
pub(super) const MARKERS: &[&str] = &[
    ".git",
    ".hg",
    ".jj",
    ".svn",
    ".bzr",
    ".git_archival.txt",
    ".hg_archival.txt",
    "PKG-INFO",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
];

/// What is above a tree that hooks look for. Blocks.
pub(super) fn markers_above(tree: &Path) -> Vec<PathBuf> {
    let parents = tree.ancestors().skip(1);
    let all = parents.flat_map(|parent| MARKERS.iter().map(|name| parent.join(name)));
    all.filter(|path| path.symlink_metadata().is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hookpool_supervisor::Hook;

    use super::*;

    #[test]
    fn the_key_has_all_that_a_request_says() {
        let circumstances = Circumstances::new(Some(&CallerProcess::of_this_process().unwrap()), false);
        let request = HookRequest::new("tree", Hook::BuildWheel);
        let question = Question {
            source: Digest::of(b"source"),
            place: None,
            above: &[],
            request: &request,
            environment: "environment",
            compilers: None,
        };
        let with = |change: &dyn Fn(&mut HookRequest)| {
            let mut changed = request.clone();
            change(&mut changed);
            Question { request: &changed, ..question }.key(&circumstances)
        };
        let above = [PathBuf::from("/.git")];
        let keys = [
            question.key(&circumstances),
            with(&|request| request.hook = Hook::GetRequiresForBuildWheel),
            with(&|request| request.config_settings = Some([("a".to_owned(), "b".into())].into_iter().collect())),
            with(&|request| request.backend = Some("backend".to_owned())),
            with(&|request| request.backend_path = Some(vec!["backend".into()])),
            with(&|request| request.env = [("A".into(), "B".into())].into()),
            with(&|request| request.env = [("AB".into(), "".into())].into()),
            Question { source: Digest::of(b"other"), ..question }.key(&circumstances),
            Question { place: Some(Path::new("/tree")), ..question }.key(&circumstances),
            Question { above: &above, ..question }.key(&circumstances),
            Question { environment: "other", ..question }.key(&circumstances),
            Question { compilers: Some("compilers"), ..question }.key(&circumstances),
        ];
        let different: HashSet<Digest> = keys.into_iter().collect();
        assert_eq!(different.len(), keys.len());
        // Where the tree is, and who asks, is not in it.
        assert_eq!(with(&|request| request.tree = "other".into()), keys[0]);
        assert_eq!(with(&|request| request.caller_id = Some("id".into())), keys[0]);
    }

    #[test]
    fn answers_depend_on_the_caller_in_place_of_this_process() {
        let caller = |variables: &[(&str, &str)], umask| CallerProcess {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            umask,
            limits: Vec::new(),
        };
        let digest = |caller: &CallerProcess| Circumstances::new(Some(caller), false).digest;
        let plain = caller(&[("PATH", "/bin"), ("FLAVOUR", "a")], 0o022);
        for (other, is_equal) in [
            (caller(&[("PATH", "/bin"), ("FLAVOUR", "a")], 0o022), true),
            // Incidental, unless a hook reads it.
            (caller(&[("PATH", "/bin"), ("FLAVOUR", "a"), ("TERM", "dumb")], 0o022), true),
            (caller(&[("PATH", "/bin"), ("FLAVOUR", "b")], 0o022), false),
            (caller(&[("PATH", "/bin")], 0o022), false),
            (caller(&[("PATH", "/bin"), ("FLAVOUR", "a")], 0o077), false),
        ] {
            assert_eq!(digest(&plain) == digest(&other), is_equal, "{other:?}");
        }
        // A caller that is as this process has the same answers.
        let own = CallerProcess::of_this_process().unwrap();
        assert!(digest(&own) == Circumstances::new(None, false).digest);
    }
}
