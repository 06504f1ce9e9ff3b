//! What became of the answers about a source: why they are not kept.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hookpool_supervisor::Hook;

use super::digest::Digest;
use super::guard::NotKept;
use super::store::{AnswerStore, Fact};
use crate::source::Source;

/// What became of the answer of a hook when the hook ran last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The name of the hook.
    pub hook: String,
    /// Why the answer is not kept; `None`: it is kept.
    pub not_kept: Option<String>,
}

/// The reasons by the names of hooks.
type Noted = BTreeMap<String, Option<String>>;

impl AnswerStore {
    /// Notes what became of an answer. Blocks.
    pub(super) fn set_verdict(&self, source: Digest, hook: Hook, why: Option<&NotKept>) {
        let mut noted = self.recall::<Noted>(Fact::Verdict, source).unwrap_or_default();
        let why = why.map(ToString::to_string);
        if noted.get(hook.name()) != Some(&why) {
            noted.insert(hook.name().to_owned(), why);
            self.note(Fact::Verdict, source, &noted);
        }
    }
}

/// What became of the answers about a source. Blocks.
///
/// # Errors
/// The source cannot be read.
pub fn verdicts(cache_folder: &Path, source: &Source) -> io::Result<Vec<Verdict>> {
    let store = AnswerStore::open(cache_folder);
    let source = match source {
        Source::SourceArchive(archive) => store.digest_of_archive(archive)?,
        Source::Tree(path) | Source::Wheel(path) => Digest::of_path(&path.canonicalize()?),
    };
    let noted = store.recall::<Noted>(Fact::Verdict, source).unwrap_or_default();
    Ok(noted.into_iter().map(|(hook, not_kept)| Verdict { hook, not_kept }).collect())
}
