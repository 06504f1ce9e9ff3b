//! Metadata extensions: what a distribution declares beside its core metadata, and
//! whether an installer has to understand it.
//!
//! They come from the withdrawn draft of "metadata 2.0" (PEP 426). Some build backends
//! wrote its files nevertheless, and such wheels still exist.

mod document;
mod policy;

pub use document::MalformedExtensions;
pub use policy::{ExtensionPattern, ExtensionPolicy, InvalidExtensionPattern, SourceForError, WhenRequired};

/// The files of a `.dist-info` folder that may declare extensions. Drafts and backends gave
/// different names to the same file.
pub const EXTENSION_FILES: [&str; 4] = ["pydist.json", "pysdist.json", "metadata.json", "pep426-20131213.json"];

/// An extension that a distribution declares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extension {
    /// Its name, for example `python.commands`.
    pub name: String,
    /// Whether an installer that does not understand it must not install the distribution.
    pub required: bool,
    /// The file that declares it, one of [`EXTENSION_FILES`].
    pub file: &'static str,
}

impl Extension {
    /// Parses one of [`EXTENSION_FILES`]. The order is that of the file.
    fn parse(file: &'static str, bytes: &[u8]) -> Result<Vec<Self>, MalformedExtensions> {
        let declared = document::parse(bytes)?;
        Ok(declared.into_iter().map(|(name, required)| Self { name, required, file }).collect())
    }
}

/// Reads all four files with `read`, which returns `None` for a missing file. `malformed`
/// makes the error for an invalid one.
pub(crate) fn read_all<E>(
    mut read: impl FnMut(&'static str) -> Result<Option<Vec<u8>>, E>,
    malformed: impl Fn(&'static str, MalformedExtensions) -> E,
) -> Result<Vec<Extension>, E> {
    let mut all = Vec::new();
    for file in EXTENSION_FILES {
        if let Some(bytes) = read(file)? {
            all.extend(Extension::parse(file, &bytes).map_err(|error| malformed(file, error))?);
        }
    }
    Ok(all)
}
