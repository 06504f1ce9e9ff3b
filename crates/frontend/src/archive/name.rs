//! The names of members, and the targets of links.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{ArchiveProblem, escaped};
use super::limits::UnpackLimits;

/// The path of a member below the folder that is unpacked into, without `.` and `..`.
/// It is empty for `.`, with which some archives start.
pub(super) fn member_path(name: &[u8], limits: &UnpackLimits) -> Result<PathBuf, ArchiveProblem> {
    if name.is_empty() {
        return Err(ArchiveProblem::EmptyName);
    }
    if name.len() > limits.name_bytes {
        return Err(ArchiveProblem::NameTooLong { limit: limits.name_bytes });
    }
    if name.contains(&0) {
        return Err(ArchiveProblem::NulInName);
    }
    if name.starts_with(b"/") {
        return Err(ArchiveProblem::AbsoluteName);
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in components(name) {
        if component == b".." {
            return Err(ArchiveProblem::ParentInName);
        }
        depth += 1;
        if depth > limits.depth {
            return Err(ArchiveProblem::TooDeep { limit: limits.depth });
        }
        path.push(OsStr::from_bytes(component));
    }
    Ok(path)
}

/// The target of a symbolic link, normalised: first upwards, then only downwards.
///
/// `name/..` is removed, as Python's data filter does since 2025. If such a target does
/// not lead above the tree by itself, it does not with other links either: the steps
/// upwards start in a real folder and stay in the tree, and each step downwards leads
/// into something real, or along a link for which the same holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkTarget {
    upwards: usize,
    path: PathBuf,
}

impl LinkTarget {
    pub fn parse(target: &[u8], limits: &UnpackLimits) -> Result<Self, ArchiveProblem> {
        if target.is_empty() || target.contains(&0) {
            return Err(ArchiveProblem::MalformedLink);
        }
        if target.len() > limits.name_bytes {
            return Err(ArchiveProblem::NameTooLong { limit: limits.name_bytes });
        }
        if target.starts_with(b"/") {
            return Err(ArchiveProblem::AbsoluteLink { target: escaped(target) });
        }
        let mut upwards = 0;
        let mut downwards = Vec::new();
        for component in components(target) {
            if component != b".." {
                downwards.push(component);
            } else if downwards.pop().is_none() {
                upwards += 1;
            }
        }
        let mut path = PathBuf::from_iter(std::iter::repeat_n("..", upwards));
        path.extend(downwards.into_iter().map(OsStr::from_bytes));
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        Ok(Self { upwards, path })
    }

    /// The target for a link at `link` in the source tree, a path from [`member_path`],
    /// if it does not lead above the tree.
    pub fn within_tree(&self, link: &Path) -> Result<&Path, ArchiveProblem> {
        // The last component is the link itself, which is no folder to go up from.
        if self.upwards >= link.components().count() {
            return Err(ArchiveProblem::OutsideLink { target: escaped(self.path.as_os_str().as_bytes()) });
        }
        Ok(&self.path)
    }
}

fn components(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/').filter(|component| !component.is_empty() && *component != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain_components() {
        let path = |name: &[u8]| member_path(name, &UnpackLimits::default());
        assert_eq!(path(b"a/b").unwrap(), Path::new("a/b"));
        assert_eq!(path(b"./a//./b/").unwrap(), Path::new("a/b"));
        assert_eq!(path(b"./").unwrap(), Path::new(""));
        assert_eq!(path(b"a/..b/c..").unwrap(), Path::new("a/..b/c.."));
        assert_eq!(path(b"a\\..\\b").unwrap(), Path::new("a\\..\\b"));
        assert!(matches!(path(b""), Err(ArchiveProblem::EmptyName)));
        assert!(matches!(path(b"/a"), Err(ArchiveProblem::AbsoluteName)));
        assert!(matches!(path(b"a/../b"), Err(ArchiveProblem::ParentInName)));
        assert!(matches!(path(b".."), Err(ArchiveProblem::ParentInName)));
        assert!(matches!(path(b"a\0b"), Err(ArchiveProblem::NulInName)));
        assert!(matches!(path(&[b'x'; 1025]), Err(ArchiveProblem::NameTooLong { limit: 1024 })));
        assert!(matches!(path(&b"x/".repeat(65)), Err(ArchiveProblem::TooDeep { limit: 64 })));
        assert!(path(&b"x/".repeat(64)).is_ok());
    }

    fn target(link: &str, target: &[u8]) -> Result<PathBuf, ArchiveProblem> {
        let target = LinkTarget::parse(target, &UnpackLimits::default())?;
        target.within_tree(Path::new(link)).map(Path::to_owned)
    }

    #[test]
    fn links_stay_in_the_tree() {
        assert_eq!(target("a", b"b").unwrap(), Path::new("b"));
        assert_eq!(target("a", b".").unwrap(), Path::new("."));
        assert_eq!(target("a", b"./b/./c/").unwrap(), Path::new("b/c"));
        assert_eq!(target("d/a", b"..").unwrap(), Path::new(".."));
        assert_eq!(target("d/e/a", b"../../b").unwrap(), Path::new("../../b"));
        for (link, out) in [("a", ".."), ("a", "../top/b"), ("d/a", "../.."), ("d/a", "x/../../.."), ("", ".")] {
            assert!(matches!(target(link, out.as_bytes()), Err(ArchiveProblem::OutsideLink { .. })), "{link} -> {out}");
        }
        assert!(matches!(target("a", b"/etc/passwd"), Err(ArchiveProblem::AbsoluteLink { .. })));
        assert!(matches!(target("a", b""), Err(ArchiveProblem::MalformedLink)));
        assert!(matches!(target("a", b"x\0"), Err(ArchiveProblem::MalformedLink)));
        assert!(matches!(target("a", &[b'x'; 1025]), Err(ArchiveProblem::NameTooLong { limit: 1024 })));
    }

    #[test]
    fn steps_down_and_up_again_are_removed() {
        // If `d` is a link to a folder elsewhere in the tree, `d/..` leads to another
        // folder than it seems.
        assert_eq!(target("a", b"d/../b").unwrap(), Path::new("b"));
        assert_eq!(target("e/a", b"d/../../b").unwrap(), Path::new("../b"));
        assert_eq!(target("a", b"d/..").unwrap(), Path::new("."));
    }
}
