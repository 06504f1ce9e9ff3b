//! Finding the source tree in an archive.

use std::ffi::OsString;
use std::path::Path;

/// What is at the top of an archive. Source distributions have one folder there, which
/// is the tree (PEP 625). In other archives, all of the archive is the tree, as for pip
/// and uv.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Top {
    /// Nothing yet.
    #[default]
    Nothing,
    /// One folder.
    Folder(OsString),
    /// Several things, or one that is no folder.
    Several,
}

impl Top {
    /// Adds a member with this path, which is not empty.
    pub fn add(&mut self, path: &Path, is_folder: bool) {
        let mut components = path.components();
        let Some(first) = components.next().map(|component| component.as_os_str()) else { return };
        let is_folder = is_folder || components.next().is_some();
        match self {
            Self::Nothing if is_folder => *self = Self::Folder(first.to_owned()),
            Self::Folder(name) if is_folder && name == first => {}
            _ => *self = Self::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(members: &[&str]) -> Top {
        let mut top = Top::default();
        members.iter().for_each(|name| top.add(Path::new(name), name.ends_with('/')));
        top
    }

    #[test]
    fn the_tree_is_one_folder_or_everything() {
        let one = Top::Folder("a-1".into());
        assert_eq!(top(&[]), Top::Nothing);
        assert_eq!(top(&["a-1/"]), one);
        assert_eq!(top(&["a-1/setup.py", "a-1/", "a-1/b/c"]), one);
        for members in [&["setup.py"][..], &["a-1"], &["a-1/", "setup.py"], &["a-1/x", "b/x"], &["x", "x/y"]] {
            assert_eq!(top(members), Top::Several, "{members:?}");
        }
    }
}
