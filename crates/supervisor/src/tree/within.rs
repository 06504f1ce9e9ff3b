//! The trees whose hooks may wait for this process, because it descends from one
//! of their hooks.
//!
//! If it waited for the lock of such a tree, it would wait for itself. The
//! process tree does not tell whose hook a process belongs to, since a hook may
//! detach processes. So each worker adds its tree to an environment variable,
//! which descendants inherit.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::identity::{Tree, TreeId};
use crate::caller::Variables;
use crate::error::{ErrorKind, HookError};

/// `DEVICE:INODE` of each tree, separated by blanks. Set by the worker.
const VARIABLE: &str = "HOOKPOOL_WITHIN";

/// Whether this process descends from a hook.
///
/// Such a program uses the job slot of that hook, and should run one hook at a
/// time ([`Limits::jobs`](crate::Limits::jobs)).
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

    /// Those that wait for a process with these variables.
    pub fn of(variables: &Variables) -> Self {
        variables.get(OsStr::new(VARIABLE)).map(OsString::as_os_str).map(Self::parse).unwrap_or_default()
    }

    /// Skips invalid words: the variable may be set by any program.
    fn parse(value: &OsStr) -> Self {
        let tree = |word: &str| {
            let (device, inode) = word.split_once(':')?;
            Some(TreeId { device: device.parse().ok()?, inode: inode.parse().ok()? })
        };
        Self { trees: value.to_string_lossy().split_ascii_whitespace().filter_map(tree).collect() }
    }

    /// Whether a hook of the tree may wait for this process.
    pub fn contains(&self, tree: &Tree) -> bool {
        self.trees.contains(&tree.id)
    }
}

/// The error of a request that would wait for itself.
pub(crate) fn recursion(path: &Path) -> HookError {
    let message = format!(
        "source tree {}: a hook of it is running, and this request comes from within that hook: it would wait for itself",
        path.display()
    );
    HookError::new(ErrorKind::HookRecursion, message)
        .with_hint("a hook can build other trees; for its own tree it must call the build backend itself")
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
