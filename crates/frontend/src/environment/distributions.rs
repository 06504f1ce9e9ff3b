//! Installed distributions, each kept once and linked into every environment
//! that has it. Everything here blocks, as files do.
//!
//! An environment has symbolic links to what its distributions have at the top of
//! the folder of packages: a handful of links, where an installer writes hundreds
//! of files. Bytecode lies behind the links, so what one environment has compiled,
//! all have. A folder that several distributions share, such as a namespace
//! package, is a real folder with links in it.
//!
//! ```text
//! distributions/kept/NAME/       the files of a distribution, by their paths in the folder of packages
//! distributions/kept/NAME.json   its manifest: written last, so that a distribution with one is
//!                                complete; its time is the last use
//! distributions/ids/ID           the name of a kept distribution with this content
//! distributions/lock             shared while distributions are linked, exclusive while unused ones
//!                                are removed
//! ```
//!
//! Kept files have the permissions that the installer gave them. If they were
//! read-only, so would be the copies that hooks make of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hookpool_supervisor::files::{FolderError, kept};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::contents::{digest, digest_of_file, is_installers_own, read, site_packages};
use super::seal::{Look, Seal, is_bytecode};
use super::store::{ByName, is_name, names_in, random_name};
use crate::files::{read_json, try_write_json, write_json};

/// The kept distributions of a cache folder.
pub(super) struct Distributions {
    root: PathBuf,
    /// Those that this process uses, by name.
    in_use: ByName<Kept>,
    /// Held while a distribution is looked for and copied: two threads would copy
    /// the same.
    copying: Mutex<()>,
}

/// A kept distribution, and where an environment links to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub name: String,
    /// The folder of packages, relative to the environment.
    pub packages: PathBuf,
}

/// What is known of a kept distribution.
#[derive(Serialize, Deserialize)]
struct Manifest {
    id: String,
    seal: Seal,
}

/// A kept distribution that this process uses.
pub(super) struct Kept {
    pub name: String,
    pub folder: PathBuf,
    manifest: Manifest,
    /// Bytecode in it that may have been cut short.
    unchecked: Mutex<Vec<PathBuf>>,
    /// Whether no environment may use it any more.
    discarded: AtomicBool,
}

impl Kept {
    /// The bytecode in it that has to be checked before anything is imported.
    pub fn unchecked(&self) -> Vec<PathBuf> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
    }

    /// What differs from what was installed.
    pub fn look(&self) -> io::Result<Look> {
        self.manifest.seal.look(&self.folder)
    }
}

impl Distributions {
    pub fn new(root: PathBuf) -> Self {
        Self { root, in_use: ByName::default(), copying: Mutex::default() }
    }

    pub fn make_folders(&self) -> Result<(), FolderError> {
        [self.root.clone(), self.kept(), self.ids()].iter().try_for_each(|path| kept::folder(path))
    }

    fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    fn ids(&self) -> PathBuf {
        self.root.join("ids")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.kept().join(name)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.kept().join(format!("{name}.json"))
    }

    /// The names of all, complete or not.
    pub fn names(&self) -> Vec<String> {
        names_in(&self.kept())
    }

    /// When it was used last; `None` if it is not complete.
    pub fn last_use(&self, name: &str) -> Option<SystemTime> {
        self.manifest(name).metadata().ok()?.modified().ok()
    }

    /// Opens a distribution for use, if it is complete and unchanged.
    pub fn open(&self, name: &str) -> io::Result<Option<Arc<Kept>>> {
        if !is_name(name) {
            return Ok(None);
        }
        if let Some(kept) = self.in_use.get(name) {
            if !self.manifest(name).exists() {
                // Another process has discarded it.
                kept.discarded.store(true, Ordering::Release);
            }
            return Ok((!kept.is_discarded()).then_some(kept));
        }
        let Some(manifest) = read_json::<Manifest>(&self.manifest(name)) else { return Ok(None) };
        let folder = self.folder(name);
        let look = manifest.seal.look(&folder)?;
        let (unchecked, discarded) = (Mutex::new(look.bytecode), AtomicBool::new(false));
        let mut kept = Kept { name: name.to_owned(), folder, manifest, unchecked, discarded };
        if !look.differences.is_empty() {
            self.discard(&kept)?;
            return Ok(None);
        }
        if let Some(seal) = look.restored {
            kept.manifest.seal = seal;
            try_write_json(&self.manifest(name), &kept.manifest);
        }
        self.touch(name);
        Ok(Some(self.in_use.remember(name.to_owned(), Arc::new(kept))))
    }

    /// Keeps all environments from using it any more. Its folder is removed when
    /// no environment has it.
    pub fn discard(&self, kept: &Kept) -> io::Result<()> {
        kept.discarded.store(true, Ordering::Release);
        kept::remove(&self.manifest(&kept.name))
    }

    /// Ends the check of its bytecode: records these files as whole.
    pub fn end_check(&self, kept: &Kept, whole: &[PathBuf]) {
        kept.unchecked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if whole.is_empty() {
            return;
        }
        let path = self.manifest(&kept.name);
        // As it is on the disk now: another process may have added some.
        if let Some(mut manifest) = read_json::<Manifest>(&path) {
            manifest.seal.add(&kept.folder, whole);
            try_write_json(&path, &manifest);
        }
    }

    /// Removes a distribution. To be called under the exclusive lock, if no
    /// environment has it.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if let Some(manifest) = read_json::<Manifest>(&self.manifest(name)) {
            let id = self.ids().join(&manifest.id);
            if is_name(&manifest.id) && kept::read(&id).is_ok_and(|kept| kept == name.as_bytes()) {
                kept::remove(&id)?;
            }
        }
        kept::remove(&self.manifest(name))?;
        kept::remove(&self.folder(name))
    }

    /// Records the time of this use.
    fn touch(&self, name: &str) {
        let now = SystemTime::now();
        let touched = File::options().append(true).open(self.manifest(name)).and_then(|file| file.set_modified(now));
        if let Err(error) = touched {
            tracing::debug!("{}: {error}", self.manifest(name).display());
        }
    }
}

/// From an installer's files to links.
impl Distributions {
    /// Replaces what an installer has put into an environment by links to kept
    /// distributions, which are made where they are missing. To be called under
    /// the shared lock.
    ///
    /// The files of a distribution stay in the environment if it has no RECORD
    /// (PEP 376), or one that shares a file with another. No file of the
    /// environment is a hard link afterwards: what a hook writes to it would reach
    /// the installer's cache.
    pub fn link(&self, environment: &Path) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        for packages in site_packages(environment)? {
            let owners = Owners::of(&packages)?;
            let mut folders = Vec::new();
            for files in &owners.files {
                let name = self.keep(&packages, files)?;
                folders.push(self.folder(&name));
                let packages = packages.strip_prefix(environment).unwrap_or(&packages).to_owned();
                links.push(Link { name, packages });
            }
            let linked = packages.with_extension("linked");
            fs::create_dir(&linked)?;
            let folders: Vec<PathBuf> = folders.iter().map(|folder| relative(&packages, folder)).collect();
            link_folder(&packages, &linked, Path::new(""), &owners, &folders)?;
            kept::remove(&packages)?;
            fs::rename(&linked, &packages)?;
        }
        break_hard_links(environment)?;
        Ok(links)
    }

    /// The name of the kept distribution with these files of a folder of packages.
    fn keep(&self, packages: &Path, files: &[PathBuf]) -> io::Result<String> {
        let mut described = Vec::new();
        for file in files.iter().filter(|file| !is_installers_own(file)) {
            let path = packages.join(file);
            let mode = path.metadata()?.mode() & 0o111;
            described.push(format!("{} {mode:o} {}", digest_of_file(&path)?, file.display()));
        }
        described.sort_unstable();
        let id = digest(described.iter().map(String::as_str));
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept::read(&self.ids().join(&id)).ok().and_then(|name| String::from_utf8(name).ok());
        if let Some(name) = known
            && self.open(&name)?.is_some()
        {
            return Ok(name);
        }
        let name = random_name();
        let folder = self.folder(&name);
        fs::create_dir(&folder)?;
        for file in files {
            let to = folder.join(file);
            fs::create_dir_all(to.parent().unwrap_or(&folder))?;
            copy(&packages.join(file), &to)?;
        }
        let seal = Seal::of(&folder)?;
        write_json(&self.manifest(&name), &Manifest { id: id.clone(), seal })?;
        kept::write(&self.ids().join(&id), name.as_bytes())?;
        Ok(name)
    }
}

/// Copies a file with its permissions, and with its time, on which bytecode
/// depends.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    let modified = from.metadata()?.modified()?;
    File::open(to)?.set_modified(modified)
}

/// Which distribution has which files of a folder of packages.
struct Owners {
    /// The files of each distribution that can be kept.
    files: Vec<Vec<PathBuf>>,
    /// Of each file and folder, the distribution that has all that is in it;
    /// `None` if there is no such distribution.
    owner: HashMap<PathBuf, Option<usize>>,
}

impl Owners {
    fn of(packages: &Path) -> io::Result<Self> {
        let mut all = Vec::new();
        for entry in packages.read_dir()? {
            let folder = entry?.path();
            if folder.extension() == Some(OsStr::new("dist-info")) {
                all.extend(recorded(packages, &folder));
            }
        }
        let shared = listed_twice(&all);
        let is_alone = |files: &Vec<PathBuf>| files.iter().all(|file| !shared.contains(file));
        let files: Vec<Vec<PathBuf>> = all.into_iter().filter(is_alone).collect();
        let mut owner: HashMap<PathBuf, Option<usize>> = HashMap::new();
        for (index, files) in files.iter().enumerate() {
            owner.extend(files.iter().map(|file| (file.clone(), Some(index))));
        }
        for entry in WalkDir::new(packages).min_depth(1).contents_first(true) {
            let entry = entry?;
            let path = entry.path().strip_prefix(packages).unwrap_or(entry.path());
            if is_bytecode(path) {
                continue;
            }
            // Whatever is in a folder came before it. An empty folder is nobody's.
            let own = *owner.entry(path.to_owned()).or_insert(None);
            if let Some(parent) = path.parent() {
                let of_parent = owner.entry(parent.to_owned()).or_insert(own);
                if *of_parent != own {
                    *of_parent = None;
                }
            }
        }
        Ok(Self { files, owner })
    }
}

fn listed_twice(all: &[Vec<PathBuf>]) -> HashSet<PathBuf> {
    let mut seen = HashSet::new();
    all.iter().flatten().filter(|file| !seen.insert(*file)).cloned().collect()
}

/// The files below the folder of packages that a RECORD lists; `None` without a
/// RECORD, or if one of them is no regular file. Without those that lie elsewhere
/// (scripts, data), and without bytecode.
fn recorded(packages: &Path, dist_info: &Path) -> Option<Vec<PathBuf>> {
    let content = read(&dist_info.join("RECORD")).ok()?;
    let mut lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content.as_slice());
    let mut files = Vec::new();
    for line in lines.records() {
        let line = line.ok()?;
        let path = Path::new(line.get(0)?);
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_inside || is_bytecode(path) {
            continue;
        }
        if !packages.join(path).symlink_metadata().is_ok_and(|found| found.is_file()) {
            return None;
        }
        files.push(path.to_owned());
    }
    files.sort_unstable();
    files.dedup();
    (!files.is_empty()).then_some(files)
}

/// The path from one folder to another, both absolute. Old forms of archives, which
/// cache folders are kept in, have no room for long links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Fills `to/inner` with what is in `from/inner`: with links where one kept
/// distribution has all of a file or folder, else with the thing itself.
fn link_folder(from: &Path, to: &Path, inner: &Path, owners: &Owners, kept: &[PathBuf]) -> io::Result<()> {
    for entry in from.join(inner).read_dir()? {
        let entry = entry?;
        let path = inner.join(entry.file_name());
        if is_bytecode(&path) {
            continue;
        }
        if let Some(distribution) = owners.owner.get(&path).copied().flatten() {
            let up: PathBuf = std::iter::repeat_n("..", inner.components().count()).collect();
            symlink(up.join(&kept[distribution]).join(&path), to.join(&path))?;
        } else if entry.file_type()?.is_dir() {
            fs::create_dir(to.join(&path))?;
            link_folder(from, to, &path, owners, kept)?;
        } else {
            fs::rename(from.join(&path), to.join(&path))?;
        }
    }
    Ok(())
}

/// Replaces each file that has several names by a copy.
fn break_hard_links(folder: &Path) -> io::Result<()> {
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() && entry.metadata()?.nlink() > 1 {
            let aside = entry.path().with_file_name(format!(".{}", random_name()));
            copy(entry.path(), &aside)?;
            fs::rename(&aside, entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of packages as an installer leaves it.
    struct Installed {
        folder: tempfile::TempDir,
    }

    impl Installed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("environment/lib/python3.11/site-packages")).unwrap();
            fs::create_dir_all(folder.path().join("environment/bin")).unwrap();
            Self { folder }
        }

        fn environment(&self) -> PathBuf {
            self.folder.path().join("environment")
        }

        fn packages(&self) -> PathBuf {
            self.environment().join("lib/python3.11/site-packages")
        }

        fn install(&self, name: &str, files: &[&str]) {
            let info = format!("{name}-1.dist-info");
            let record = format!("{info}/RECORD");
            let all = files.iter().map(ToString::to_string).chain([format!("{info}/METADATA"), record.clone()]);
            let all: Vec<String> = all.collect();
            for file in &all {
                let path = self.packages().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, format!("{name} {file}")).unwrap();
            }
            let lines: String = all.iter().map(|file| format!("\"{file}\",,\n")).collect();
            fs::write(self.packages().join(record), lines).unwrap();
        }

        fn is_link(&self, path: &str) -> bool {
            self.packages().join(path).symlink_metadata().unwrap().is_symlink()
        }
    }

    fn distributions(parent: &Path) -> Distributions {
        let distributions = Distributions::new(parent.join("distributions"));
        distributions.make_folders().unwrap();
        distributions
    }

    #[test]
    fn each_top_level_name_of_one_distribution_is_a_link() {
        let installed = Installed::new();
        installed.install("one", &["one/__init__.py", "one/sub/a,b.py", "one.pth", "space/one.py", "one/bare.pyc"]);
        installed.install("two", &["two.py", "space/two/x.py", "space/two/y.py"]);
        fs::create_dir(installed.packages().join("one/__pycache__")).unwrap();
        fs::write(installed.packages().join("one/__pycache__/a.pyc"), "").unwrap();
        fs::write(installed.packages().join("nobodys.py"), "nobody").unwrap();
        let distributions = distributions(installed.folder.path());
        let links = distributions.link(&installed.environment()).unwrap();
        assert_eq!(links.len(), 2);
        for path in ["one", "one.pth", "two.py", "space/one.py", "space/two", "one-1.dist-info", "two-1.dist-info"] {
            assert!(installed.is_link(path), "{path}");
        }
        assert!(!installed.is_link("space") && !installed.is_link("nobodys.py"));
        let read = |path: &str| fs::read_to_string(installed.packages().join(path)).unwrap();
        assert_eq!(read("one/sub/a,b.py"), "one one/sub/a,b.py");
        assert_eq!(read("space/two/y.py"), "two space/two/y.py");
        assert_eq!(read("one/bare.pyc"), "one one/bare.pyc", "a module without source");
        assert!(!installed.packages().join("one/__pycache__").exists());
    }

    #[test]
    fn the_same_distribution_is_kept_once_and_another_is_another() {
        let first = Installed::new();
        let distributions = distributions(first.folder.path());
        let link = |change: &dyn Fn(&Installed)| {
            let installed = Installed::new();
            installed.install("one", &["one/__init__.py", "one-1.dist-info/INSTALLER"]);
            change(&installed);
            distributions.link(&installed.environment()).unwrap()[0].name.clone()
        };
        let original = link(&|_| ());
        let write = |path: &'static str| {
            move |installed: &Installed| fs::write(installed.packages().join(path), "other").unwrap()
        };
        assert_eq!(link(&|_| ()), original);
        assert_eq!(link(&write("one-1.dist-info/INSTALLER")), original);
        // Whatever its RECORD says of it.
        assert_ne!(link(&write("one/__init__.py")), original);
        assert_eq!(distributions.names().len(), 2);
        fs::write(distributions.folder(&original).join("one/__init__.py"), "changed by a hook").unwrap();
        assert_ne!(link(&|_| ()), original, "what is damaged is not linked");
    }

    #[test]
    fn what_cannot_be_told_apart_stays() {
        let installed = Installed::new();
        installed.install("one", &["both.py", "one.py"]);
        installed.install("two", &["both.py", "two.py"]);
        installed.install("three", &["three.py"]);
        fs::remove_file(installed.packages().join("three-1.dist-info/RECORD")).unwrap();
        installed.install("four", &["four.py", "missing.py"]);
        fs::remove_file(installed.packages().join("missing.py")).unwrap();
        let distributions = distributions(installed.folder.path());
        assert_eq!(distributions.link(&installed.environment()).unwrap(), []);
        for path in ["both.py", "one.py", "two.py", "three.py", "four.py", "four-1.dist-info/RECORD"] {
            assert!(!installed.is_link(path), "{path}");
        }
    }

    #[test]
    fn no_hard_link_to_the_installers_cache_is_left() {
        let installed = Installed::new();
        installed.install("one", &["one.py"]);
        let cache = installed.folder.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let script = installed.environment().join("bin/tool");
        fs::write(&script, "#!").unwrap();
        fs::hard_link(&script, cache.join("tool")).unwrap();
        fs::hard_link(installed.packages().join("one.py"), cache.join("one.py")).unwrap();
        distributions(installed.folder.path()).link(&installed.environment()).unwrap();
        for name in ["tool", "one.py"] {
            assert_eq!(cache.join(name).metadata().unwrap().nlink(), 1, "{name}");
        }
        assert_eq!(fs::read_to_string(&script).unwrap(), "#!");
    }
}
