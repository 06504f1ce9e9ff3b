//! The names of members, and of what links point to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::ArchiveProblem;
use super::fault::escaped;
use super::limits::UnpackLimits;

/// A member's name as a path below the folder that is unpacked into: plain
/// components only. It is empty for `.`, which some archives start with.
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

/// What the symbolic link at `link`, a path that [`member_path`] gave, may point
/// to: first upwards, not above the folder at the top, then downwards only.
///
/// `name/..` is taken out, as Python's data filter does since 2025. What is left
/// cannot lead out of the tree, whatever the other links are: going up starts in
/// a real folder and stays below the top one, and each step down is into
/// something real, or along a link for which the same holds.
pub(super) fn link_target(link: &Path, target: &[u8], limits: &UnpackLimits) -> Result<PathBuf, ArchiveProblem> {
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
    // The folder at the top and the link itself are not to be left.
    if upwards > link.components().count().saturating_sub(2) {
        return Err(ArchiveProblem::OutsideLink { target: escaped(target) });
    }
    let mut path = PathBuf::from_iter(std::iter::repeat_n("..", upwards));
    path.extend(downwards.into_iter().map(OsStr::from_bytes));
    if path.as_os_str().is_empty() {
        path.push(".");
    }
    Ok(path)
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

    #[test]
    fn links_stay_in_the_tree() {
        let target =
            |link: &str, target: &str| link_target(Path::new(link), target.as_bytes(), &UnpackLimits::default());
        assert_eq!(target("top/a", "b").unwrap(), Path::new("b"));
        assert_eq!(target("top/a", ".").unwrap(), Path::new("."));
        assert_eq!(target("top/a", "./b/./c/").unwrap(), Path::new("b/c"));
        assert_eq!(target("top/d/a", "..").unwrap(), Path::new(".."));
        assert_eq!(target("top/d/e/a", "../../b").unwrap(), Path::new("../../b"));
        for (link, out) in [("top/a", ".."), ("top/a", "../top/b"), ("top/d/a", "../.."), ("top/d/a", "x/../../..")] {
            assert!(matches!(target(link, out), Err(ArchiveProblem::OutsideLink { .. })), "{link} -> {out}");
        }
        assert!(matches!(target("top/a", "/etc/passwd"), Err(ArchiveProblem::AbsoluteLink { .. })));
        assert!(matches!(target("top/a", ""), Err(ArchiveProblem::MalformedLink)));
        assert!(matches!(target("top/a", "x\0"), Err(ArchiveProblem::MalformedLink)));
    }

    #[test]
    fn going_down_and_up_again_is_taken_out() {
        let limits = UnpackLimits::default();
        // If `d` is a link to a folder elsewhere in the tree, `d/..` is not
        // where it seems to be.
        assert_eq!(link_target(Path::new("top/a"), b"d/../b", &limits).unwrap(), Path::new("b"));
        assert_eq!(link_target(Path::new("top/e/a"), b"d/../../b", &limits).unwrap(), Path::new("../b"));
        assert_eq!(link_target(Path::new("top/a"), b"d/..", &limits).unwrap(), Path::new("."));
    }
}
