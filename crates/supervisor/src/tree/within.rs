//! The trees whose hooks wait for this process: it was started by one of them,
//! or by what that started.
//!
//! To wait for the lock of such a tree would be to wait for oneself. Processes
//! cannot be asked whose hook they belong to, since a hook may detach what it
//! starts; so each worker adds its tree to a variable, which is handed down.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::identity::{Tree, TreeId};
use crate::error::{ErrorKind, HookError};

/// `DEVICE:INODE` of each tree, with blanks between. Written by the worker.
const VARIABLE: &str = "HOOKPOOL_WITHIN";

/// Whether this process was started by a hook, or by what a hook started.
///
/// Such a program has the job slot of that hook, and should run one hook at a
/// time ([`Limits::jobs`](crate::Limits::jobs)): the supervisor above counts no
/// more.
#[must_use]
pub fn is_within_hook() -> bool {
    !Within::of_this_process().trees.is_empty()
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Within {
    trees: BTreeSet<TreeId>,
}

impl Within {
    pub fn of_this_process() -> Self {
        std::env::var_os(VARIABLE).as_deref().map(Self::parse).unwrap_or_default()
    }

    /// What is no tree is skipped: anybody can set the variable.
    fn parse(value: &OsStr) -> Self {
        let tree = |word: &str| {
            let (device, inode) = word.split_once(':')?;
            Some(TreeId { device: device.parse().ok()?, inode: inode.parse().ok()? })
        };
        Self { trees: value.to_string_lossy().split_ascii_whitespace().filter_map(tree).collect() }
    }

    /// Whether a hook of the tree may be waiting for this process.
    pub fn contains(&self, tree: &Tree) -> bool {
        self.trees.contains(&tree.id)
    }
}

/// The answer to a request that would wait for itself.
pub(crate) fn recursion(path: &Path) -> HookError {
    let message = format!(
        "source tree {}: a hook of it is running, and this request comes from within that hook: it would wait for itself",
        path.display()
    );
    HookError::new(ErrorKind::HookRecursion, message)
        .with_hint("a hook can have other trees built; for its own it has to call the build backend itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trees_of_the_variable() {
        let trees = |text: &str| Within::parse(OsStr::new(text)).trees.into_iter().collect::<Vec<_>>();
        let (one, two) = (TreeId { device: 3, inode: 4 }, TreeId { device: 3, inode: 5 });
        assert_eq!(trees("3:4"), [one]);
        assert_eq!(trees("3:4 3:5 3:4"), [one, two]);
        assert!(trees("").is_empty() && trees("3 x:y 3: :4 -1:2").is_empty());
    }
}
