//! Answers: what hooks returned, made and printed, kept between runs.
//!
//! [`Answers::lookup`] makes a [`Lookup`] for each request. It is asked before a hook
//! runs, and told afterwards what the hook answered. What an answer depends on is in
//! `key`, whether it may be kept in `guard`, and where it is kept in `store`.

mod answer;
mod archive;
mod comparison;
mod compilers;
mod digest;
mod files;
mod guard;
mod key;
mod lookup;
mod pruning;
mod records;
mod remote;
mod statistics;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod variables;
mod verdict;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{Builder, CallerProcess, Hook, HookRequest};

pub(crate) use archive::TopFiles;
pub(crate) use digest::Digest;
pub use guard::NotKept;
pub(crate) use lookup::{Asked, Hit, is_pure_wheel};
pub use lookup::{Keeping, Lookup, Settled, settle};
pub use pruning::{AnswersUsage, answers_usage};
pub(crate) use pruning::{PrunedAnswers, prune_answers};
pub use remote::{InvalidRemote, RemoteAnswers};
pub use statistics::AnswerStatistics;
pub(crate) use variables::counted_variables;
pub use verdict::{Verdict, verdicts};

use key::Circumstances;
use store::AnswerStore;

use crate::files::random;

/// Which answers are kept and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AnswerPolicy {
    /// None.
    None,
    /// Metadata and pure wheels of archives.
    #[default]
    Archives,
    /// Those of source trees, too, and their source distributions.
    Trees,
    /// Wheels with compiled code, too, unless a program was started to build one of a tree.
    All,
}

/// How answers are kept and used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnswerSettings {
    /// The cache folder.
    pub cache_folder: PathBuf,
    /// Which answers are kept and used. Default: those of archives.
    pub policy: AnswerPolicy,
    /// Whether all hooks run, and their answers replace the kept ones. Default: no.
    pub refresh: bool,
    /// The percentage of kept answers whose hooks run nevertheless, to compare the
    /// answers. Default: 0.
    pub verify: u8,
    /// The store that shares answers with other machines. Default: none.
    pub remote: Option<RemoteAnswers>,
}

impl AnswerSettings {
    /// The defaults, with answers in this cache folder.
    #[must_use]
    pub fn new(cache_folder: PathBuf) -> Self {
        Self { cache_folder, policy: AnswerPolicy::default(), refresh: false, verify: 0, remote: None }
    }
}

/// The answers of hooks that ran before.
#[derive(Debug)]
pub struct Answers {
    settings: AnswerSettings,
    pub(crate) store: AnswerStore,
    /// Of hooks that inherit from this process.
    circumstances: Arc<Circumstances>,
    /// Of hooks that inherit from others, the last ones.
    of_callers: Mutex<VecDeque<(Arc<CallerProcess>, Arc<Circumstances>)>>,
}

impl Answers {
    /// Opens the answers. `None` if none are wanted.
    pub async fn open(settings: AnswerSettings) -> Option<Arc<Self>> {
        if settings.policy == AnswerPolicy::None {
            return None;
        }
        let open = move || {
            let store = AnswerStore::open(&settings.cache_folder);
            let store = match settings.remote.clone() {
                Some(remote) => store.shared_with(remote),
                None => store,
            };
            let circumstances = Arc::new(Circumstances::new(None, settings.policy == AnswerPolicy::All));
            Arc::new(Self { store, circumstances, of_callers: Mutex::default(), settings })
        };
        Some(unblock(open).await)
    }

    /// Has a supervisor observe its hooks, without which no answers are kept, and keep what
    /// interpreters say.
    #[must_use]
    pub fn attach(builder: Builder) -> Builder {
        let (counted, uncounted) = (variables::counted_variables(None), variables::uncounted_variables());
        builder.observe(&variables::watched()).keep_interpreters(counted, uncounted)
    }

    /// The look-up for a hook of a source tree; `None` if such answers are not kept.
    #[must_use]
    pub fn lookup(self: &Arc<Self>, request: &HookRequest) -> Option<Arc<Lookup>> {
        self.lookup_for(Asked::Tree, request)
    }

    pub(crate) fn lookup_for(self: &Arc<Self>, asked: Asked, request: &HookRequest) -> Option<Arc<Lookup>> {
        let of_tree = asked == Asked::Tree;
        let is_wanted = match request.hook {
            Hook::GetRequiresForBuildWheel | Hook::PrepareMetadataForBuildWheel => true,
            // Metadata from elsewhere would have to be part of the key.
            Hook::BuildWheel => request.metadata_directory.is_none(),
            Hook::GetRequiresForBuildSdist | Hook::BuildSdist => of_tree,
            _ => false,
        };
        let is_kept = is_wanted && (!of_tree || self.settings.policy >= AnswerPolicy::Trees);
        is_kept.then(|| Arc::new(Lookup::new(self.clone(), asked, request)))
    }

    /// Whether answers of other machines may be had.
    pub(crate) fn can_fetch(&self) -> bool {
        self.store.can_fetch()
    }

    /// The digest of an archive; `None` if it cannot be read. Blocks.
    pub(crate) fn digest_of_archive(&self, archive: &Path) -> Option<Digest> {
        let digest = self.store.digest_of_archive(archive);
        digest.inspect_err(|error| tracing::debug!("{}: {error}", archive.display())).ok()
    }

    /// What was counted since [`Answers::close`].
    #[must_use]
    pub fn statistics(&self) -> AnswerStatistics {
        self.store.statistics()
    }

    /// Waits for answers on their way to other machines, for half a minute at most, and
    /// adds what was counted to the statistics of the cache folder.
    pub async fn close(self: &Arc<Self>) {
        let answers = self.clone();
        unblock(move || answers.store.finish()).await;
    }

    /// What the answers of hooks of this caller have in common. Blocks.
    fn circumstances_of(&self, caller: Option<&Arc<CallerProcess>>) -> Arc<Circumstances> {
        /// The number of callers that are remembered.
        const MOST: usize = 16;
        let Some(caller) = caller else { return self.circumstances.clone() };
        let of_callers = || self.of_callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = of_callers().iter().find(|(known, _)| known == caller) {
            return known.clone();
        }
        let circumstances = Arc::new(Circumstances::new(Some(caller), self.settings.policy == AnswerPolicy::All));
        let mut of_callers = of_callers();
        of_callers.truncate(MOST - 1);
        of_callers.push_front((caller.clone(), circumstances.clone()));
        circumstances
    }

    /// Whether this hit is one of those whose hooks run nevertheless.
    fn is_to_be_verified(&self) -> bool {
        random() % 100 < u64::from(self.settings.verify)
    }
}
