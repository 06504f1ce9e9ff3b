//! The virtual environment of an interpreter as `venv` makes it, kept to make
//! others like it without a process. Everything here blocks, as files do.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hookpool_supervisor::Interpreter;
use hookpool_supervisor::files::{Links, read_regular_file};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

/// A virtual environment with nothing installed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Model {
    /// The folder that it was made in, which its scripts contain.
    folder: String,
    /// The wheel of pip that comes with the interpreter.
    pub pip_wheel: Option<PathBuf>,
    /// What the interpreter of the environment said of itself.
    interpreter: Interpreter,
    /// What the interpreter that made it said at that time.
    base: Interpreter,
    /// In an order in which folders come before what is in them.
    entries: Vec<(PathBuf, Entry)>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Folder,
    Link(PathBuf),
    File {
        text: String,
        permissions: u32,
        /// The copies have it too: the answer of an interpreter does not count if its
        /// `pyvenv.cfg` was written in the same tick of the clock in which it was asked.
        modified: SystemTime,
    },
}

impl Model {
    /// The model of an environment in which nothing is installed yet. `None` if
    /// it is not made of text and links, or its path is no text.
    pub fn of(
        environment: &Path,
        pip_wheel: Option<PathBuf>,
        interpreter: Interpreter,
        base: Interpreter,
    ) -> io::Result<Option<Self>> {
        let Some(folder) = environment.to_str().map(str::to_owned) else { return Ok(None) };
        let mut entries = Vec::new();
        for found in WalkDir::new(environment).min_depth(1) {
            let found = found?;
            let (path, kind) = (found.path(), found.file_type());
            let entry = if kind.is_dir() {
                Entry::Folder
            } else if kind.is_symlink() {
                Entry::Link(path.read_link()?)
            } else {
                let Ok(text) = String::from_utf8(fs::read(path)?) else { return Ok(None) };
                let metadata = found.metadata()?;
                Entry::File { text, permissions: metadata.mode() & 0o777, modified: metadata.modified()? }
            };
            entries.push((path.strip_prefix(environment).unwrap_or(path).to_owned(), entry));
        }
        Ok(Some(Self { folder, pip_wheel, interpreter, base, entries }))
    }

    /// Makes an environment like it. What is installed there already stays. False if its path
    /// is no text.
    pub fn make(&self, environment: &Path) -> io::Result<bool> {
        let Some(folder) = environment.to_str() else { return Ok(false) };
        fs::create_dir_all(environment)?;
        for (path, entry) in &self.entries {
            let path = environment.join(path);
            match entry {
                Entry::Folder => unless_there(fs::create_dir(&path))?,
                Entry::Link(target) => unless_there(symlink(target, &path))?,
                Entry::File { text, permissions, modified } => {
                    let text = self.text_in(folder, text);
                    unless_there(File::create_new(&path).and_then(|mut file| {
                        file.write_all(text.as_bytes())?;
                        file.set_modified(*modified)?;
                        file.set_permissions(Permissions::from_mode(*permissions))
                    }))?;
                }
            }
        }
        Ok(true)
    }

    /// A text of the model in another folder.
    fn text_in(&self, folder: &str, text: &str) -> String {
        // The prompt of a shell is the name alone.
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        text.replace(&self.folder, folder).replace(&name(&self.folder), &name(folder))
    }

    /// What the interpreter of a complete environment like it says of itself. `None` if it has
    /// to be asked: something that is installed there may run at its start, or its base has
    /// changed, as by a `sitecustomize` in the standard library.
    pub fn interpreter_of(&self, environment: &Path, base: &Interpreter) -> Option<Interpreter> {
        let is_like_it = self.base.agrees_with(base)
            && !base.runs_code_at_start()
            && ["pyvenv.cfg", "bin/python"].iter().all(|name| self.has_made(Path::new(name), environment));
        let interpreter = self.interpreter.moved(environment).filter(|_| is_like_it)?;
        let files: Option<Vec<_>> = interpreter.site_folders.iter().map(|folder| startup_files(folder)).collect();
        Some(interpreter.with_startup_files(files?.concat()))
    }

    /// Whether what is at a path is not from what was installed.
    fn has_made(&self, path: &Path, environment: &Path) -> bool {
        let found = self.entries.iter().find(|(known, _)| known == path).map(|(_, entry)| entry);
        let there = environment.join(path);
        match (found, environment.to_str()) {
            (Some(Entry::Link(target)), _) => there.read_link().is_ok_and(|leads_to| leads_to == *target),
            (Some(Entry::File { text, .. }), Some(folder)) => {
                fs::read(there).is_ok_and(|content| content == self.text_in(folder, text).as_bytes())
            }
            _ => false,
        }
    }
}

/// The files that `site` imports at each start because of what is in a package folder. `None` if
/// it may run anything.
fn startup_files(folder: &Path) -> Option<Vec<PathBuf>> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        entries => entries.ok()?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).ok()?;
        if name == DISTUTILS_OF_SETUPTOOLS && runs_distutils_hack(&path) {
            files.push(folder.join("_distutils_hack/__init__.py"));
        } else if runs_at_start(name.as_bytes()) {
            return None;
        }
    }
    Some(files)
}

/// The file by which setuptools has its own distutils imported. Most build environments have it.
const DISTUTILS_OF_SETUPTOOLS: &str = "distutils-precedence.pth";

/// Whether it does that, and no more. By the variable and its default, which setuptools has
/// changed, it may also do nothing.
fn runs_distutils_hack(path: &Path) -> bool {
    const LONGEST: u64 = 1024;
    let line = |default: &str| {
        format!(
            "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, '{default}') == 'local'; \
             enabled and __import__('_distutils_hack').add_shim();"
        )
    };
    let text = read_regular_file(path, Links::Follow, LONGEST).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| ["local", "stdlib"].iter().any(|default| text.trim_end() == line(default)))
}

/// Whether `site` would run, or import, a file of this name in a package folder.
fn runs_at_start(name: &[u8]) -> bool {
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or_default();
    name.ends_with(b".pth") || name.ends_with(b".start") || matches!(stem, b"sitecustomize" | b"usercustomize")
}

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_like_the_model_has_its_own_path() {
        let parent = tempfile::tempdir().unwrap();
        let first = parent.path().join("first");
        fs::create_dir_all(first.join("bin")).unwrap();
        fs::create_dir_all(first.join("lib/python3.11/site-packages")).unwrap();
        symlink("lib", first.join("lib64")).unwrap();
        symlink("/usr/bin/python3", first.join("bin/python")).unwrap();
        fs::write(first.join("bin/activate"), format!("VIRTUAL_ENV='{}' (first)", first.display())).unwrap();
        fs::set_permissions(first.join("bin/activate"), Permissions::from_mode(0o750)).unwrap();
        fs::write(first.join("bin/deactivate"), "of venv").unwrap();
        let interpreter = said(&first, false, &[]);
        let model =
            Model::of(&first, Some("/pip.whl".into()), interpreter.clone(), interpreter.clone()).unwrap().unwrap();
        let model: Model = serde_json::from_slice(&serde_json::to_vec(&model).unwrap()).unwrap();
        let second = parent.path().join("second");
        fs::create_dir_all(second.join("lib/python3.11/site-packages/six")).unwrap();
        fs::create_dir(second.join("bin")).unwrap();
        fs::write(second.join("bin/deactivate"), "installed").unwrap();
        assert!(model.make(&second).unwrap());
        let activate = second.join("bin/activate");
        assert_eq!(fs::read_to_string(&activate).unwrap(), format!("VIRTUAL_ENV='{}' (second)", second.display()));
        let metadata = activate.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o750);
        assert_eq!(metadata.modified().unwrap(), first.join("bin/activate").metadata().unwrap().modified().unwrap());
        assert_eq!(second.join("bin/python").read_link().unwrap(), Path::new("/usr/bin/python3"));
        assert!(second.join("lib64/python3.11/site-packages/six").is_dir());
        assert_eq!(fs::read_to_string(second.join("bin/deactivate")).unwrap(), "installed");
        fs::write(first.join("bin/python3"), b"\xff\xfe").unwrap();
        assert_eq!(
            Model::of(&first, None, interpreter.clone(), interpreter).unwrap(),
            None,
            "a copied interpreter is no text"
        );
    }

    /// What the interpreter in an environment says, or that which made it.
    fn said(prefix: &Path, runs_code_at_start: bool, startup_files: &[&str]) -> Interpreter {
        let packages = prefix.join("lib/python3.11/site-packages");
        let said = serde_json::json!({
            "executable": prefix.join("bin/python"), "version": [3, 11, 7], "implementation": "cpython",
            "prefix": prefix, "base_prefix": "/usr", "scripts": prefix.join("bin"),
            "site_folders": [&packages], "path": ["/usr/lib/python3.11", &packages],
            "runs_code_at_start": runs_code_at_start, "startup_files": startup_files,
        });
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn the_interpreter_of_an_environment_is_known_unless_something_may_run_at_its_start() {
        let parent = tempfile::tempdir().unwrap();
        let (first, other) = (parent.path().join("first"), parent.path().join("other"));
        fs::create_dir_all(first.join("bin")).unwrap();
        symlink("/usr/bin/python3", first.join("bin/python")).unwrap();
        fs::write(first.join("pyvenv.cfg"), format!("home = /usr/bin\ncommand = venv {}\n", first.display())).unwrap();
        let base = |runs_code, files: &[&str]| said(Path::new("/usr"), runs_code, files);
        let model = |interpreter, base| Model::of(&first, None, interpreter, base).unwrap().unwrap();
        let own = ["/usr/lib/python3.11/site-packages/tool_of_user.py"];
        let plain = model(said(&first, false, &[]), base(false, &own));
        assert!(plain.make(&other).unwrap());
        let packages = other.join("lib/python3.11/site-packages");
        fs::create_dir_all(packages.join("tool")).unwrap();
        let expected = Some(said(&other, false, &[]));
        assert_eq!(plain.interpreter_of(&other, &base(false, &own)), expected);
        for name in ["a.pth", "a.start", "sitecustomize.py", "usercustomize", "sitecustomize.cpython-311.so"] {
            fs::write(packages.join(name), "").unwrap();
            assert_eq!(plain.interpreter_of(&other, &base(false, &own)), None, "{name}");
            fs::remove_file(packages.join(name)).unwrap();
        }
        let precedence = packages.join("distutils-precedence.pth");
        let hack = |default, more| {
            let text = format!(
                "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, '{default}') == 'local'; \
                 enabled and __import__('_distutils_hack').add_shim(); {more}\n"
            );
            fs::write(&precedence, text).unwrap();
        };
        let file = packages.join("_distutils_hack/__init__.py");
        for default in ["local", "stdlib"] {
            hack(default, "");
            let found = plain.interpreter_of(&other, &base(false, &own));
            assert_eq!(found, Some(said(&other, false, &[file.to_str().unwrap()])), "{default}");
        }
        hack("local", "import tool");
        assert_eq!(plain.interpreter_of(&other, &base(false, &own)), None, "it runs more");
        fs::remove_file(&precedence).unwrap();
        fs::write(packages.join("a.pth.txt"), "").unwrap();
        assert_eq!(plain.interpreter_of(&other, &base(false, &own)), expected);
        assert_eq!(plain.interpreter_of(&other, &base(true, &own)), None, "a sitecustomize came");
        assert_eq!(plain.interpreter_of(&other, &base(false, &[])), None, "its base has changed");
        for (of_first, of_base) in [
            (said(&first, true, &[]), base(false, &own)),
            (said(&first, false, &["/usr/lib/python3/dist-packages/tool.py"]), base(false, &own)),
            (said(&first, false, &[]), base(true, &own)),
        ] {
            let same = of_base.clone();
            assert_eq!(model(of_first, of_base).interpreter_of(&other, &same), None);
        }
        fs::write(other.join("pyvenv.cfg"), "installed").unwrap();
        assert_eq!(plain.interpreter_of(&other, &base(false, &own)), None, "not the model's pyvenv.cfg");
    }
}
