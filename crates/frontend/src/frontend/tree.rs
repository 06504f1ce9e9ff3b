//! The source tree of a build. That of an archive is unpacked when it is first
//! needed, which it is not if all answers of its hooks are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{BuildSystem, EnvironmentRequirements, ErrorKind, HookError};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Frontend;
use super::claim::Claim;
use super::errors::invalid_source;
use super::report::{JobId, Step};
use crate::answers::{Asked, Digest, TopFiles, counted_variables};
use crate::archive::{UnpackLimits, unpack};
use crate::files::short;
use crate::source_folder::SourceFolder;

/// How long the files at the top of a folder are read, for what only leads to warnings or
/// saves memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// A source tree.
pub(super) struct SourceTree<'a> {
    frontend: &'a Frontend,
    job: JobId,
    /// The source, as the user named it.
    name: &'a Path,
    /// Whether the folder may have the results of an earlier build.
    reuses_builds: bool,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Archive(Box<Archive>),
}

/// A source distribution.
struct Archive {
    path: PathBuf,
    /// Whether it exists for this build only.
    is_draft: bool,
    known: OnceCell<Known>,
    /// Read before it was unpacked, or right after that.
    top_files: OnceCell<TopFiles>,
    unpacked: OnceCell<Unpacked>,
}

struct Unpacked {
    tree: PathBuf,
    folder: SourceFolder,
}

/// What is known of an archive before it is opened.
struct Known {
    /// `None`: no answers are kept, or the archive cannot be read.
    digest: Option<Digest>,
    top_files: Option<TopFiles>,
}

impl<'a> SourceTree<'a> {
    /// The tree in a folder.
    pub fn folder(frontend: &'a Frontend, job: JobId, name: &'a Path, path: PathBuf) -> Self {
        Self { frontend, job, name, reuses_builds: false, place: Place::Folder(path) }
    }

    /// The tree in a source distribution; a draft exists for this build only.
    pub fn archive(frontend: &'a Frontend, job: JobId, name: &'a Path, path: PathBuf, is_draft: bool) -> Self {
        let (known, top_files, unpacked) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let archive = Archive { path, is_draft, known, top_files, unpacked };
        Self { frontend, job, name, reuses_builds: false, place: Place::Archive(Box::new(archive)) }
    }

    /// The same, in a folder that may have the results of an earlier build.
    pub fn reusing_builds(self) -> Self {
        Self { reuses_builds: true, ..self }
    }

    pub fn is_archive(&self) -> bool {
        matches!(self.place, Place::Archive(_))
    }

    /// What the hooks of this tree are asked about; `None` if answers are not kept.
    pub async fn asked(&self) -> Option<Asked> {
        match &self.place {
            Place::Folder(_) => Some(Asked::Tree),
            Place::Archive(archive) => self.known(archive).await.digest.map(Asked::Archive),
        }
    }

    /// Whether its answers can be looked for without its folder.
    pub fn is_packed(&self) -> bool {
        matches!(&self.place, Place::Archive(archive) if archive.unpacked.get().is_none())
    }

    /// Its folder. Unpacks an archive.
    pub async fn path(&self) -> Result<&Path, HookError> {
        match &self.place {
            Place::Folder(path) => Ok(path),
            Place::Archive(archive) => Ok(&archive.unpacked.get_or_try_init(|| self.unpack(archive)).await?.tree),
        }
    }

    /// The files at its top: of a folder, as they are now, or `None` if the file system does
    /// not respond; of an archive, as they were packed, or `None` if they have not been read
    /// yet.
    pub async fn known_top_files(&self) -> Option<TopFiles> {
        match &self.place {
            Place::Folder(path) => {
                let (path, looks) = (path.clone(), self.frontend.folder_looks.clone());
                let look = async {
                    let look = looks.acquire_owned().await.ok()?;
                    let read = move || {
                        // Held until the files are read, which may be never.
                        let _look = look;
                        TopFiles::of_tree(&path)
                    };
                    Some(unblock(read).await)
                };
                timeout(PATIENCE, look).await.ok()?
            }
            Place::Archive(archive) => {
                let known = self.known(archive).await;
                archive.top_files.get().or(known.top_files.as_ref()).cloned()
            }
        }
    }

    /// The files at the top of an archive, which is not unpacked for them; `None` for a
    /// folder.
    pub async fn packed_top_files(&self) -> Result<Option<TopFiles>, HookError> {
        let Place::Archive(archive) = &self.place else { return Ok(None) };
        if let Some(known) = &self.known(archive).await.top_files {
            return Ok(Some(known.clone()));
        }
        let read = || async {
            let path = archive.path.clone();
            let read = move |cancel: &_| TopFiles::of_archive(&path, cancel);
            let files = self.frontend.unblock_unless_interrupted(read).await??;
            self.note(archive, &files).await;
            Ok(files)
        };
        archive.top_files.get_or_try_init(read).await.cloned().map(Some)
    }

    /// The files at its top, read before the source is built; `None` if that takes long, or is
    /// not possible, which whoever needs them reports.
    pub async fn top_files_ahead(&self) -> Option<TopFiles> {
        /// An archive of more bytes takes tens of milliseconds, and it will be unpacked anyway.
        const LARGEST: u64 = 1 << 20;
        let known = self.known_top_files().await;
        let Place::Archive(archive) = &self.place else { return known };
        if known.is_some() {
            return known;
        }
        let path = archive.path.clone();
        let size = unblock(move || path.metadata().map(|metadata| metadata.len())).await;
        if size.is_ok_and(|size| size <= LARGEST) { self.packed_top_files().await.ok()? } else { None }
    }

    /// The name and version that it claims to have.
    pub async fn claim(&self) -> Claim {
        match &self.place {
            Place::Folder(_) => Claim::default(),
            Place::Archive(archive) => {
                let files = self.known_top_files().await.unwrap_or_default();
                Claim::of(&archive.path, files.pkg_info.as_deref())
            }
        }
    }

    /// Whether its folder has the results of an earlier build.
    pub fn was_built(&self) -> bool {
        matches!(&self.place, Place::Archive(archive)
            if archive.unpacked.get().is_some_and(|unpacked| unpacked.folder.was_built))
    }

    /// Removes what was unpacked, unless it is to stay for the next build of the archive.
    pub async fn close(self, stays: bool) {
        let inputs = if stays && self.reuses_builds { self.build_inputs().await } else { None };
        if let Place::Archive(archive) = self.place
            && let Some(unpacked) = archive.unpacked.into_inner()
        {
            unpacked.folder.close(inputs.filter(|_| !archive.is_draft)).await;
        }
    }

    /// What a build depends on beside the archive, as far as it is known now. A build tool
    /// compiles anew what depends on changed files, but seldom what depends on other
    /// variables or on another environment.
    async fn build_inputs(&self) -> Option<String> {
        let settings = &self.frontend.settings;
        let requirements = build_requirements(&self.packed_top_files().await.ok()??, &[])?;
        let environment = settings.environments.as_ref()?.known_content(&requirements).await?;
        let config = serde_json::to_vec(&settings.config_settings).ok()?;
        let variables = counted_variables(self.frontend.settings.caller.as_deref());
        let parts = [config.as_slice(), environment.as_bytes()].into_iter();
        Some(Digest::of_list(parts.chain(variables.iter().map(Vec::as_slice))).to_string())
    }

    async fn unpack(&self, archive: &Archive) -> Result<Unpacked, HookError> {
        self.frontend.step(self.job, Step::Unpacking);
        let (path, source) = (archive.path.clone(), self.name.to_owned());
        let digest = self.known(archive).await.digest;
        let sources = self.frontend.sources.clone();
        let reuses = match self.reuses_builds && !archive.is_draft {
            // What nobody knows is not the same as before.
            true => Some(self.build_inputs().await.unwrap_or_default()),
            false => None,
        };
        let unpack = move |cancel: &_| {
            let failed = |what: &Path, error: io::Error| {
                HookError::at_file(ErrorKind::InvalidSource, &error, format!("{}: {error}", what.display()))
            };
            let digest = digest.map_or_else(|| Digest::of_file(&path), Ok).map_err(|error| failed(&path, error))?;
            let folder = sources.open(&short(digest.as_bytes()), reuses.as_deref());
            let folder = folder.map_err(|error| failed(sources.folder(), error))?;
            if folder.was_built
                && let Some(tree) = only_folder(&folder.path)
            {
                return Ok((TopFiles::of_tree(&tree), Unpacked { tree, folder }));
            }
            let tree = unpack(&path, &folder.path, &UnpackLimits::default(), cancel)?;
            expect_project(&source, &path, &tree)?;
            Ok::<_, HookError>((TopFiles::of_tree(&tree), Unpacked { tree, folder }))
        };
        let (top_files, unpacked) = self.frontend.unblock_unless_interrupted(unpack).await??;
        if !unpacked.folder.was_built {
            self.note(archive, &top_files).await;
        }
        // They may have been read before, and are the same.
        let _ = archive.top_files.set(top_files);
        Ok(unpacked)
    }

    async fn known<'b>(&self, archive: &'b Archive) -> &'b Known {
        let look = || async {
            let Some(answers) = self.frontend.settings.answers.clone() else {
                return Known { digest: None, top_files: None };
            };
            let (path, is_draft) = (archive.path.clone(), archive.is_draft);
            let look = move || {
                let digest = if is_draft { Digest::of_file(&path).ok() } else { answers.digest_of_archive(&path) };
                Known { digest, top_files: digest.and_then(|digest| answers.store.top_files(digest)) }
            };
            unblock(look).await
        };
        archive.known.get_or_init(look).await
    }

    /// Notes what was read of an archive, so that it need not be opened again.
    async fn note(&self, archive: &Archive, files: &TopFiles) {
        let known = self.known(archive).await;
        if let (Some(digest), None) = (known.digest, &known.top_files)
            && let Some(answers) = self.frontend.settings.answers.clone()
        {
            let files = files.clone();
            unblock(move || answers.store.set_top_files(digest, &files)).await;
        }
    }
}

/// What the build environment of a source must have; `None` if its `pyproject.toml` is
/// not valid, which the supervisor reports.
pub(super) fn build_requirements(files: &TopFiles, additional: &[String]) -> Option<EnvironmentRequirements> {
    let requires = BuildSystem::of_pyproject(files.pyproject.as_deref()).ok()?.requires;
    Some(EnvironmentRequirements { python: None, requires, additional: additional.to_vec() })
}

/// The tree in a folder that an archive was unpacked to.
fn only_folder(folder: &Path) -> Option<PathBuf> {
    let mut entries = folder.read_dir().ok()?.flatten();
    match (entries.next(), entries.next()) {
        (Some(only), None) if only.file_type().is_ok_and(|kind| kind.is_dir()) => Some(only.path()),
        // An archive without a folder at its top.
        _ => Some(folder.to_owned()),
    }
}

/// Here, because later messages would name the folder that the archive was
/// unpacked to, and not the archive.
fn expect_project(source: &Path, archive: &Path, tree: &Path) -> Result<(), HookError> {
    if ["pyproject.toml", "setup.py"].iter().any(|name| tree.join(name).is_file()) {
        return Ok(());
    }
    let (source, archive) = (source.display(), archive.file_name().unwrap_or_default().display());
    Err(invalid_source(format!("{source}: expected pyproject.toml or setup.py at the top of {archive}")))
}
