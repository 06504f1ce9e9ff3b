//! The pip that is installed beside an interpreter: the one that its user knows
//! and keeps up to date.

use std::path::{Path, PathBuf};

use hookpool_supervisor::Interpreter;

/// A pip in a folder of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::environment) struct OwnPip {
    /// The folder of packages that it is in.
    pub folder: PathBuf,
    /// As it says, `23.2.1` for example.
    pub version: String,
    /// Whether a keyring is there as well, which it can ask for credentials.
    pub has_keyring: bool,
}

impl OwnPip {
    /// The oldest that can install for another interpreter than its own.
    const OLDEST: (u32, u32) = (22, 3);

    /// Looks for it. Blocks, as looking at files does.
    pub fn find(interpreter: &Interpreter) -> Option<Self> {
        interpreter.site_folders.iter().find_map(|folder| Self::within(folder))
    }

    fn within(folder: &Path) -> Option<Self> {
        if !folder.join("pip/__main__.py").is_file() {
            return None;
        }
        let names = folder.read_dir().ok()?.flatten().map(|entry| entry.file_name());
        let version = names.filter_map(|name| pip_version(name.to_str()?).map(str::to_owned)).next()?;
        Some(Self { folder: folder.to_owned(), version, has_keyring: folder.join("keyring/__init__.py").is_file() })
    }

    /// Whether it is to be taken in place of the one that comes with Python.
    pub fn is_new_enough(&self) -> bool {
        release(&self.version) >= Self::OLDEST
    }
}

/// The version in the name of a folder of metadata.
fn pip_version(name: &str) -> Option<&str> {
    name.strip_prefix("pip-")?.strip_suffix(".dist-info")
}

/// The first two numbers of a version.
pub(super) fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let is_new_enough = |version: &str| {
            OwnPip { folder: PathBuf::new(), version: version.into(), has_keyring: false }.is_new_enough()
        };
        for (version, expected) in
            [("22.3", true), ("22.3.1", true), ("26.3", true), ("100.0", true), ("22.2.2", false), ("9.0.1", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        assert_eq!((release("26.3rc1"), release("x")), ((26, 3), (0, 0)));
        assert_eq!((pip_version("pip-26.3.dist-info"), pip_version("pipx-1.dist-info")), (Some("26.3"), None));
    }
}
