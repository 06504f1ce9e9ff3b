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
//! distributions/pins/ID.json     what a pin (see `pins`) was installed as
//! distributions/lock             shared while distributions are linked, exclusive while unused ones
//!                                are removed
//! ```
//!
//! Kept files have the permissions that the installer gave them. If they were
//! read-only, so would be the copies that hooks make of them.

use std::collections::{BTreeSet, HashMap, HashSet};
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

use super::contents::{Distribution, digest, digest_of_file, distribution, is_installers_own, read, site_packages};
use super::pins::{InstalledPin, OutsideFiles, is_inside};
use super::seal::{LastLook, Seal, is_bytecode, remove_bytecode};
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
    last_look: LastLook,
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
    pub fn differences(&self) -> io::Result<Vec<PathBuf>> {
        self.last_look.differences(&self.manifest.seal, &self.folder)
    }
}

impl Distributions {
    pub fn new(root: PathBuf) -> Self {
        Self { root, in_use: ByName::default(), copying: Mutex::default() }
    }

    pub fn make_folders(&self) -> Result<(), FolderError> {
        [self.root.clone(), self.kept(), self.ids(), self.pins()].iter().try_for_each(|path| kept::folder(path))
    }

    fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    fn ids(&self) -> PathBuf {
        self.root.join("ids")
    }

    fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    fn pin(&self, id: &str) -> PathBuf {
        self.pins().join(format!("{id}.json"))
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

    /// Whether nothing is kept yet.
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// What a pin was installed as, if that is still kept.
    pub fn installed_pin(&self, id: &str) -> Option<InstalledPin> {
        let installed = read_json::<InstalledPin>(&self.pin(id))?;
        (is_name(&installed.kept) && self.manifest(&installed.kept).is_file()).then_some(installed)
    }

    pub fn remember_pin(&self, id: &str, installed: &InstalledPin) {
        try_write_json(&self.pin(id), installed);
    }

    /// Removes the pins whose distributions are gone.
    pub fn remove_dead_pins(&self) -> io::Result<()> {
        for id in names_in(&self.pins()) {
            if self.installed_pin(&id).is_none() {
                kept::remove(&self.pin(&id))?;
            }
        }
        Ok(())
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
        remove_bytecode(&look.alien_bytecode);
        let (unchecked, discarded) = (Mutex::new(look.bytecode), AtomicBool::new(false));
        let last_look = LastLook::default();
        let mut kept = Kept { name: name.to_owned(), folder, manifest, unchecked, last_look, discarded };
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

/// What an environment has after [`Distributions::link`].
pub(super) struct Linked {
    pub links: Vec<Link>,
    /// What an installer has put there, where the same can be put into another
    /// environment without it.
    pub installed: Vec<InstalledPin>,
}

/// From an installer's files to links.
impl Distributions {
    /// Replaces what an installer has put into an environment by links to kept
    /// distributions, which are made where they are missing, and adds `pinned`, which
    /// no installer has put there. To be called under the shared lock. `None` if
    /// `pinned` cannot be added: then the environment is spoilt.
    ///
    /// The files of a distribution stay in the environment if it has no RECORD
    /// (PEP 376), or one that shares a file with another. No file of the
    /// environment is a hard link afterwards: what a hook writes to it would reach
    /// the installer's cache.
    pub fn link(&self, environment: &Path, pinned: &[InstalledPin]) -> io::Result<Option<Linked>> {
        let mut linked = Linked { links: Vec::new(), installed: Vec::new() };
        let folders = site_packages(environment)?;
        if !pinned.is_empty() && folders.len() != 1 {
            return Ok(None);
        }
        for packages in folders {
            let mut found = Found::in_folder(environment, &packages)?;
            let within = packages.strip_prefix(environment).unwrap_or(&packages).to_owned();
            let mut kept = Vec::new();
            for found in &found {
                let name = self.keep(&packages, &found.files)?;
                let outside = found.outside.as_deref().and_then(|paths| OutsideFiles::read(environment, paths));
                if let Some(outside) = outside {
                    let distribution = found.distribution.clone();
                    linked.installed.push(InstalledPin { distribution, kept: name.clone(), outside });
                }
                kept.push(name);
            }
            let installed = found.len();
            for pin in pinned {
                let Some(opened) = self.open(&pin.kept)? else { return Ok(None) };
                found.push(Found::of_pin(pin, &opened));
                kept.push(pin.kept.clone());
                if !pin.outside.write(environment)? {
                    return Ok(None);
                }
            }
            let Some(owners) = owners(&packages, &found, installed)? else { return Ok(None) };
            let aside = packages.with_extension("linked");
            fs::create_dir(&aside)?;
            let folders: Vec<PathBuf> = kept.iter().map(|name| relative(&packages, &self.folder(name))).collect();
            link_folder(&packages, &aside, &owners, &folders)?;
            kept::remove(&packages)?;
            fs::rename(&aside, &packages)?;
            linked.links.extend(kept.into_iter().map(|name| Link { name, packages: within.clone() }));
        }
        break_hard_links(environment)?;
        Ok(Some(linked))
    }

    /// The name of the kept distribution with these files of a folder of packages.
    fn keep(&self, packages: &Path, files: &[PathBuf]) -> io::Result<String> {
        let own: Vec<&PathBuf> = files.iter().filter(|file| !is_installers_own(file)).collect();
        let described = for_each_at_once(&own, |file| {
            let path = packages.join(file);
            let mode = path.metadata()?.mode() & 0o111;
            Ok((digest_of_file(&path)?, mode))
        })?;
        let mut digests = HashMap::new();
        let mut described: Vec<String> = std::iter::zip(own, described)
            .map(|(file, (digest, mode))| {
                let description = format!("{digest} {mode:o} {}", file.display());
                digests.insert(file.clone(), digest);
                description
            })
            .collect();
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
        let parents: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        parents.into_iter().try_for_each(|parent| fs::create_dir_all(folder.join(parent)))?;
        for_each_at_once(files, |file| copy(&packages.join(file), &folder.join(file)))?;
        let seal = Seal::with_digests(&folder, &digests)?;
        write_json(&self.manifest(&name), &Manifest { id: id.clone(), seal })?;
        kept::write(&self.ids().join(&id), name.as_bytes())?;
        Ok(name)
    }
}

/// Copies a file with its permissions, and with its time, on which bytecode
/// depends.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    io::copy(&mut from, &mut to)?;
    let metadata = from.metadata()?;
    to.set_permissions(metadata.permissions())?;
    to.set_modified(metadata.modified()?)
}

/// Does the same for each of the files, on all processors if there are many: a hook waits.
fn for_each_at_once<F: Sync, R: Send>(files: &[F], action: impl Fn(&F) -> io::Result<R> + Sync) -> io::Result<Vec<R>> {
    /// A thread starts in the time that a few files take.
    const FEWEST_FOR_A_THREAD: usize = 32;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(FEWEST_FOR_A_THREAD);
    let act = |share: &[F]| share.iter().map(&action).collect::<io::Result<Vec<R>>>();
    std::thread::scope(|scope| {
        let mut shares = files.chunks(share);
        let first = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || act(share))).collect();
        let mut done = act(first)?;
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })
}

/// A distribution whose files can be kept.
struct Found {
    distribution: Distribution,
    /// Relative to the folder of packages.
    files: Vec<PathBuf>,
    /// The files elsewhere in the environment, relative to that. `None` if there
    /// are some outside of it.
    outside: Option<Vec<PathBuf>>,
}

impl Found {
    fn in_folder(environment: &Path, packages: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in packages.read_dir()? {
            let folder = entry?.path();
            if folder.extension() == Some(OsStr::new("dist-info")) {
                all.extend(Self::recorded(environment, packages, &folder)?);
            }
        }
        let mut seen = HashSet::new();
        let shared: HashSet<PathBuf> =
            all.iter().flat_map(|found| &found.files).filter(|file| !seen.insert(*file)).cloned().collect();
        all.retain(|found| !found.files.iter().any(|file| shared.contains(file)));
        Ok(all)
    }

    fn of_pin(pin: &InstalledPin, kept: &Kept) -> Self {
        let files = kept.manifest.seal.files().filter(|file| !is_bytecode(file)).map(Path::to_owned).collect();
        Self { distribution: pin.distribution.clone(), files, outside: None }
    }

    /// What a RECORD lists, without bytecode. `None` without a RECORD, or if a file
    /// below the folder of packages is no regular file.
    fn recorded(environment: &Path, packages: &Path, dist_info: &Path) -> io::Result<Option<Self>> {
        let Ok(content) = read(&dist_info.join("RECORD")) else { return Ok(None) };
        let mut lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content.as_slice());
        let (mut files, mut outside) = (Vec::new(), Some(Vec::new()));
        for line in lines.records() {
            let Some(path) = line.ok().and_then(|line| line.get(0).map(PathBuf::from)) else { return Ok(None) };
            if is_bytecode(&path) {
                continue;
            }
            if !is_inside(&path) {
                let within = normal(&packages.join(&path));
                let within = within.and_then(|path| path.strip_prefix(environment).ok().map(Path::to_owned));
                outside = outside.zip(within).map(|(outside, path)| [outside, vec![path]].concat());
                continue;
            }
            if !packages.join(&path).symlink_metadata().is_ok_and(|found| found.is_file()) {
                return Ok(None);
            }
            files.push(path);
        }
        files.sort_unstable();
        files.dedup();
        if files.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { distribution: distribution(dist_info)?, files, outside }))
    }
}

/// An absolute path without `..`, as it reads.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !normal.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            part => normal.push(part),
        }
    }
    Some(normal)
}

/// Each file and folder of a folder of packages with what is to be added to it, and
/// the distribution that has all that is in it; `None` in place of the number if
/// there is no such distribution. `None` if two distributions have the same file.
///
/// `installed` of those that were found are in the folder, the others are to be added.
fn owners(packages: &Path, found: &[Found], installed: usize) -> io::Result<Option<HashMap<PathBuf, Option<usize>>>> {
    let mut owners = HashMap::new();
    for (index, found) in found.iter().enumerate() {
        for file in &found.files {
            if owners.contains_key(file) {
                return Ok(None);
            }
            add_owner(&mut owners, file, Some(index));
        }
    }
    for entry in WalkDir::new(packages).min_depth(1) {
        let entry = entry?;
        let path = entry.path().strip_prefix(packages).unwrap_or(entry.path());
        if is_bytecode(path) {
            continue;
        }
        let is_folder = entry.file_type().is_dir();
        match owners.get(path) {
            Some(Some(owner)) if !is_folder && *owner >= installed => return Ok(None),
            Some(_) => {}
            // An empty folder is nobody's.
            None if !is_folder || holds_nothing(entry.path())? => add_owner(&mut owners, path, None),
            None => {}
        }
    }
    Ok(Some(owners))
}

/// Whether there is nothing in a folder, or bytecode only.
fn holds_nothing(folder: &Path) -> io::Result<bool> {
    for entry in folder.read_dir()? {
        if !is_bytecode(Path::new(&entry?.file_name())) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn add_owner(owners: &mut HashMap<PathBuf, Option<usize>>, path: &Path, own: Option<usize>) {
    for path in path.ancestors().take_while(|path| !path.as_os_str().is_empty()) {
        let owner = owners.entry(path.to_owned()).or_insert(own);
        if *owner != own {
            *owner = None;
        }
    }
}

/// The path from one folder to another, both absolute. Old forms of archives, which
/// cache folders are kept in, have no room for long links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Fills `to` with links where one kept distribution has all of a file or folder,
/// else with what is in `from`.
fn link_folder<'a>(
    from: &Path,
    to: &Path,
    owners: &'a HashMap<PathBuf, Option<usize>>,
    kept: &[PathBuf],
) -> io::Result<()> {
    let parent_of = |path: &'a Path| path.parent().unwrap_or(Path::new(""));
    let is_linked = |path: &Path| owners.get(path).is_some_and(Option::is_some);
    let mut paths: Vec<&Path> =
        owners.keys().map(PathBuf::as_path).filter(|path| !is_linked(parent_of(path))).collect();
    // Folders come before what is in them.
    paths.sort_unstable();
    for path in paths {
        let (parent, owner) = (parent_of(path), owners[path]);
        if let Some(distribution) = owner {
            let up: PathBuf = std::iter::repeat_n("..", parent.components().count()).collect();
            symlink(up.join(&kept[distribution]).join(path), to.join(path))?;
        } else if from.join(path).symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            fs::rename(from.join(path), to.join(path))?;
        } else {
            fs::create_dir(to.join(path))?;
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
            self.write(&format!("{info}/METADATA"), &format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"));
            let lines: String = all.iter().map(|file| format!("\"{file}\",,\n")).collect();
            fs::write(self.packages().join(record), lines).unwrap();
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.packages().join(path), text).unwrap();
        }

        /// A script of a distribution that is installed.
        fn add_script(&self, name: &str, script: &str) {
            let text = format!("#!{}/bin/python\n", self.environment().display());
            fs::write(self.environment().join("bin").join(script), text).unwrap();
            let record = self.packages().join(format!("{name}-1.dist-info/RECORD"));
            let lines = fs::read_to_string(&record).unwrap() + &format!("../../../bin/{script},,\n");
            fs::write(record, lines).unwrap();
        }

        /// All files of the environment with their contents, in which the path of the
        /// environment is replaced. Without RECORD, where digests of scripts differ.
        fn files(&self) -> Vec<(PathBuf, String)> {
            let environment = self.environment();
            let entries = WalkDir::new(&environment).follow_links(true).sort_by_file_name().into_iter().flatten();
            let files = entries.filter(|entry| entry.file_type().is_file() && entry.file_name() != "RECORD");
            let file = |entry: walkdir::DirEntry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                let path = entry.path().strip_prefix(&environment).unwrap().to_owned();
                (path, text.replace(environment.to_str().unwrap(), "ENVIRONMENT"))
            };
            files.map(file).collect()
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
        let links = distributions.link(&installed.environment(), &[]).unwrap().unwrap().links;
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
    fn what_is_kept_is_put_into_another_environment_as_it_would_be_installed() {
        let first = Installed::new();
        first.install("one", &["one/__init__.py", "space/one.py"]);
        first.add_script("one", "tool");
        let distributions = distributions(first.folder.path());
        let pinned = distributions.link(&first.environment(), &[]).unwrap().unwrap().installed;
        let install_two = |installed: &Installed| installed.install("two", &["two.py", "space/two.py"]);
        let (with_pin, expected) = (Installed::new(), Installed::new());
        install_two(&with_pin);
        let linked = distributions.link(&with_pin.environment(), &pinned).unwrap().unwrap();
        assert_eq!(linked.links.len(), 2);
        assert_eq!(linked.installed.len(), 1, "what was installed");
        install_two(&expected);
        expected.install("one", &["one/__init__.py", "space/one.py"]);
        expected.add_script("one", "tool");
        assert_eq!(with_pin.files(), expected.files());
        let alone = Installed::new();
        distributions.link(&alone.environment(), &pinned).unwrap().unwrap();
        assert!(alone.is_link("space") && alone.is_link("one"), "no other distribution is in it");
    }

    #[test]
    fn what_two_distributions_have_cannot_be_added() {
        let first = Installed::new();
        first.install("one", &["both.py"]);
        first.add_script("one", "tool");
        let distributions = distributions(first.folder.path());
        let pinned = distributions.link(&first.environment(), &[]).unwrap().unwrap().installed;
        type Change = fn(&Installed);
        let table: [(&str, Change); 3] = [
            ("a file of another distribution", |installed| installed.install("two", &["both.py"])),
            ("a file of nobody", |installed| installed.write("both.py", "nobody")),
            ("a script", |installed| {
                installed.install("two", &["two.py"]);
                installed.add_script("two", "tool");
            }),
        ];
        for (what, change) in table {
            let installed = Installed::new();
            change(&installed);
            assert!(distributions.link(&installed.environment(), &pinned).unwrap().is_none(), "{what}");
        }
        let twice = [pinned.clone(), pinned.clone()].concat();
        assert!(distributions.link(&Installed::new().environment(), &twice).unwrap().is_none());
        fs::write(distributions.folder(&pinned[0].kept).join("both.py"), "changed by a hook").unwrap();
        let later = Distributions::new(first.folder.path().join("distributions"));
        assert!(later.link(&Installed::new().environment(), &pinned).unwrap().is_none(), "it was changed");
    }

    #[test]
    fn the_same_distribution_is_kept_once_and_another_is_another() {
        let first = Installed::new();
        let distributions = distributions(first.folder.path());
        let link = |change: &dyn Fn(&Installed)| {
            let installed = Installed::new();
            installed.install("one", &["one/__init__.py", "one-1.dist-info/INSTALLER"]);
            change(&installed);
            distributions.link(&installed.environment(), &[]).unwrap().unwrap().links[0].name.clone()
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
        assert_eq!(distributions.link(&installed.environment(), &[]).unwrap().unwrap().links, []);
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
        distributions(installed.folder.path()).link(&installed.environment(), &[]).unwrap();
        for name in ["tool", "one.py"] {
            assert_eq!(cache.join(name).metadata().unwrap().nlink(), 1, "{name}");
        }
        assert_eq!(fs::read_to_string(&script).unwrap(), "#!");
    }
}
