//! Which environment variables count.
//!
//! All do, except those that differ between terminals, sessions and jobs of
//! continuous integration. A hook that reads one of these is noticed: the variable
//! then counts for its answer. Credentials never count. A hook that reads one gets
//! no answer kept.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hookpool_supervisor::CallerProcess;
use hookpool_supervisor::files::{FileStamp, Moment};
use nix::unistd::{User, geteuid};

use super::digest::Digest;
use crate::redact::redact;

/// A process's environment variables.
pub(super) type EnvironmentVariables = BTreeMap<OsString, OsString>;

/// Variables that do not count unless a hook reads them. A `*` at either end stands
/// for any text.
const INCIDENTAL: &[&str] = &[
    // The shell, and where it was started.
    "_",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "PS1",
    "PS2",
    "PROMPT*",
    // The trace that a request belongs to (W3C Trace Context).
    "TRACEPARENT",
    "TRACESTATE",
    // The terminal.
    "TERM",
    "TERM_*",
    "TERMINFO*",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "LS_COLORS",
    "LESS*",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "STY",
    "TMUX*",
    "VTE_*",
    "KITTY_*",
    "KONSOLE_*",
    "ITERM_*",
    "WEZTERM_*",
    "WT_*",
    "VSCODE_*",
    "WINDOWID",
    // The session.
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_SESSION_*",
    "XDG_SEAT*",
    "XDG_VTNR",
    "XDG_RUNTIME_DIR",
    "DBUS_*",
    "SSH_*",
    "GPG_*",
    "HOSTNAME",
    "MAIL",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_*",
    "LISTEN_*",
    "NOTIFY_SOCKET",
    // The tests and jobs of continuous integration.
    "PYTEST_*",
    "ACTIONS_*",
    "AGENT_*",
    "APPVEYOR_*",
    "BITBUCKET_*",
    "BRANCH_NAME",
    "BUILDKITE_*",
    "BUILD_BUILD*",
    "BUILD_DISPLAY_NAME",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_QUEUEDBY*",
    "BUILD_REASON",
    "BUILD_REQUESTEDFOR*",
    "BUILD_SOURCEBRANCH*",
    "BUILD_SOURCEVERSION*",
    "BUILD_TAG",
    "BUILD_URL",
    "CHANGE_*",
    "CI_*",
    "CIRCLE_*",
    "CIRRUS_*",
    "CODEBUILD_*",
    "DRONE_*",
    "EXECUTOR_NUMBER",
    "GITHUB_*",
    "GITLAB_*",
    "GIT_BRANCH",
    "GIT_COMMIT",
    "GIT_LOCAL_BRANCH",
    "GIT_PREVIOUS_*",
    "HUDSON_*",
    "ImageVersion",
    "JENKINS_*",
    "JOB_*",
    "NODE_NAME",
    "RUNNER_*",
    "RUN_*",
    "STAGE_NAME",
    // Not all that begin so: SYSTEM_VERSION_COMPAT changes what macOS says of itself.
    "SYSTEM_JOB*",
    "SYSTEM_PHASE*",
    "SYSTEM_PLANID",
    "SYSTEM_PULLREQUEST_*",
    "SYSTEM_STAGE*",
    "SYSTEM_TASK*",
    "SYSTEM_TIMELINEID",
    "TEAMCITY_*",
    "TF_BUILD",
    "TRAVIS_*",
    // Set for hooks by hookpool.
    "HOOKPOOL_*",
    "VIRTUAL_ENV",
];

/// Variables that may hold credentials.
const CREDENTIALS: &[&str] = &[
    "*TOKEN*",
    "*PASSWORD*",
    "*PASSWD*",
    "*SECRET*",
    "*CREDENTIAL*",
    "*API_KEY*",
    "*APIKEY*",
    "*ACCESS_KEY*",
    "*PRIVATE_KEY*",
];

/// What a hook that has read all variables depends on.
pub(super) const ALL: &str = "*";

/// What a hook that has started git depends on: git's configuration.
pub(super) const GIT: &str = "*git";

/// The patterns of the variables that hooks are watched for.
pub(super) fn watched() -> Vec<&'static str> {
    [INCIDENTAL, CREDENTIALS].concat()
}

/// Whether a variable may hold credentials.
pub(super) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CREDENTIALS.iter().any(|pattern| matches(pattern, &name))
}

fn is_incidental(name: &str) -> bool {
    INCIDENTAL.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (Some(rest), None) => name.ends_with(rest),
        (None, Some(rest)) => name.starts_with(rest),
        (None, None) => name == pattern,
    }
}

/// The variables that always count, each as `NAME=VALUE`.
pub(super) fn counted(variables: &EnvironmentVariables) -> Vec<Vec<u8>> {
    let counts = |name: &str| !is_incidental(name) && !is_credential(name);
    variables
        .iter()
        .filter(|(name, _)| counts(&name.to_string_lossy()))
        .map(|(name, value)| line(name, value))
        .collect()
}

/// Those of a caller that always count; `None`: of this process.
pub(crate) fn counted_variables(caller: Option<&CallerProcess>) -> Vec<Vec<u8>> {
    match caller {
        Some(caller) => counted(&caller.variables),
        None => counted(&std::env::vars_os().collect()),
    }
}

/// The names of those of this process that do not always count.
pub(super) fn uncounted_variables() -> Vec<OsString> {
    let counts = |name: &str| !is_incidental(name) && !is_credential(name);
    std::env::vars_os().map(|(name, _)| name).filter(|name| !counts(&name.to_string_lossy())).collect()
}

/// The value of a variable that a hook has read. That of [`ALL`] stands for all that do
/// not always count; of credentials, for their names. That of [`GIT`] stands for the
/// contents of git's files. That of an absolute path stands for the names in the folder,
/// which a hook has listed. Blocks.
pub(super) fn value(variables: &EnvironmentVariables, name: &OsStr) -> Option<OsString> {
    if Path::new(name).is_absolute() {
        return names_in(Path::new(name)).ok();
    }
    if name == GIT {
        return Some(Digest::of_files(&files_of_git(variables)).to_string().into());
    }
    if name != ALL {
        return variables.get(name).cloned();
    }
    let lines = variables.iter().filter_map(|(name, value)| {
        let text = name.to_string_lossy();
        match (is_credential(&text), is_incidental(&text)) {
            (true, _) => Some(name.as_bytes().to_vec()),
            (false, true) => Some(line(name, value)),
            (false, false) => None,
        }
    });
    let lines: Vec<Vec<u8>> = lines.collect();
    Some(Digest::of_list(lines.iter().map(Vec::as_slice)).to_string().into())
}

/// The home folder of hooks, as Python and git see it.
pub(super) fn home(variables: &EnvironmentVariables) -> Option<PathBuf> {
    let home = match variables.get(OsStr::new("HOME")) {
        Some(home) => Some(PathBuf::from(home)),
        None => User::from_uid(geteuid()).ok().flatten().map(|user| user.dir),
    };
    // Another one is a folder in the tree of the hook.
    home.filter(|home| home.is_absolute())
}

/// The files that git reads whatever the repository. Those that they include do not count.
fn files_of_git(variables: &EnvironmentVariables) -> Vec<PathBuf> {
    let folder = |name: &str| variables.get(OsStr::new(name)).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home(variables);
    let own = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let own = own.into_iter().flat_map(|own| ["config", "ignore", "attributes"].map(|name| own.join("git").join(name)));
    let system = ["/etc/gitconfig", "/etc/gitattributes"].map(PathBuf::from);
    let named = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"].into_iter().filter_map(folder);
    home.as_ref().map(|home| home.join(".gitconfig")).into_iter().chain(own).chain(system).chain(named).collect()
}

fn names_in(folder: &Path) -> io::Result<OsString> {
    let mut names = folder.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(Digest::of_list(names.iter().map(|name| name.as_bytes())).to_string().into())
}

/// The state of a folder before a hook that may list it.
#[derive(Debug)]
pub(super) struct FolderBefore {
    stamp: FileStamp,
    /// If it was changed so shortly before that a later change may leave the same times.
    names: Option<OsString>,
}

impl FolderBefore {
    /// Blocks.
    pub fn look(folder: &Path) -> io::Result<Self> {
        let at = Moment::now();
        let stamp = FileStamp::of(&folder.metadata()?);
        let names = if stamp.is_settled(at) { None } else { Some(names_in(folder)?) };
        Ok(Self { stamp, names })
    }

    /// What stands for the names in the folder, if they were the same all the time.
    /// Blocks.
    pub fn names_since(&self, folder: &Path) -> Option<OsString> {
        let names = names_in(folder).ok()?;
        let stamp = FileStamp::of(&folder.metadata().ok()?);
        let is_same = stamp == self.stamp && self.names.as_ref().is_none_or(|before| *before == names);
        is_same.then_some(names)
    }
}

/// The names of variables that are set and may hold credentials.
pub(super) fn credentials(variables: &EnvironmentVariables) -> Vec<String> {
    let names = variables.keys().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| is_credential(name)).collect()
}

/// Without what an address may have before its `@`.
fn line(name: &OsStr, value: &OsStr) -> Vec<u8> {
    let mut line = name.to_owned().into_vec();
    line.push(b'=');
    match value.to_str() {
        Some(text) => line.extend_from_slice(redact(text).as_bytes()),
        None => line.extend_from_slice(value.as_bytes()),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_a_folder_count_if_nothing_changed_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let look = || FolderBefore::look(folder.path()).unwrap();
        let modified = || folder.path().metadata().unwrap().modified().unwrap();
        // It is new, as the cache folder in it is in a first run.
        let before = look();
        let names = before.names_since(folder.path()).unwrap();
        std::fs::write(&file, "").unwrap();
        assert_eq!(before.names_since(folder.path()), None);
        let with_file = look();
        assert!(with_file.names_since(folder.path()).is_some_and(|other| other != names));
        // There again, after it was gone.
        let time = modified();
        while modified() == time {
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, "").unwrap();
        }
        assert_eq!(with_file.names_since(folder.path()), None);
        assert!(look().names_since(folder.path()).is_some());
    }

    fn variables(pairs: &[(&str, &str)]) -> EnvironmentVariables {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn texts(lines: Vec<Vec<u8>>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("PWD", "PWD", true),
            ("PWD", "OLDPWD", false),
            ("SSH_*", "SSH_AUTH_SOCK", true),
            ("SSH_*", "MY_SSH_", false),
            ("*TOKEN*", "GITHUB_TOKEN", true),
            ("*TOKEN*", "TOKENS", true),
            ("*TOKEN*", "TAKEN", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_guide_lists_all_patterns() {
        let guide = include_str!("../../../../docs/src/guide/answers.md");
        for pattern in watched() {
            assert!(guide.contains(&format!("`{pattern}`")), "{pattern}");
        }
    }

    #[test]
    fn the_home_folder() {
        let user = User::from_uid(geteuid()).unwrap().unwrap().dir;
        for (set, expected) in [
            (variables(&[("HOME", "/home/me")]), Some(PathBuf::from("/home/me"))),
            (variables(&[]), Some(user)),
            (variables(&[("HOME", "")]), None),
            (variables(&[("HOME", "me")]), None),
        ] {
            assert_eq!(home(&set), expected, "{set:?}");
        }
    }

    #[test]
    fn gits_configuration_counts_where_git_was_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let set = variables(&[("HOME", &path("")), ("GIT_CONFIG_GLOBAL", &path("named"))]);
        std::fs::create_dir_all(path(".config/git")).unwrap();
        let of_git = || value(&set, OsStr::new(GIT));
        for name in [".gitconfig", ".config/git/config", ".config/git/ignore", ".config/git/attributes", "named"] {
            let before = of_git();
            std::fs::write(path(name), "").unwrap();
            assert_ne!(of_git(), before, "{name}");
        }
        let before = of_git();
        std::fs::write(path(".pydistutils.cfg"), "").unwrap();
        assert_eq!(of_git(), before);
    }

    #[test]
    fn what_counts() {
        let set = variables(&[
            ("CFLAGS", "-O2"),
            ("TERM", "xterm"),
            ("MY_TOKEN", "secret"),
            ("my_password", "secret"),
            ("PIP_INDEX_URL", "https://user:secret@host/simple"),
        ]);
        assert_eq!(texts(counted(&set)), ["CFLAGS=-O2", "PIP_INDEX_URL=https://***@host/simple"]);
        assert_eq!(credentials(&set), ["MY_TOKEN", "my_password"]);
        let of = |set: &EnvironmentVariables, name: &str| value(set, OsStr::new(name));
        assert_eq!((of(&set, "TERM"), of(&set, "COLUMNS")), (Some("xterm".into()), None));
        let all = of(&set, ALL);
        for (name, value, expected) in
            [("CFLAGS", "-O3", true), ("MY_TOKEN", "other", true), ("TERM", "dumb", false), ("A_TOKEN", "", false)]
        {
            let mut changed = set.clone();
            changed.insert(name.into(), value.into());
            assert_eq!(of(&changed, ALL) == all, expected, "{name}");
        }
    }
}
