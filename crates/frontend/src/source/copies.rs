//! Archives that are one source under two names.

use std::path::Path;

use super::{SdistName, Source};
use crate::files::has_same_content;
use crate::metadata::is_same_distribution;

impl Source {
    /// Whether both are archives with the same content, which are called after
    /// the same version of the same distribution. Reads them to the end if need
    /// be. What cannot be read is no copy: whoever builds it is told why.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SourceArchive(one), Self::SourceArchive(two)) => {
                is_called_alike(one, two) && has_same_content(one, two).unwrap_or(false)
            }
            _ => false,
        }
    }
}

fn is_called_alike(one: &Path, two: &Path) -> bool {
    let (one, two) = (SdistName::readings(one), SdistName::readings(two));
    let pair = |reading: &SdistName| (reading.name.clone(), reading.version.clone());
    one.len() == two.len()
        && one
            .iter()
            .map(pair)
            .zip(two.iter().map(pair))
            .all(|(one, two)| is_same_distribution((&one.0, &one.1), (&two.0, &two.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_archives_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("other")).unwrap();
        let long = "x".repeat(3 << 20);
        let find = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Source::find(&path).unwrap()
        };
        let archive = find("Foo.bar-1.0.zip", &long);
        assert!(archive.is_copy_of(&find("other/foo_bar-1.0.0.zip", &long)));
        assert!(find("main.zip", "x").is_copy_of(&find("other/main.zip", "x")));
        for (name, content) in [
            ("other/foo_bar-1.1.zip", long.clone()),
            ("other/main.zip", long.clone()),
            ("other/Foo.bar-1.0.zip", "x".into()),
            ("other/Foo.bar-1.0.zip", format!("{}y", &long[1..])),
            ("other/foo_bar-1.0-py3-none-any.whl", long.clone()),
        ] {
            assert!(!archive.is_copy_of(&find(name, &content)), "{name}");
        }
        std::fs::remove_file(archive.path()).unwrap();
        assert!(!archive.is_copy_of(&find("other/Foo.bar-1.0.zip", &long)));
    }
}
