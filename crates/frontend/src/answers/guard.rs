//! Whether the answer of a hook may be kept, by what the hook was seen to do.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use hookpool_supervisor::Observed;

use super::key::MARKERS;
use super::variables::{ALL, GIT, is_credential};

/// Why an answer is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotKept {
    /// What the hook did is not known.
    #[error("the hook was not observed: that takes Python 3.8 or newer, and a process of its own for each hook")]
    NotObserved,
    /// The environment is the user's, and what is in it is not known.
    #[error("the hook ran without a build environment of hookpool's")]
    NotIsolated,
    /// The hook failed.
    #[error("the hook failed")]
    Failed,
    /// It has used the network.
    #[error("the hook used the network ({})", List(.0))]
    Network(Vec<String>),
    /// It has started programs.
    #[error("the hook started {}", List(.0))]
    Programs(Vec<String>),
    /// It has read other files, or looked for them.
    #[error("the hook used {}", List(.0))]
    Outside(Vec<String>),
    /// It has read variables that may hold credentials.
    #[error("the hook read {}, which may hold credentials", List(.0))]
    Credentials(Vec<String>),
    /// It has asked git about a repository that is not the source's own, which this marks.
    #[error("the hook asked git about a repository that is not the source's own ({0})")]
    Repository(String),
    /// The source has changed while the hook ran, and not by the hook.
    #[error("{0} was changed while the hook ran, and not by the hook")]
    Changed(String),
    /// A link in the source leads out of it.
    #[error("{0} is a link that leads out of the source")]
    Link(String),
    /// There is a named pipe or a device in the source.
    #[error("{0} is a named pipe or a device")]
    Special(String),
    /// The hook has changed its environment, or another one that ran there.
    #[error("the build environment is not as it was made")]
    Environment,
    /// The tree has the results of an earlier build in it.
    #[error("the source was built before in the same folder")]
    BuiltBefore,
    /// The wheel has compiled code.
    #[error("the wheel {0} has compiled code")]
    Compiled(String),
    /// It has something else than regular files.
    #[error("it has something else than regular files: {0}")]
    Files(String),
    /// The cache was being pruned when it was to be written.
    #[error("the cache was being pruned")]
    Pruning,
    /// The store refused.
    #[error("it could not be written: {0}")]
    Store(String),
}

impl NotKept {
    /// The kind of the reason, for statistics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotObserved => "not observed",
            Self::NotIsolated => "no build environment",
            Self::Failed => "failed",
            Self::Network(_) => "network",
            Self::Programs(_) => "program",
            Self::Outside(_) => "other files",
            Self::Credentials(_) => "credentials",
            Self::Repository(_) => "repository above",
            Self::Changed(_) => "changed meanwhile",
            Self::Link(_) => "link to elsewhere",
            Self::Special(_) => "named pipe or device",
            Self::Environment => "changed environment",
            Self::BuiltBefore => "built before",
            Self::Compiled(_) => "compiled code",
            Self::Files(_) => "other than regular files",
            Self::Pruning => "cache pruned meanwhile",
            Self::Store(_) => "not written",
        }
    }
}

/// The first items of a list.
struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let shown = self.0.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        formatter.write_str(&shown)?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// What is allowed beside what every hook may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed<'a> {
    /// All programs but installers, because the compilers are in the key.
    pub programs: bool,
    /// Files whose contents are in the key.
    pub known: &'a [PathBuf],
    /// What is above the tree that hooks look for.
    pub above: &'a [PathBuf],
    /// Whether the tree has a repository that is complete in itself.
    pub has_own_repository: bool,
    /// The tree. Whether there are [`MARKERS`] above it is in the key.
    pub tree: &'a Path,
    /// The cache folder, for a tree that was unpacked there: the folders from there to
    /// the tree are ours, and what is in them does not matter.
    pub own: Option<&'a Path>,
}

impl Allowed<'_> {
    /// Whether hg finds no repository, and says no more than that.
    fn has_no_mercurial(&self) -> bool {
        let marker = ".hg";
        self.above(marker).is_none() && self.tree.join(marker).symlink_metadata().is_err()
    }

    /// A repository that git finds outside of the tree.
    fn other_repository(&self) -> Option<&PathBuf> {
        self.above(".git").filter(|_| !self.has_own_repository)
    }

    /// What has this name above the tree.
    fn above(&self, name: &str) -> Option<&PathBuf> {
        self.above.iter().find(|place| place.file_name() == Some(OsStr::new(name)))
    }

    /// How the answer depends on a path outside of the known folders.
    fn use_of(&self, path: &Path) -> PathUse {
        let above = || self.tree.ancestors().skip(1);
        let is_own =
            |folder: &Path| self.own.is_some_and(|own| folder.starts_with(own)) && above().any(|above| above == folder);
        if is_own(path) || self.known.iter().any(|known| known == path) {
            return PathUse::None;
        }
        // One that was opened and not listed may be used to open files in it, which
        // Python does not report with their folder.
        let is_listed = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if is_listed && above().any(|folder| folder == path) {
            return PathUse::Names;
        }
        // There is nothing of this name now. In folders of our own there never is, and
        // whether there are markers is in the key.
        let is_marker = || MARKERS.iter().any(|name| path.file_name() == Some(OsStr::new(name)));
        let is_known = |folder: &Path| is_own(folder) || (is_marker() && above().any(|above| above == folder));
        match path.parent().is_some_and(is_known) && path.symlink_metadata().is_err() {
            true => PathUse::None,
            false => PathUse::Unknown,
        }
    }
}

/// How an answer depends on a path outside of the known folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathUse {
    /// It does not, or by what is in the key.
    None,
    /// By the names in this folder.
    Names,
    Unknown,
}

/// What the answer depends on beside what always counts: names of variables, and paths
/// of folders whose names count. Or why it is not kept. `credentials` are the names of
/// variables that are set and may hold some.
pub(super) fn judge(
    observed: &Observed,
    allowed: &Allowed<'_>,
    credentials: &[String],
) -> Result<Vec<String>, NotKept> {
    if !observed.network.is_empty() {
        return Err(NotKept::Network(observed.network.clone()));
    }
    let is_known = |program: &String| match kind_of(program) {
        Program::Git => true,
        Program::Mercurial => allowed.programs || allowed.has_no_mercurial(),
        Program::Installer => false,
        Program::Other => allowed.programs,
    };
    let programs: Vec<String> = observed.programs.iter().filter(|program| !is_known(program)).cloned().collect();
    if !programs.is_empty() {
        return Err(NotKept::Programs(programs));
    }
    if started_git(observed)
        && let Some(place) = allowed.other_repository()
    {
        return Err(NotKept::Repository(place.display().to_string()));
    }
    let of_use = |wanted| {
        let is_of_use = move |path: &&String| allowed.use_of(Path::new(path)) == wanted;
        observed.outside.iter().filter(is_of_use).cloned().collect::<Vec<_>>()
    };
    let unknown = of_use(PathUse::Unknown);
    if !unknown.is_empty() || observed.truncated {
        return Err(NotKept::Outside(unknown));
    }
    let mut read: Vec<String> = observed.variables.iter().filter(|name| is_credential(name)).cloned().collect();
    if observed.environment_taken {
        read.extend_from_slice(credentials);
    }
    if !read.is_empty() {
        read.sort_unstable();
        read.dedup();
        return Err(NotKept::Credentials(read));
    }
    let mut inputs = of_use(PathUse::Names);
    if started_git(observed) {
        inputs.push(GIT.to_owned());
    }
    match observed.environment_taken {
        true => inputs.push(ALL.to_owned()),
        false => inputs.extend_from_slice(&observed.variables),
    }
    Ok(inputs)
}

/// Whether git was started.
pub(super) fn started_git(observed: &Observed) -> bool {
    observed.programs.iter().any(|program| kind_of(program) == Program::Git)
}

/// What is known of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// What it says depends on the repository, which is part of the tree's state, and on
    /// its configuration, which counts then.
    Git,
    /// setuptools-scm before 8 starts it, whether it is there or not. Its repositories are not
    /// part of any state.
    Mercurial,
    /// What it installs depends on an index and on its own configuration.
    Installer,
    Other,
}

fn kind_of(program: &str) -> Program {
    match Path::new(program).file_name().and_then(OsStr::to_str) {
        Some("git") => Program::Git,
        Some("hg") => Program::Mercurial,
        Some("uv" | "uvx") => Program::Installer,
        Some(name)
            if name.strip_prefix("pip").is_some_and(|rest| rest.chars().all(|it| it == '.' || it.is_ascii_digit())) =>
        {
            Program::Installer
        }
        _ => Program::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_verdicts() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let nothing = Observed::default();
        let with = |change: &dyn Fn(&mut Observed)| {
            let mut observed = nothing.clone();
            change(&mut observed);
            observed
        };
        let tree = Path::new("/run/run-1/inner/a-1");
        let known = [PathBuf::from("/home/me/.pydistutils.cfg")];
        let strict = Allowed {
            programs: false,
            known: &known,
            above: &[],
            has_own_repository: false,
            tree,
            own: Some(Path::new("/run/run-1")),
        };
        let above = [PathBuf::from("/run/.git")];
        let below = Allowed { above: &above, ..strict };
        let mercurial = [PathBuf::from("/run/.hg")];
        let below_hg = Allowed { above: &mercurial, ..strict };
        let own = Allowed { has_own_repository: true, ..below };
        let all = Allowed { programs: true, ..strict };
        let repository = || NotKept::Repository("/run/.git".into());
        let token = list(&["MY_TOKEN"]);
        for (observed, allowed, credentials, expected) in [
            (nothing.clone(), strict, &token, Ok(list(&[]))),
            (with(&|o| o.variables = list(&["TERM"])), strict, &token, Ok(list(&["TERM"]))),
            (with(&|o| o.environment_taken = true), strict, &list(&[]), Ok(list(&["*"]))),
            (with(&|o| o.environment_taken = true), strict, &token, Err(NotKept::Credentials(token.clone()))),
            (with(&|o| o.variables = token.clone()), all, &list(&[]), Err(NotKept::Credentials(token.clone()))),
            (with(&|o| o.network = list(&["connect"])), all, &token, Err(NotKept::Network(list(&["connect"])))),
            (with(&|o| o.programs = list(&["/usr/bin/git"])), strict, &token, Ok(list(&[GIT]))),
            (with(&|o| o.programs = list(&["/usr/bin/git"])), own, &token, Ok(list(&[GIT]))),
            (with(&|o| o.programs = list(&["/usr/bin/git"])), below, &token, Err(repository())),
            (with(&|o| o.programs = list(&["hg"])), strict, &token, Ok(list(&[]))),
            (with(&|o| o.programs = list(&["hg"])), below_hg, &token, Err(NotKept::Programs(list(&["hg"])))),
            (with(&|o| o.programs = list(&["git", "cc"])), own, &token, Err(NotKept::Programs(list(&["cc"])))),
            (with(&|o| o.programs = list(&["cc", "hg", "pipx"])), all, &token, Ok(list(&[]))),
            (with(&|o| o.programs = list(&["cc", "pip"])), all, &token, Err(NotKept::Programs(list(&["pip"])))),
            (with(&|o| o.programs = list(&["/b/pip3.11"])), all, &token, Err(NotKept::Programs(list(&["/b/pip3.11"])))),
            (with(&|o| o.programs = list(&["uv"])), all, &token, Err(NotKept::Programs(list(&["uv"])))),
            (with(&|o| o.outside = list(&["/home/me/.pydistutils.cfg"])), strict, &token, Ok(list(&[]))),
            (
                with(&|o| o.outside = list(&["/home/me/.other"])),
                strict,
                &token,
                Err(NotKept::Outside(list(&["/home/me/.other"]))),
            ),
            (with(&|o| o.outside = list(&["/run/run-1/inner", "/run/run-1/x"])), strict, &token, Ok(list(&[]))),
            (with(&|o| o.outside = list(&["/", "/run/"])), strict, &token, Ok(list(&["/", "/run/"]))),
            (with(&|o| o.outside = list(&["/run"])), strict, &token, Err(NotKept::Outside(list(&["/run"])))),
            (with(&|o| o.outside = list(&["/run/PKG-INFO"])), strict, &token, Ok(list(&[]))),
            (with(&|o| o.outside = list(&["/run/x"])), strict, &token, Err(NotKept::Outside(list(&["/run/x"])))),
            (with(&|o| o.outside = list(&["/etc/x"])), all, &token, Err(NotKept::Outside(list(&["/etc/x"])))),
        ] {
            assert_eq!(judge(&observed, &allowed, credentials), expected, "{observed:?}");
        }
    }

    #[test]
    fn long_lists_are_shortened() {
        let paths = ["/a", "/b", "/c", "/d"].map(str::to_owned).to_vec();
        assert_eq!(NotKept::Outside(paths).to_string(), "the hook used /a, /b, /c and 1 more");
    }
}
