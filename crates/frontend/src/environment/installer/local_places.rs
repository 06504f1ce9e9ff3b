//! Local folders in which installers look for distributions, and local pages with
//! links. Their contents are part of the key of an environment.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep508_rs::PackageName;
use url::Url;

use super::setting::InstallerSetting;
use crate::environment::contents::digest;

/// Folders and pages.
#[derive(Default)]
pub(super) struct LocalPlaces(Vec<PathBuf>);

/// The endings of the files that installers look for.
const ENDINGS: [&str; 9] = [".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".htm", ".html"];

impl LocalPlaces {
    /// The places that an installer is told of. `home` is the user's folder.
    pub fn of<'a>(settings: impl Iterator<Item = &'a InstallerSetting>, home: Option<&Path>) -> Self {
        Self(settings.filter(|setting| setting.says_where()).flat_map(|setting| places(setting, home)).collect())
    }

    /// A digest of the names, sizes and times of the files there now; `None` if there
    /// are no such places. Blocks, as looking at files does.
    pub fn digest(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut found: Vec<String> = self.0.iter().flat_map(|place| files_at(place)).collect();
        found.sort_unstable();
        found.dedup();
        Some(digest(found.iter().map(String::as_str)))
    }

    /// The names of the distributions there. Blocks, as looking at files does.
    pub fn names(&self) -> BTreeSet<String> {
        let entries = self.0.iter().filter_map(|place| place.read_dir().ok()).flatten().flatten();
        entries.filter_map(|entry| distribution_name(entry.file_name().to_str()?)).collect()
    }
}

/// The name of the distribution in the name of a file, normalised. In the name of a
/// wheel it contains no hyphen; in that of a source distribution it may.
fn distribution_name(file: &str) -> Option<String> {
    let name = match file.strip_suffix(".whl") {
        Some(wheel) => wheel.split('-').next(),
        None => {
            let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
            stem.rsplit_once('-').map(|(name, _)| name)
        }
    };
    PackageName::from_str(name.filter(|name| !name.is_empty())?).ok().map(|name| name.to_string())
}

/// All places that a value may mean: installers split it at spaces and commas, and a
/// path may contain either.
fn places<'a>(setting: &'a InstallerSetting, home: Option<&'a Path>) -> impl Iterator<Item = PathBuf> + 'a {
    let parts = setting.value.split(|letter: char| letter.is_whitespace() || letter == ',');
    std::iter::once(setting.value.as_str()).chain(parts).filter_map(move |part| path_of(part, &setting.folder, home))
}

fn path_of(place: &str, folder: &Path, home: Option<&Path>) -> Option<PathBuf> {
    // uv accepts `NAME=` before the address of an index.
    let address = place.split_once('=').map_or(place, |(_, address)| address);
    if let Ok(url) = Url::parse(address) {
        return url.to_file_path().ok();
    }
    match (place.strip_prefix("~/"), home) {
        _ if place.is_empty() => None,
        (Some(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(folder.join(place)),
    }
}

fn files_at(place: &Path) -> Vec<String> {
    let Ok(entries) = place.read_dir() else { return file(place).into_iter().collect() };
    let is_distribution = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    entries.flatten().map(|entry| entry.path()).filter(is_distribution).filter_map(|path| file(&path)).collect()
}

fn file(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let (size, seconds, nanoseconds) = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    Some(format!("{}\n{size} {seconds}.{nanoseconds:09}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> InstallerSetting {
        InstallerSetting {
            name: name.into(),
            value: value.into(),
            folder: "/here".into(),
            ..InstallerSetting::default()
        }
    }

    #[test]
    fn local_places_are_found() {
        for (name, value, expected) in [
            ("find-links", "wheels", &["/here/wheels", "/here/wheels"][..]),
            ("find-links", "/a /b", &["/a /b", "/a", "/b"]),
            ("pip.find-links", "/a,b", &["/a,b", "/a", "/here/b"]),
            ("index.url", "file:///with%20space", &["/with space", "/with space"]),
            ("index", "own=file:///a", &["/a", "/a"]),
            ("index-url", "https://user:p@example.org/simple", &[]),
            ("find-links", "", &[]),
            ("prerelease", "allow", &[]),
        ] {
            let found = LocalPlaces::of([setting(name, value)].iter(), Some(Path::new("/home/somebody")));
            assert_eq!(found.0, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{name} {value}");
        }
    }

    #[test]
    fn names_of_distributions_in_names_of_files() {
        for (file, expected) in [
            ("Tool_one-1.0-py3-none-any.whl", Some("tool-one")),
            ("tool-one-1.0.tar.gz", Some("tool-one")),
            ("tool.zip", None),
            ("notes.txt", None),
            ("--quiet-1-py3-none-any.whl", None),
        ] {
            assert_eq!(distribution_name(file).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn new_changed_and_removed_distributions_change_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let places = LocalPlaces::of([setting("find-links", place)].iter(), None);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut seen = vec![places.digest()];
        let mut is_new = |what: &str, expected: bool| {
            let now = places.digest();
            assert_eq!(seen.last() != Some(&now), expected, "{what}");
            seen.push(now);
        };
        write("a-1-py3-none-any.whl", "1");
        is_new("a wheel came", true);
        write("notes.txt", "1");
        is_new("another file came", false);
        write("a-1-py3-none-any.whl", "22");
        is_new("it was built again", true);
        std::fs::remove_file(folder.path().join("a-1-py3-none-any.whl")).unwrap();
        is_new("it went", true);
        assert_eq!(LocalPlaces::default().digest(), None);
    }
}
