//! The `[build-system]` table of `pyproject.toml` (PEP 517 and 518).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{ErrorKind, HookError};
use crate::files::{Links, read_regular_file};
use crate::request::HookRequest;

/// The `[build-system]` table of a source tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSystem {
    /// The requirements that have to be installed before a hook can run (PEP
    /// 518), as written there.
    pub requires: Vec<String>,
    /// The backend's import path; `None` is setuptools' legacy backend, which
    /// PEP 517 prescribes where none is named.
    pub backend: Option<String>,
    /// Folders of an in-tree backend, relative to the tree.
    pub backend_path: Vec<PathBuf>,
}

/// The backend that runs a hook of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildBackend {
    /// As [`BuildSystem::backend`].
    pub import_path: Option<String>,
    /// As [`BuildSystem::backend_path`].
    pub backend_path: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Pyproject {
    #[serde(rename = "build-system", default, deserialize_with = "table")]
    build_system: Option<Table>,
}

/// Accepts a table only. A derived implementation would also accept an array, as
/// the fields in their order, and so `[[build-system]]`.
fn table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Table>, D::Error> {
    struct OnlyMap;
    impl<'de> Visitor<'de> for OnlyMap {
        type Value = Table;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a table, [build-system]")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table, A::Error> {
            Table::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(OnlyMap).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a table")]
struct Table {
    /// Mandatory (PEP 518).
    requires: Option<Vec<String>>,
    build_backend: Option<String>,
    backend_path: Option<OneOrMany>,
}

/// PEP 517 asks for a list, but flit_core 2.3.0, for example, has a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of folders")]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl BuildBackend {
    /// The backend that `request` names, or the one of the tree's `own`
    /// `pyproject.toml` where the request leaves it open.
    pub fn of(request: &HookRequest, own: impl FnOnce() -> Result<BuildSystem, HookError>) -> Result<Self, HookError> {
        if let (Some(backend), Some(path)) = (&request.backend, &request.backend_path) {
            return Ok(Self { import_path: Some(backend.clone()), backend_path: path.clone() });
        }
        let own = own()?;
        Ok(Self {
            import_path: request.backend.clone().or(own.backend),
            backend_path: request.backend_path.clone().unwrap_or(own.backend_path),
        })
    }
}

impl Default for BuildSystem {
    /// What PEP 517 prescribes for trees without the table.
    fn default() -> Self {
        Self { requires: vec!["setuptools>=40.8.0".into()], backend: None, backend_path: Vec::new() }
    }
}

impl BuildSystem {
    /// Reads the table of a tree's `pyproject.toml`. Blocks.
    ///
    /// The supervisor holds the tree's lock meanwhile: hatch-mypyc renames
    /// `pyproject.toml` while it builds, and without the file a tree looks like
    /// a legacy setuptools project, or like none.
    ///
    /// # Errors
    /// `pyproject.toml` cannot be read or is not valid, or the folder is not a
    /// source tree.
    pub fn read(tree: &Path) -> Result<Self, HookError> {
        const LIMIT: u64 = 16 << 20;
        let path = tree.join("pyproject.toml");
        match read_regular_file(&path, Links::Follow, LIMIT) {
            Ok(bytes) => Self::of_pyproject(Some(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => legacy(tree),
            Err(error) => {
                let message = format!("{}: it cannot be read: {error}", path.display());
                Err(HookError::at_file(ErrorKind::InvalidPyproject, &error, message))
            }
        }
    }

    /// What a `pyproject.toml` says; `None`: there is none.
    ///
    /// # Errors
    /// It is not valid.
    pub fn of_pyproject(pyproject: Option<&[u8]>) -> Result<Self, HookError> {
        pyproject.map_or_else(
            || Ok(Self::default()),
            // Without the tree's path, which is shown beside the message and may
            // be that of a temporary folder.
            |bytes| {
                let invalid = |reason| HookError::new(ErrorKind::InvalidPyproject, format!("pyproject.toml: {reason}"));
                Self::parse(bytes).map_err(invalid)
            },
        )
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| format!("expected UTF-8, found another byte after {} bytes", error.valid_up_to()))?;
        // Windows editors write a byte order mark; TOML neither allows nor
        // forbids it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let pyproject: Pyproject = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let Some(table) = pyproject.build_system else { return Ok(Self::default()) };
        let Some(requires) = table.requires else {
            return Err("the table [build-system] has no `requires`, which PEP 518 makes mandatory".into());
        };
        if table.build_backend.as_ref().is_some_and(String::is_empty) {
            return Err("`build-backend` is empty, expected `module` or `module:object`".into());
        }
        let backend_path = match table.backend_path {
            None => Vec::new(),
            Some(OneOrMany::One(folder)) => vec![folder],
            Some(OneOrMany::Many(folders)) => folders,
        };
        if backend_path.iter().any(|folder| folder.as_os_str().is_empty()) {
            return Err("`backend-path` has an empty entry, expected folders of the tree".into());
        }
        Ok(Self { requires, backend: table.build_backend, backend_path })
    }
}

/// What PEP 517 prescribes for a project without `pyproject.toml`. As in pip,
/// build and uv, `setup.cfg` alone is not enough: setuptools would build any
/// folder, as `unknown` 0.0.0.
fn legacy(tree: &Path) -> Result<BuildSystem, HookError> {
    let message = || format!("{}: expected a source tree, with pyproject.toml or setup.py", tree.display());
    match tree.join("setup.py").metadata() {
        Ok(found) if found.is_file() => Ok(BuildSystem::default()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HookError::at_file(ErrorKind::InvalidSource, &error, format!("{}: {error}", message())))
        }
        _ => Err(HookError::new(ErrorKind::InvalidSource, message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BuildSystem, String> {
        BuildSystem::parse(text.as_bytes())
    }

    #[test]
    fn the_tables_that_occur() {
        let legacy = BuildSystem::default();
        assert_eq!(parse("[project]\nname = 'x'").unwrap(), legacy);
        assert_eq!(parse("").unwrap(), legacy);
        assert_eq!(parse("[build-system]\nrequires = ['a']").unwrap().requires, ["a"]);
        let flit =
            parse("[build-system]\nrequires = []\nbuild-backend = 'flit_core.build_thyself'\nbackend-path = '.'");
        assert_eq!(flit.unwrap().backend_path, [PathBuf::from(".")]);
        let poetry =
            parse("[build-system]\nrequires = []\nbuild-backend = 'a:b'\nbackend-path = ['src', 'x']").unwrap();
        assert_eq!(poetry.backend.as_deref(), Some("a:b"));
        assert_eq!(poetry.backend_path, [PathBuf::from("src"), PathBuf::from("x")]);
        assert_eq!(parse("\u{feff}[build-system]\nrequires = []").unwrap().backend, None);
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("pyproject.toml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let error = BuildSystem::read(tree.path()).unwrap_err();
        assert!(error.message.contains("expected a regular file"), "{}", error.message);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(BuildSystem::read(tree.path()).unwrap_err().kind, ErrorKind::InvalidPyproject);
    }

    #[test]
    fn a_folder_of_anything_is_no_source_tree() {
        let tree = tempfile::tempdir().unwrap();
        for no_project in ["README", "setup.cfg"] {
            std::fs::write(tree.path().join(no_project), "").unwrap();
            let error = BuildSystem::read(tree.path()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidSource);
            assert!(error.message.contains("expected a source tree, with pyproject.toml or setup.py"), "{error}");
        }
        std::fs::create_dir(tree.path().join("setup.py")).unwrap();
        assert_eq!(BuildSystem::read(tree.path()).unwrap_err().kind, ErrorKind::InvalidSource);
        std::fs::remove_dir(tree.path().join("setup.py")).unwrap();
        std::fs::write(tree.path().join("setup.py"), "").unwrap();
        assert_eq!(BuildSystem::read(tree.path()).unwrap(), BuildSystem::default());
    }

    #[test]
    fn the_tables_that_are_refused() {
        assert!(parse("[build-system]\nbuild-backend = 'x'").unwrap_err().contains("requires"));
        assert!(parse("[build-system]\nrequires = 'x'").is_err());
        assert!(parse("[build-system").is_err());
        for (text, expected) in [
            ("[[build-system]]\nrequires = []", "expected a table"),
            ("build-system = 3", "expected a table"),
            ("[build-system]\nrequires = []\nbuild-backend = ''", "`build-backend` is empty"),
            ("[build-system]\nrequires = []\nbackend-path = ''", "`backend-path` has an empty entry"),
            ("[build-system]\nrequires = []\nbackend-path = ['.', '']", "`backend-path` has an empty entry"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(BuildSystem::parse(b"\xff").unwrap_err().contains("UTF-8"));
    }
}
