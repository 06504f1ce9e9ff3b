//! What a hook inherits from the process that asks for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

/// Environment variables.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What the process of a hook or a program inherits from its caller, in place of
/// this process. For a supervisor that serves other processes of the same user.
///
/// The nice value, the processors that may be used, and all else that a process
/// inherits stay those of this process; a hook's folder is its tree.
///
/// In JSON: `{"variables": [[NAME, VALUE]...], "umask": 18, "limits":
/// [{"resource": "RLIMIT_NOFILE", "soft": 1024, "hard": null}...]}`. A name or
/// value that is not UTF-8 is `{"base64": TEXT}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct CallerProcess {
    /// All of its environment variables.
    pub variables: BTreeMap<OsString, OsString>,
    /// Its file mode creation mask (umask(2)).
    pub umask: u32,
    /// Its resource limits.
    pub limits: Vec<ResourceLimit>,
}

/// A resource limit of a process (getrlimit(2)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// Its name in getrlimit(2), such as `RLIMIT_NOFILE`.
    pub resource: String,
    /// The limit that applies, in the unit of getrlimit(2). `None`: no limit.
    pub soft: Option<u64>,
    /// The highest that the process may set. One that is above this process's own
    /// counts as this process's own, which cannot be raised.
    pub hard: Option<u64>,
}

/// Why a description of a process is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCaller {
    /// The name of a variable.
    #[error("variables: {name:?} is not the name of a variable, expected one without = and NUL")]
    Name {
        /// The name.
        name: OsString,
    },
    /// The value of a variable. It is not part of the message, as it may be a secret.
    #[error("variables: the value of {name:?} contains a NUL, expected none")]
    Value {
        /// The name of the variable.
        name: OsString,
    },
    /// There are two variables of the same name.
    #[error("variables: {name:?} is there twice, expected each name once")]
    Twice {
        /// The name.
        name: OsString,
    },
    /// A name or a value is no base64.
    #[error("variables: an entry is not valid base64: {0}")]
    Base64(base64::DecodeError),
    /// The umask has other bits than those of permissions.
    #[error("umask: {0} is not a umask, expected 0 to 511")]
    Umask(u32),
    /// There is no such resource limit.
    #[error("limits: {0:?} is not a resource limit, expected a name of getrlimit(2), such as RLIMIT_NOFILE")]
    Resource(String),
}

impl CallerProcess {
    /// This process, for a client of a service to send.
    ///
    /// Call it before [`raise_open_files_limit`](crate::raise_open_files_limit).
    /// A limit that the system does not tell is left out.
    ///
    /// # Errors
    /// The umask cannot be read.
    pub fn of_this_process() -> io::Result<Self> {
        let limit = |&(name, resource): &(&str, Resource)| {
            let (soft, hard) = getrlimit(resource).ok()?;
            Some(ResourceLimit { resource: name.to_owned(), soft: finite(soft), hard: finite(hard) })
        };
        Ok(Self {
            variables: std::env::vars_os().collect(),
            umask: own_umask()?,
            limits: RESOURCES.iter().filter_map(limit).collect(),
        })
    }

    fn check(&self) -> Result<(), InvalidCaller> {
        for (name, value) in &self.variables {
            if name.is_empty() || name.as_bytes().iter().any(|byte| matches!(byte, b'=' | 0)) {
                return Err(InvalidCaller::Name { name: name.clone() });
            }
            if value.as_bytes().contains(&0) {
                return Err(InvalidCaller::Value { name: name.clone() });
            }
        }
        if self.umask > 0o777 {
            return Err(InvalidCaller::Umask(self.umask));
        }
        match self.limits.iter().find(|limit| resource(&limit.resource).is_none()) {
            Some(unknown) => Err(InvalidCaller::Resource(unknown.resource.clone())),
            None => Ok(()),
        }
    }

    /// What a child sets between its fork and its exec.
    pub(crate) fn inheritance(&self) -> Inheritance {
        let limit = |limit: &ResourceLimit| Some((resource(&limit.resource)?, limit.soft, limit.hard));
        let umask = Mode::from_bits_truncate(self.umask as _);
        Inheritance { umask, limits: self.limits.iter().filter_map(limit).collect() }
    }
}

/// Names without values, which may be secrets.
impl fmt::Debug for CallerProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.variables.keys().collect();
        formatter
            .debug_struct("CallerProcess")
            .field("variables", &names)
            .field("umask", &format_args!("{:#o}", self.umask))
            .field("limits", &self.limits)
            .finish()
    }
}

/// The umask and the limits of a caller, ready for a child that may not allocate.
#[derive(Clone, Debug)]
pub(crate) struct Inheritance {
    umask: Mode,
    limits: Vec<(Resource, Option<u64>, Option<u64>)>,
}

impl Inheritance {
    /// Sets them in this process, by bare system calls.
    pub fn set(&self) -> io::Result<()> {
        nix::sys::stat::umask(self.umask);
        for &(resource, soft, hard) in &self.limits {
            let (_, own) = getrlimit(resource)?;
            let lowest = |limit: Option<u64>| limit.map_or(own, |limit| limit.min(own));
            setrlimit(resource, lowest(soft), lowest(hard))?;
        }
        Ok(())
    }
}

/// The resources that Python's module `resource` has, too.
const RESOURCES: &[(&str, Resource)] = &[
    #[cfg(target_os = "linux")]
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    #[cfg(target_os = "linux")]
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    #[cfg(target_os = "linux")]
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    #[cfg(target_os = "linux")]
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    #[cfg(target_os = "linux")]
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    #[cfg(target_os = "linux")]
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    #[cfg(target_os = "linux")]
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    #[cfg(target_os = "linux")]
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    #[cfg(target_os = "linux")]
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

fn resource(name: &str) -> Option<Resource> {
    RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

fn finite(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit != nix::sys::resource::RLIM_INFINITY)
}

/// Without changing it, as umask(2) would: other threads may make files.
#[cfg(target_os = "linux")]
fn own_umask() -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    mask.ok_or_else(|| io::Error::other("/proc/self/status tells no umask"))
}

#[cfg(not(target_os = "linux"))]
fn own_umask() -> io::Result<u32> {
    let mask = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    nix::sys::stat::umask(mask);
    Ok(mask.bits().into())
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    variables: Vec<(Text, Text)>,
    umask: u32,
    limits: Vec<ResourceLimit>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes { base64: String },
}

impl Text {
    fn new(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Utf8(text.to_owned()),
            None => Self::Bytes { base64: STANDARD.encode(text.as_bytes()) },
        }
    }

    fn decode(self) -> Result<OsString, InvalidCaller> {
        match self {
            Self::Utf8(text) => Ok(text.into()),
            Self::Bytes { base64 } => STANDARD.decode(base64).map(OsString::from_vec).map_err(InvalidCaller::Base64),
        }
    }
}

impl From<CallerProcess> for Wire {
    fn from(caller: CallerProcess) -> Self {
        let variables = caller.variables.iter().map(|(name, value)| (Text::new(name), Text::new(value)));
        Self { variables: variables.collect(), umask: caller.umask, limits: caller.limits }
    }
}

impl TryFrom<Wire> for CallerProcess {
    type Error = InvalidCaller;

    fn try_from(wire: Wire) -> Result<Self, InvalidCaller> {
        let mut variables = Variables::new();
        for (name, value) in wire.variables {
            let name = name.decode()?;
            if variables.insert(name.clone(), value.decode()?).is_some() {
                return Err(InvalidCaller::Twice { name });
            }
        }
        let caller = Self { variables, umask: wire.umask, limits: wire.limits };
        caller.check().map(|()| caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_process_comes_back_from_json_as_it_was() {
        let mut caller = CallerProcess::of_this_process().unwrap();
        caller.variables.insert(OsString::from_vec(vec![b'A', 0xff]), OsString::from_vec(vec![0xfe]));
        let text = serde_json::to_string(&caller).unwrap();
        assert!(text.contains(r#"[{"base64":"Qf8="},{"base64":"/g=="}]"#), "{text}");
        assert_eq!(serde_json::from_str::<CallerProcess>(&text).unwrap(), caller);
        assert!(caller.limits.iter().any(|limit| limit.resource == "RLIMIT_NOFILE" && limit.soft.is_some()));
    }

    #[test]
    fn an_invalid_process_is_refused_with_the_reason() {
        let limit = json!({"resource": "RLIMIT_WISHES", "soft": 1, "hard": null});
        for (variables, umask, limits, expected) in [
            (json!([["A=", "1"]]), 18, json!([]), "variables: \"A=\" is not the name"),
            (json!([["", "1"]]), 18, json!([]), "variables: \"\" is not the name"),
            (json!([["A", "\0"]]), 18, json!([]), "the value of \"A\" contains a NUL"),
            (json!([["A", "1"], ["A", "2"]]), 18, json!([]), "\"A\" is there twice"),
            (json!([["A", {"base64": "?"}]]), 18, json!([]), "not valid base64"),
            (json!([]), 512, json!([]), "umask: 512 is not a umask"),
            (json!([]), 18, json!([limit]), "limits: \"RLIMIT_WISHES\" is not a resource limit"),
        ] {
            let value = json!({"variables": variables, "umask": umask, "limits": limits});
            let error = serde_json::from_value::<CallerProcess>(value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn no_value_gets_into_a_log() {
        let variables = [("TOKEN".into(), "secret".into())].into();
        let caller = CallerProcess { variables, umask: 0o22, limits: Vec::new() };
        let shown = format!("{caller:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("secret"), "{shown}");
    }
}
