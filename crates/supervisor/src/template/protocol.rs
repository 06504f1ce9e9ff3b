//! All messages between the supervisor and a template over the template's
//! socket. "The template" in docs/src/reference/protocol.md specifies them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::variables::ReadVariables;
use crate::interpreter::{Stamp, Watched};

/// A message to a template: one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum TemplateOrder {
    /// Set the variables of a file, whose descriptor is sent with the packet.
    Variables { variables: bool },
    /// Import this module now.
    Backend { backend: String },
    /// Import these modules: before the first fork if there was none yet,
    /// otherwise when idle.
    Learned { learned: Vec<String> },
    /// Fork a worker. Its descriptors are sent with the packet.
    Fork {
        fork: u64,
        arguments: Vec<String>,
        /// Whether the last descriptor is a file with its variables.
        #[serde(skip_serializing_if = "is_false")]
        variables: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        umask: Option<u32>,
        /// Each with its name, and the soft and the hard limit.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        limits: Vec<(String, Option<u64>, Option<u64>)>,
    },
    /// Reap this dead worker, which frees its pid.
    Reap { reap: u32 },
    /// Fork no more workers, and exit after the last one.
    Retire { retire: bool },
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A message of a template: one packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum TemplateReport {
    Started {
        started: Started,
    },
    /// It begins to import these.
    Importing {
        importing: Preload,
    },
    Imported(Imported),
    Refused(Refused),
    /// The answer to `Fork`.
    Forked {
        forked: u64,
        pid: u32,
    },
    /// The answer to `Fork` if it failed.
    NotForked {
        not_forked: u64,
        reason: String,
        /// Because of variables that imports have read.
        #[serde(default)]
        differs: bool,
    },
    /// Imports have read these variables.
    Read {
        read: ReadVariables,
    },
    /// The answer to `Reap`, with the wait status.
    Reaped {
        reaped: u32,
        status: Option<i32>,
    },
    /// It has killed these processes, which a worker left behind.
    Killed {
        killed: Vec<u32>,
    },
    /// It has imported all learned modules, and has so many modules loaded.
    Idle {
        idle: usize,
    },
}

/// The interpreter runs, and nothing was preloaded yet. Long lists come in
/// several packets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Started {
    #[serde(default)]
    pub modules: Vec<LoadedModule>,
    /// The folders of `sys.path`, and when they were modified.
    #[serde(default)]
    pub folders: Vec<(PathBuf, Option<i64>)>,
    #[serde(default)]
    /// Another packet continues the list.
    pub more: bool,
}

/// What a template imports before hooks need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preload {
    Backend,
    Learned,
}

/// What these imports have loaded. Long lists come in several packets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Imported {
    pub imported: Preload,
    #[serde(default)]
    pub modules: Vec<LoadedModule>,
    /// The folders of new packages.
    #[serde(default)]
    pub folders: Vec<(PathBuf, Option<i64>)>,
    /// Another packet continues the list.
    #[serde(default)]
    pub more: bool,
}

/// These must not be preloaded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Refused {
    pub refused: Preload,
    pub reason: String,
    /// The attempt has changed the template's process, which must be replaced.
    /// Another attempt would have the same result.
    pub spoilt: bool,
}

/// A module and its file, as it was when it was imported.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct LoadedModule {
    pub name: String,
    pub file: PathBuf,
    pub device: Option<u64>,
    pub inode: Option<u64>,
    pub size: Option<u64>,
    pub mtime_ns: Option<i64>,
}

impl LoadedModule {
    pub fn watched(&self) -> Watched {
        let stamp = self.size.zip(self.mtime_ns).map(|(size, modified)| Stamp {
            identity: self.device.zip(self.inode),
            size,
            modified,
        });
        Watched::File { path: self.file.clone(), stamp }
    }
}

/// The folders with their present content. A folder that has changed since the
/// template read it counts as stale, because its former content is unknown.
/// Blocks.
pub(crate) fn watched_folders(folders: &[(PathBuf, Option<i64>)]) -> Vec<Watched> {
    folders.iter().map(|(path, modified)| Watched::folder_as_of(path, *modified)).collect()
}

/// Orders to preload learned modules, in packets small enough for every socket.
pub(super) fn learned_orders(names: &[String]) -> impl Iterator<Item = TemplateOrder> {
    const NAMES_IN_A_PACKET: usize = 200;
    names.chunks(NAMES_IN_A_PACKET).map(|names| TemplateOrder::Learned { learned: names.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let report = |text: &str| serde_json::from_str::<TemplateReport>(text).unwrap();
        assert_eq!(report(r#"{"forked": 7, "pid": 123}"#), TemplateReport::Forked { forked: 7, pid: 123 });
        let refused = report(r#"{"refused": "learned", "reason": "it prints", "spoilt": true}"#);
        assert!(matches!(refused, TemplateReport::Refused(Refused { refused: Preload::Learned, spoilt: true, .. })));
        let imported = report(
            r#"{"imported": "backend", "more": false, "folders": [["/a", 5]], "modules": [
                {"name": "six", "file": "/a/six.py", "device": 1, "inode": 2, "size": 3, "mtime_ns": 4},
                {"name": "gone", "file": "/b", "device": null, "inode": null, "size": null, "mtime_ns": null}]}"#,
        );
        let TemplateReport::Imported(imported) = imported else { panic!("{imported:?}") };
        let stamp = Stamp { identity: Some((1, 2)), size: 3, modified: 4 };
        assert!(matches!(imported.modules[0].watched(), Watched::File { stamp: Some(found), .. } if found == stamp));
        assert!(matches!(imported.modules[1].watched(), Watched::File { stamp: None, .. }));
    }

    #[test]
    fn orders_are_one_object_each() {
        let order = |order: &TemplateOrder| serde_json::to_string(order).unwrap();
        assert_eq!(order(&TemplateOrder::Reap { reap: 5 }), r#"{"reap":5}"#);
        assert_eq!(order(&TemplateOrder::Learned { learned: vec!["a.b".into()] }), r#"{"learned":["a.b"]}"#);
    }
}
