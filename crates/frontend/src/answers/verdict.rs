//! What became of the answers about a source: why they are not kept.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hookpool_supervisor::Hook;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::guard::NotKept;
use super::store::{AnswerStore, Fact};
use crate::source::Source;

/// What became of the answer of a hook since the hook ran last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The name of the hook.
    pub hook: String,
    /// Why the answer is not kept; `None`: it is kept.
    pub not_kept: Option<String>,
}

/// What became of answers, by the names of hooks.
type Noted = BTreeMap<String, Fate>;

#[derive(PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    /// Where it was kept: it may have been removed since.
    KeptAt(Digest),
    NotKept(String),
}

impl AnswerStore {
    /// Notes at which key an answer was kept, or why it was not. Blocks.
    pub(super) fn set_verdict(&self, source: Digest, hook: Hook, kept: Result<Digest, &NotKept>) {
        let mut noted = self.recall::<Noted>(Fact::Verdict, source).unwrap_or_default();
        let fate = kept.map_or_else(|why| Fate::NotKept(why.to_string()), Fate::KeptAt);
        if noted.get(hook.name()) != Some(&fate) {
            noted.insert(hook.name().to_owned(), fate);
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
    let not_kept = |fate| match fate {
        Fate::KeptAt(key) if store.entries.path(key).exists() => None,
        Fate::KeptAt(_) => Some("it was removed from the cache".to_owned()),
        Fate::NotKept(why) => Some(why),
    };
    Ok(noted.into_iter().map(|(hook, fate)| Verdict { hook, not_kept: not_kept(fate) }).collect())
}
