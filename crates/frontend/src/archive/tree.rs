//! Writing members to the disk.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{ArchiveProblem, Fault, escaped};
use super::limits::Budget;
use super::name::{LinkTarget, member_path};
use super::top::Top;
use super::{Member, MemberKind};

/// Writes a source tree.
///
/// Nobody else writes to the folder, and it has no symbolic links until
/// [`finish`](Self::finish). So `placed` has all that is on the disk, and no path below
/// `into` leads elsewhere.
pub(super) struct TreeWriter<'a> {
    into: &'a Path,
    budget: &'a Budget<'a>,
    top: Top,
    placed: HashMap<PathBuf, Placed>,
    buffer: Vec<u8>,
}

enum Placed {
    Folder {
        modified: Option<SystemTime>,
    },
    File,
    /// Made at the end.
    SymbolicLink {
        target: LinkTarget,
    },
}

impl Placed {
    fn name(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::File => "file",
            Self::SymbolicLink { .. } => "symbolic link",
        }
    }
}

impl<'a> TreeWriter<'a> {
    /// `into` must be empty.
    pub fn new(into: &'a Path, budget: &'a Budget<'a>) -> Result<Self, ArchiveProblem> {
        if fs::read_dir(into).map_err(ArchiveProblem::Unwritable)?.next().is_some() {
            return Err(ArchiveProblem::NotEmpty(into.to_owned()));
        }
        Ok(Self { into, budget, top: Top::default(), placed: HashMap::new(), buffer: vec![0; 64 * 1024] })
    }

    /// Writes one member. Of several with the same name the last one counts, as for tar;
    /// but a folder is not replaced by something else, nor something else by a folder.
    pub fn place(&mut self, member: Member, content: &mut dyn Read) -> Result<(), ArchiveProblem> {
        if !matches!(member.kind, MemberKind::Folder) {
            self.budget.count_member()?;
        }
        let path = member_path(&member.name, self.budget.limits)?;
        if path.as_os_str().is_empty() {
            // The entry `./` for the folder at the top.
            return if matches!(member.kind, MemberKind::Folder) { Ok(()) } else { Err(ArchiveProblem::EmptyName) };
        }
        self.top.add(&path, matches!(member.kind, MemberKind::Folder));
        if let Some(parent) = path.parent() {
            self.ensure_folder(parent)?;
        }
        match member.kind {
            MemberKind::Folder => self.place_folder(path, member.modified),
            MemberKind::File { executable } => self.place_file(path, executable, member.modified, content),
            MemberKind::SymbolicLink(target) => self.place_symbolic_link(path, &target),
            MemberKind::HardLink(target) => self.place_hard_link(path, &target),
        }
    }

    /// Makes the symbolic links, sets the times of folders, and returns the folder of the
    /// source tree.
    pub fn finish(self) -> Result<PathBuf, Fault> {
        let tree = match &self.top {
            Top::Nothing => return Err(ArchiveProblem::Nothing.into()),
            Top::Folder(name) => Path::new(name),
            Top::Several => Path::new(""),
        };
        for (path, placed) in &self.placed {
            self.budget.check_cancelled()?;
            if let Placed::SymbolicLink { target } = placed {
                self.make_link(path, target, tree).map_err(Fault::at(path.as_os_str().as_bytes()))?;
            }
        }
        for (path, placed) in &self.placed {
            if let Placed::Folder { modified: Some(modified) } = placed
                && let Ok(folder) = File::open(self.into.join(path))
            {
                set_modified(&folder, Some(*modified));
            }
        }
        Ok(self.into.join(tree))
    }

    fn make_link(&self, path: &Path, target: &LinkTarget, tree: &Path) -> Result<(), ArchiveProblem> {
        let target = target.within_tree(path.strip_prefix(tree).unwrap_or(path))?;
        std::os::unix::fs::symlink(target, self.into.join(path)).map_err(ArchiveProblem::Unwritable)
    }

    /// Makes a folder and its parents, unless they exist.
    fn ensure_folder(&mut self, path: &Path) -> Result<(), ArchiveProblem> {
        match self.placed.get(path) {
            Some(Placed::Folder { .. }) => return Ok(()),
            Some(other) => {
                let parent = escaped(path.as_os_str().as_bytes());
                return Err(ArchiveProblem::Below { parent, kind: other.name() });
            }
            None if path.as_os_str().is_empty() => return Ok(()),
            None => {}
        }
        // The depth of recursion is limited by `UnpackLimits::depth`.
        if let Some(parent) = path.parent() {
            self.ensure_folder(parent)?;
        }
        self.budget.count_member()?;
        DirBuilder::new().mode(0o755).create(self.into.join(path)).map_err(ArchiveProblem::Unwritable)?;
        self.placed.insert(path.to_owned(), Placed::Folder { modified: None });
        Ok(())
    }

    fn place_folder(&mut self, path: PathBuf, modified: Option<SystemTime>) -> Result<(), ArchiveProblem> {
        if let Some(earlier) = self.placed.get(&path).filter(|earlier| !matches!(earlier, Placed::Folder { .. })) {
            return Err(ArchiveProblem::Conflict { earlier: earlier.name() });
        }
        self.ensure_folder(&path)?;
        self.placed.insert(path, Placed::Folder { modified });
        Ok(())
    }

    fn place_file(
        &mut self,
        path: PathBuf,
        executable: bool,
        modified: Option<SystemTime>,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveProblem> {
        self.remove_earlier(&path)?;
        let mode = if executable { 0o755 } else { 0o644 };
        // `create_new` does not follow links, and opens nothing that exists.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.into.join(&path))
            .map_err(ArchiveProblem::Unwritable)?;
        self.placed.insert(path, Placed::File);
        loop {
            match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => file.write_all(&self.buffer[..read]).map_err(ArchiveProblem::Unwritable)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveProblem::reading(error)),
            }
        }
        set_modified(&file, modified);
        Ok(())
    }

    fn place_symbolic_link(&mut self, path: PathBuf, target: &[u8]) -> Result<(), ArchiveProblem> {
        let target = LinkTarget::parse(target, self.budget.limits)?;
        self.remove_earlier(&path)?;
        self.placed.insert(path, Placed::SymbolicLink { target });
        Ok(())
    }

    fn place_hard_link(&mut self, path: PathBuf, target: &[u8]) -> Result<(), ArchiveProblem> {
        let original = member_path(target, self.budget.limits)
            .ok()
            .filter(|original| *original != path && matches!(self.placed.get(original), Some(Placed::File)))
            .ok_or_else(|| ArchiveProblem::BadHardLink { target: escaped(target) })?;
        self.remove_earlier(&path)?;
        fs::hard_link(self.into.join(original), self.into.join(&path)).map_err(ArchiveProblem::Unwritable)?;
        self.placed.insert(path, Placed::File);
        Ok(())
    }

    /// Makes room for a file or a link. An earlier file is removed and not overwritten:
    /// it may have another name by a hard link.
    fn remove_earlier(&mut self, path: &Path) -> Result<(), ArchiveProblem> {
        match self.placed.get(path) {
            Some(Placed::Folder { .. }) => return Err(ArchiveProblem::Conflict { earlier: "folder" }),
            Some(Placed::File) => fs::remove_file(self.into.join(path)).map_err(ArchiveProblem::Unwritable)?,
            Some(Placed::SymbolicLink { .. }) | None => {}
        }
        self.placed.remove(path);
        Ok(())
    }
}

/// Not every file system can store every time; the content is right all the same.
fn set_modified(file: &File, modified: Option<SystemTime>) {
    if let Some(modified) = modified {
        let _ = file.set_modified(modified);
    }
}
