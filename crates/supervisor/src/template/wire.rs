//! All messages over the socket between the supervisor and a template; see
//! "The template" in the protocol's reference.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::interpreter::{Stamp, Watched};

/// What a template is told. One packet each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Order {
    /// Import this module at once.
    Backend { backend: String },
    /// Import these when idle, or at once before the first worker is forked.
    Learned { learned: Vec<String> },
    /// Fork a worker; its descriptors come with the packet.
    Fork { fork: u64, arguments: Vec<String> },
    /// This worker's death was seen; its pid may be given away.
    Reap { reap: u32 },
    /// Fork nothing more, and exit when the last worker has.
    Retire { retire: bool },
}

/// What a template says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Report {
    Started {
        started: Started,
    },
    /// These imports begin.
    Importing {
        importing: Preload,
    },
    Imported(Imported),
    Refused(Refused),
    Forked {
        forked: u64,
        pid: u32,
    },
    NotForked {
        not_forked: u64,
        reason: String,
    },
    Reaped {
        reaped: u32,
        status: Option<i32>,
    },
    Killed {
        killed: Vec<u32>,
    },
    Idle {
        idle: usize,
    },
}

/// The interpreter runs; nothing was preloaded yet. Long lists come in several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Started {
    #[serde(default)]
    pub modules: Vec<LoadedModule>,
    /// The folders of `sys.path`, and when they were modified.
    #[serde(default)]
    pub folders: Vec<(PathBuf, Option<i64>)>,
    #[serde(default)]
    pub more: bool,
}

/// What is imported ahead of the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preload {
    Backend,
    Learned,
}

/// What came with these imports. Long lists come in several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Imported {
    pub imported: Preload,
    #[serde(default)]
    pub modules: Vec<LoadedModule>,
    /// The folders of new packages.
    #[serde(default)]
    pub folders: Vec<(PathBuf, Option<i64>)>,
    /// Another packet goes on with the list.
    #[serde(default)]
    pub more: bool,
}

/// These are not to be preloaded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Refused {
    pub refused: Preload,
    pub reason: String,
    /// The attempt has changed the template's state: it is of no use any more,
    /// and another attempt would end as this one did.
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

/// Folders as what is watched. Those that have changed since the template saw
/// them, too: what they offered then, nobody knows. Blocks.
pub(crate) fn watched_folders(folders: &[(PathBuf, Option<i64>)]) -> Vec<Watched> {
    folders.iter().map(|(path, modified)| Watched::folder_as_of(path, *modified)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let report = |text: &str| serde_json::from_str::<Report>(text).unwrap();
        assert_eq!(report(r#"{"forked": 7, "pid": 123}"#), Report::Forked { forked: 7, pid: 123 });
        let refused = report(r#"{"refused": "learned", "reason": "it prints", "spoilt": true}"#);
        assert!(matches!(refused, Report::Refused(Refused { refused: Preload::Learned, spoilt: true, .. })));
        let imported = report(
            r#"{"imported": "backend", "more": false, "folders": [["/a", 5]], "modules": [
                {"name": "six", "file": "/a/six.py", "device": 1, "inode": 2, "size": 3, "mtime_ns": 4},
                {"name": "gone", "file": "/b", "device": null, "inode": null, "size": null, "mtime_ns": null}]}"#,
        );
        let Report::Imported(imported) = imported else { panic!("{imported:?}") };
        let stamp = Stamp { identity: Some((1, 2)), size: 3, modified: 4 };
        assert!(matches!(imported.modules[0].watched(), Watched::File { stamp: Some(found), .. } if found == stamp));
        assert!(matches!(imported.modules[1].watched(), Watched::File { stamp: None, .. }));
    }

    #[test]
    fn orders_are_one_object_each() {
        let order = |order: &Order| serde_json::to_string(order).unwrap();
        assert_eq!(order(&Order::Reap { reap: 5 }), r#"{"reap":5}"#);
        assert_eq!(order(&Order::Learned { learned: vec!["a.b".into()] }), r#"{"learned":["a.b"]}"#);
    }
}
