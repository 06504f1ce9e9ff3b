//! Extensions of metadata: what a distribution says beside its core metadata,
//! and whether whoever installs it has to understand that.
//!
//! They come from a draft of "metadata 2.0" (PEP 426) that was withdrawn. Some
//! build backends wrote its files all the same, and such wheels are still
//! there.

mod document;
mod policy;

pub use document::MalformedExtensions;
pub use policy::{ExtensionPattern, ExtensionPolicy, InvalidExtensionPattern, SourceForError, WhenRequired};

/// The files of a `.dist-info` folder that may declare extensions: the names
/// that successive drafts and backends gave to one and the same thing.
pub const EXTENSION_FILES: [&str; 4] = ["pydist.json", "pysdist.json", "metadata.json", "pep426-20131213.json"];

/// An extension that a distribution declares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extension {
    /// Its name, such as `python.commands`.
    pub name: String,
    /// Whether whoever does not understand it must not install the
    /// distribution.
    pub required: bool,
    /// The file that says so, one of [`EXTENSION_FILES`].
    pub file: &'static str,
}

impl Extension {
    /// The extensions that one of [`EXTENSION_FILES`] declares, in its order.
    ///
    /// # Errors
    /// The file is not what it should be: nobody knows what it requires.
    pub fn parse(file: &'static str, bytes: &[u8]) -> Result<Vec<Self>, MalformedExtensions> {
        let declared = document::parse(bytes)?;
        Ok(declared.into_iter().map(|(name, required)| Self { name, required, file }).collect())
    }
}

/// Reads all four files with `read`, which answers `None` for one that is not
/// there, and `malformed` makes an error of one that is wrong.
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
