//! From a question to its answer: found, or made once for all who ask.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use hookpool_supervisor::{Interpreter, Supervisor};
use tokio::sync::{OnceCell, Semaphore};

use super::contents::digest;
use super::error::EnvironmentError;
use super::event::EnvironmentEvent;
use super::handle::Held;
use super::identity::identity;
use super::installer::{Installer, believes_any_age, fingerprint};
use super::lock::FileLock;
use super::making::{Plan, make};
use super::manifest::{nanoseconds, now};
use super::requirement::RequirementList;
use super::settings::EnvironmentSettings;
use super::shelf::{Observer, Shelf};
use super::store::Store;
use crate::unblock::unblock;

/// For how long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

type Answer = Result<Arc<Held>, EnvironmentError>;

/// What all clones of [`Environments`](super::Environments) have in common.
pub(super) struct Shared {
    supervisor: Supervisor,
    pub settings: EnvironmentSettings,
    pub shelf: Arc<Shelf>,
    /// Nanoseconds since 1970.
    started_at: u64,
    installer: OnceLock<Result<Installer, EnvironmentError>>,
    /// What the installer's answers depend on, as it was at the first question.
    fingerprint: OnceCell<String>,
    slots: Semaphore,
    /// Whether what other runs left was removed.
    cleaned: OnceCell<()>,
    /// Lists that were asked for. Locked for a look-up only.
    asked: Mutex<HashMap<String, Asked>>,
}

/// How far a list is.
pub(super) enum Asked {
    /// It is being found or made by all who wait for it together, and dropped
    /// with the last of them.
    Running(WeakShared<BoxFuture<'static, Answer>>),
    Answered {
        held: Arc<Held>,
        at: Instant,
    },
}

/// What is asked for.
pub(super) struct Question {
    key: String,
    pub interpreter: Interpreter,
    identity: String,
    requirements: RequirementList,
}

impl Shared {
    pub fn new(
        supervisor: Supervisor,
        settings: EnvironmentSettings,
        observer: Observer,
    ) -> Result<Self, EnvironmentError> {
        let store = Store::open(&settings.cache_folder)?;
        Ok(Self {
            supervisor,
            slots: Semaphore::new(settings.jobs.get()),
            settings,
            shelf: Arc::new(Shelf::new(store, observer)),
            started_at: now(),
            installer: OnceLock::new(),
            fingerprint: OnceCell::new(),
            cleaned: OnceCell::new(),
            asked: Mutex::default(),
        })
    }

    pub async fn interpreter(&self, python: Option<&Path>) -> Result<Interpreter, EnvironmentError> {
        self.supervisor.interpreter(python).await.map_err(EnvironmentError::Interpreter)
    }

    pub async fn question(&self, python: Option<&Path>, requires: &[String]) -> Result<Question, EnvironmentError> {
        let interpreter = self.interpreter(python).await?;
        let requirements = RequirementList::parse(requires, &interpreter)?;
        let fingerprint = self.fingerprint().await?;
        let asked_of = interpreter.clone();
        let identity = unblock(move || identity(&asked_of)).await?;
        let own = [identity.as_str(), fingerprint];
        let key = digest(own.into_iter().chain(requirements.texts().iter().map(String::as_str)));
        Ok(Question { key, interpreter, identity, requirements })
    }

    async fn fingerprint(&self) -> Result<&str, EnvironmentError> {
        let installer = self.installer()?.kind();
        let settings = self.settings.clone();
        let look = || unblock(move || fingerprint(&settings, installer));
        self.fingerprint.get_or_try_init(look).await.map(String::as_str)
    }

    fn installer(&self) -> Result<&Installer, EnvironmentError> {
        let found = self.installer.get_or_init(|| Installer::find(&self.settings));
        found.as_ref().map_err(Clone::clone)
    }

    /// One looks or makes, the others wait for it. A failure is the answer for
    /// all who waited, and not remembered.
    pub async fn answer(self: &Arc<Self>, question: Question) -> Answer {
        let running = {
            let mut asked = self.asked();
            let running = match asked.get(&question.key) {
                Some(Asked::Answered { held, at }) if self.is_believed(held, *at) => return Ok(held.clone()),
                Some(Asked::Running(running)) => running.upgrade(),
                Some(Asked::Answered { .. }) | None => None,
            };
            running.unwrap_or_else(|| {
                let key = question.key.clone();
                let running = self.clone().find_or_make_for_all(question).boxed().shared();
                asked.extend(running.downgrade().map(|weak| (key, Asked::Running(weak))));
                running
            })
        };
        running.await
    }

    /// Not one that was discarded since by whoever looked at its seal.
    fn is_believed(&self, held: &Held, at: Instant) -> bool {
        !held.is_discarded() && (at.elapsed() < BELIEVED || believes_any_age(&self.settings))
    }

    async fn find_or_make_for_all(self: Arc<Self>, question: Question) -> Answer {
        let answer = self.find_or_make(&question).await;
        let mut asked = self.asked();
        match &answer {
            Ok(held) => {
                asked.insert(question.key, Asked::Answered { held: held.clone(), at: Instant::now() });
            }
            Err(_) => {
                asked.remove(&question.key);
            }
        }
        drop(asked);
        answer
    }

    async fn find_or_make(&self, question: &Question) -> Answer {
        if question.requirements.has_urls() {
            // What an address holds today says nothing about tomorrow.
            let made = self.make(question).await?;
            return Ok(Arc::new(made));
        }
        let believed = self.believed_since();
        if let Some(held) = self.known(question, believed).await? {
            return Ok(self.reused(question, held));
        }
        let _lock = self.lock(question).await?;
        // Another process may have made it meanwhile.
        if let Some(held) = self.known(question, believed).await? {
            return Ok(self.reused(question, held));
        }
        match self.make(question).await {
            Ok(made) => self.put(question, made).await,
            Err(error @ EnvironmentError::Installer { .. }) => match self.known(question, 0).await? {
                Some(held) => Ok(self.stale(question, held, &error)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The time of the oldest answer that is believed, in nanoseconds since 1970.
    fn believed_since(&self) -> u64 {
        let a_day_ago = now().saturating_sub(nanoseconds(BELIEVED));
        if self.settings.refresh {
            a_day_ago.max(self.started_at)
        } else if believes_any_age(&self.settings) {
            0
        } else {
            a_day_ago
        }
    }

    async fn known(&self, question: &Question, not_before: u64) -> Result<Option<Arc<Held>>, EnvironmentError> {
        let (shelf, key) = (self.shelf.clone(), question.key.clone());
        let executable = question.interpreter.executable.clone();
        unblock(move || shelf.known(&key, not_before, &executable)).await
    }

    /// Keeps other processes from making the same.
    async fn lock(&self, question: &Question) -> Result<FileLock, EnvironmentError> {
        let path = self.shelf.store.answer_lock(&question.key);
        let failed = || EnvironmentError::system("lock", &path);
        if let Some(lock) = FileLock::try_exclusive(&path).map_err(failed())? {
            return Ok(lock);
        }
        self.observe(EnvironmentEvent::Awaited { requirements: question.requirements.shown() });
        let lock = tokio::select! {
            lock = FileLock::exclusive_later(path.clone()) => lock,
            () = self.supervisor.interrupted() => return Err(EnvironmentError::Interrupted),
        };
        match lock {
            Ok(lock) => lock.map_err(failed()),
            Err(_) => Err(failed()(std::io::Error::other("no thread could be started to wait for it"))),
        }
    }

    async fn make(&self, question: &Question) -> Result<Held, EnvironmentError> {
        self.clean_up().await;
        // Never closed.
        let _slot = self.slots.acquire().await.map_err(|_| EnvironmentError::Interrupted)?;
        let started = Instant::now();
        let installer = self.installer()?;
        let requirements = question.requirements.shown();
        let kind = installer.kind();
        self.observe(EnvironmentEvent::Making { requirements: requirements.clone(), installer: kind });
        let plan = Plan {
            supervisor: &self.supervisor,
            settings: &self.settings,
            store: &self.shelf.store,
            installer,
            interpreter: &question.interpreter,
            identity: &question.identity,
            requirements: &question.requirements,
        };
        let made = make(&plan).await?;
        let folder = made.manifest.folder.clone();
        self.observe(EnvironmentEvent::Made { folder, requirements, after: started.elapsed() });
        Ok(made)
    }

    /// Once, before the first environment is made.
    async fn clean_up(&self) {
        let clean = async || {
            let shelf = self.shelf.clone();
            let count = unblock(move || shelf.remove_leftovers()).await;
            if count > 0 {
                self.observe(EnvironmentEvent::LeftoversRemoved { count });
            }
        };
        self.cleaned.get_or_init(clean).await;
    }

    async fn put(&self, question: &Question, made: Held) -> Answer {
        let (shelf, key, name) = (self.shelf.clone(), question.key.clone(), made.name.clone());
        let held = unblock(move || shelf.put(made, &key)).await?;
        if held.name == name { Ok(held) } else { Ok(self.reused(question, held)) }
    }

    fn reused(&self, question: &Question, held: Arc<Held>) -> Arc<Held> {
        self.introduce(question, &held);
        let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
        self.observe(EnvironmentEvent::Reused { folder, requirements });
        held
    }

    fn stale(&self, question: &Question, held: Arc<Held>, error: &EnvironmentError) -> Arc<Held> {
        self.introduce(question, &held);
        let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
        self.observe(EnvironmentEvent::StaleAnswerUsed { folder, requirements, reason: error.to_string() });
        held
    }

    /// Spares a process for asking the environment's interpreter what it has
    /// said when the environment was made.
    fn introduce(&self, question: &Question, held: &Held) {
        let Some(mut interpreter) = held.manifest.interpreter.clone() else { return };
        // They tell of the system as well, which may have another kernel now.
        interpreter.markers.clone_from(&question.interpreter.markers);
        let made_at = UNIX_EPOCH + Duration::from_nanos(held.manifest.made_at);
        self.supervisor.introduce(&held.python, interpreter, made_at);
    }

    fn observe(&self, event: EnvironmentEvent) {
        (self.shelf.observer)(&event);
    }

    pub fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
