//! From a question to its answer: found, or made once for all who ask.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::FutureExt;
use hookpool_supervisor::{
    EnvironmentRequirements, JobSlot, KnownInterpreter, LockFile, ReturnedSlot, Supervisor, unblock,
};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::answers::{Answered, Answers, Asked, Basis};
use super::contents::digest;
use super::error::EnvironmentError;
use super::event::EnvironmentEvent;
use super::handle::{Environment, Held};
use super::identity::identity;
use super::installer::{Installation, believes_any_age};
use super::making::{Plan, make};
use super::manifest::{nanoseconds, now};
use super::requirement::RequirementList;
use super::settings::EnvironmentSettings;
use super::shelf::{Observer, Shelf};
use super::store::Store;

/// For how long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) type Answer = Result<Arc<Held>, EnvironmentError>;

/// The right to work for an environment, as whoever asks for it has brought it.
/// Locked for a moment only.
pub(super) type SharedSlot = Arc<Mutex<Slot>>;

pub(super) enum Slot {
    Held(JobSlot),
    /// While somebody else is waited for.
    Returned(ReturnedSlot),
    /// One of our own is taken where it is needed.
    Own,
}

/// What all clones of [`Environments`](super::Environments) have in common.
pub(super) struct Shared {
    supervisor: Supervisor,
    pub settings: EnvironmentSettings,
    pub shelf: Arc<Shelf>,
    /// Nanoseconds since 1970.
    started_at: u64,
    /// By the prefixes of interpreters. Locked for a look-up only.
    installations: Mutex<HashMap<PathBuf, Arc<OnceCell<Arc<Installation>>>>>,
    slots: Semaphore,
    /// Whether it was said that pip is taken in place of uv.
    told_of_pip: AtomicBool,
    /// Whether what other runs left was removed.
    cleaned: OnceCell<()>,
    /// Locked for a look-up only.
    answers: Mutex<Answers>,
}

/// What is asked for.
pub(super) struct Question {
    pub key: String,
    pub interpreter: Arc<KnownInterpreter>,
    installation: Arc<Installation>,
    /// What the installation says belongs to it.
    told: String,
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
            installations: Mutex::default(),
            told_of_pip: AtomicBool::new(false),
            cleaned: OnceCell::new(),
            answers: Mutex::default(),
        })
    }

    pub async fn interpreter(&self, python: Option<&Path>) -> Result<Arc<KnownInterpreter>, EnvironmentError> {
        self.supervisor.interpreter(python).await.map_err(EnvironmentError::Interpreter)
    }

    pub async fn question(&self, python: Option<&Path>, requires: &[String]) -> Result<Question, EnvironmentError> {
        let interpreter = self.interpreter(python).await?;
        let requirements = RequirementList::parse(requires, &interpreter)?;
        let installation = self.installation(&interpreter).await?;
        let (asked_of, told) = (interpreter.clone(), installation.clone());
        let (identity, told) = unblock(move || (identity(&asked_of), told.question())).await;
        let identity = identity?;
        let own = [identity.as_str(), told.as_str()];
        // Not as they are: a token may be new in each job, and is nobody's business.
        let shown = requirements.shown();
        let key = digest(own.into_iter().chain(shown.iter().map(String::as_str)));
        Ok(Question { key, interpreter, installation, told, identity, requirements })
    }

    /// As it was when it was first asked for.
    async fn installation(&self, interpreter: &Arc<KnownInterpreter>) -> Result<Arc<Installation>, EnvironmentError> {
        let cell = {
            /// Beyond that all are looked for again: a program that stays may be
            /// asked for ever new interpreters.
            const KEPT: usize = 32;
            let mut installations = self.installations.lock().unwrap_or_else(PoisonError::into_inner);
            if installations.len() >= KEPT && !installations.contains_key(&interpreter.prefix) {
                installations.clear();
            }
            installations.entry(interpreter.prefix.clone()).or_default().clone()
        };
        let find = || {
            let (settings, interpreter) = (self.settings.clone(), interpreter.clone());
            unblock(move || Installation::find(&settings, &interpreter).map(Arc::new))
        };
        cell.get_or_try_init(find).await.cloned()
    }

    /// The environment that has what is required. Where it has to be made, the
    /// slot is that of whoever asks; `None` takes one of our own.
    pub async fn provide(
        self: &Arc<Self>,
        requirements: &EnvironmentRequirements,
        slot: Option<JobSlot>,
    ) -> Result<Environment, EnvironmentError> {
        let slot = Arc::new(Mutex::new(slot.map_or(Slot::Own, Slot::Held)));
        let python = requirements.python.as_deref();
        let (mut environment, mut basis) = self.ask(python, &requirements.requires, &slot).await?;
        if !requirements.additional.is_empty() {
            let wanted = RequirementList::parse(&requirements.additional, &environment.interpreter)?;
            if !wanted.is_satisfied_by(environment.installed()) {
                let all: Vec<String> = requirements.requires.iter().chain(&requirements.additional).cloned().collect();
                (environment, basis) = self.ask(python, &all, &slot).await?;
            }
        }
        self.answers().know(requirements, &environment, basis);
        Ok(environment)
    }

    async fn ask(
        self: &Arc<Self>,
        python: Option<&Path>,
        requires: &[String],
        slot: &SharedSlot,
    ) -> Result<(Environment, Basis), EnvironmentError> {
        let question = self.question(python, requires).await?;
        let interpreter = question.interpreter.clone();
        let basis = Basis {
            key: question.key.clone(),
            installation: question.installation.clone(),
            told: question.told.clone(),
        };
        let held = self.answer(question, slot).await?;
        Ok((Environment { held, interpreter, requires: requires.into() }, basis))
    }

    /// What [`Shared::provide`] answers, where it is at hand. Looks at the
    /// interpreter's files, and at folders of distributions.
    pub fn at_hand(&self, requirements: &EnvironmentRequirements) -> Option<Environment> {
        let known = self.answers().known(requirements)?;
        let is_good = self.is_believed(&known.answered)
            && !known.environment.interpreter.has_changed()
            && known.basis.still_holds()
            && self.shelf.keeps(&known.answered.held);
        is_good.then_some(known.environment)
    }

    /// One looks or makes, the others wait for it. A failure is the answer for
    /// all who waited, and not remembered.
    async fn answer(self: &Arc<Self>, question: Question, slot: &SharedSlot) -> Answer {
        let answered = match self.answers().get(&question.key) {
            Some(Asked::Answered(answered)) => Some(answered.held.clone()),
            _ => None,
        };
        if let Some(held) = answered {
            let shelf = self.shelf.clone();
            unblock(move || shelf.keeps(&held)).await;
        }
        let running = {
            let mut answers = self.answers();
            let running = match answers.get(&question.key) {
                Some(Asked::Answered(answered)) if self.is_believed(answered) => return Ok(answered.held.clone()),
                Some(Asked::Running(running)) => running.upgrade(),
                Some(Asked::Answered(_)) | None => None,
            };
            match running {
                Some(running) => {
                    give_back(slot);
                    running
                }
                None => {
                    let key = question.key.clone();
                    let running = self.clone().find_or_make_for_all(question, slot.clone()).boxed().shared();
                    if let Some(weak) = running.downgrade() {
                        answers.begin(key, weak);
                    }
                    running
                }
            }
        };
        running.await
    }

    /// Not one that was discarded since by whoever looked at its seal.
    fn is_believed(&self, answered: &Answered) -> bool {
        !answered.held.is_discarded() && (answered.at.elapsed() < BELIEVED || believes_any_age(&self.settings))
    }

    async fn find_or_make_for_all(self: Arc<Self>, question: Question, slot: SharedSlot) -> Answer {
        let answer = self.find_or_make(&question, &slot).await;
        let let_go = self.answers().end(question.key, answer.as_ref().ok());
        // Locks are let go of, which may take a look at a disk.
        unblock(move || drop(let_go)).await;
        answer
    }

    async fn find_or_make(&self, question: &Question, slot: &SharedSlot) -> Answer {
        let store = self.shelf.store.clone();
        // Somebody may have removed them since the start.
        unblock(move || store.make_folders()).await?;
        if question.requirements.has_urls() {
            // What an address holds today says nothing about tomorrow.
            let (made, after) = self.make(question, slot).await?;
            self.observe_made(question, &made, after);
            return Ok(Arc::new(made));
        }
        let believed = self.believed_since();
        if let Some(held) = self.known(question, believed).await? {
            return Ok(self.reused(question, held).await);
        }
        let _lock = self.lock(question, slot).await?;
        // Another process may have made it meanwhile.
        if let Some(held) = self.known(question, believed).await? {
            return Ok(self.reused(question, held).await);
        }
        match self.make(question, slot).await {
            Ok((made, after)) => self.put(question, made, after).await,
            Err(error @ EnvironmentError::Installer { .. }) => match self.known(question, 0).await? {
                Some(held) => Ok(self.stale(question, held, &error).await),
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
    async fn lock(&self, question: &Question, slot: &SharedSlot) -> Result<LockFile, EnvironmentError> {
        /// How often it is tried again: soon at first, seldom in the end.
        const SOON: Duration = Duration::from_millis(5);
        const SELDOM: Duration = Duration::from_millis(250);
        let path = self.shelf.store.answer_lock(&question.key);
        let mut pause = SOON;
        loop {
            let attempt = path.clone();
            let locked = unblock(move || LockFile::try_exclusive(&attempt)).await;
            if let Some(lock) = locked.map_err(EnvironmentError::system("lock", &path))? {
                return Ok(lock);
            }
            if pause == SOON {
                self.observe(EnvironmentEvent::Awaited { requirements: question.requirements.shown() });
                give_back(slot);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.supervisor.interrupted() => return Err(EnvironmentError::Interrupted),
            }
            pause = (2 * pause).min(SELDOM);
        }
    }

    async fn make(&self, question: &Question, slot: &SharedSlot) -> Result<(Held, Duration), EnvironmentError> {
        self.clean_up().await;
        let slot = tokio::select! {
            slot = self.slot(slot) => slot,
            () = self.supervisor.interrupted() => return Err(EnvironmentError::Interrupted),
        };
        let started = Instant::now();
        let installation = &question.installation;
        let requirements = question.requirements.shown();
        let kind = installation.installer.kind();
        if let Some(told_by) = &installation.pip_because_of
            && !self.told_of_pip.swap(true, Ordering::Relaxed)
        {
            self.observe(EnvironmentEvent::PipInPlaceOfUv { told_by: told_by.clone() });
        }
        self.observe(EnvironmentEvent::Making { requirements, installer: kind });
        let plan = Plan {
            supervisor: &self.supervisor,
            settings: &self.settings,
            store: &self.shelf.store,
            installation,
            interpreter: &question.interpreter,
            identity: &question.identity,
            requirements: &question.requirements,
        };
        let made = make(&plan).await?;
        drop(slot);
        Ok((made, started.elapsed()))
    }

    /// The slot to work in; waits for it where it was given back.
    async fn slot(&self, slot: &SharedSlot) -> (Option<JobSlot>, Option<SemaphorePermit<'_>>) {
        let slot = std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), Slot::Own);
        match slot {
            Slot::Held(held) => (Some(held), None),
            Slot::Returned(returned) => (Some(returned.take().await), None),
            // Never closed.
            Slot::Own => (None, self.slots.acquire().await.ok()),
        }
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

    async fn put(&self, question: &Question, made: Held, after: Duration) -> Answer {
        let (shelf, key, name) = (self.shelf.clone(), question.key.clone(), made.name.clone());
        let held = unblock(move || shelf.put(made, &key)).await?;
        if held.name == name {
            self.observe_made(question, &held, after);
        } else {
            self.introduce(question, &held).await;
            let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
            self.observe(EnvironmentEvent::Matched { folder, requirements, after });
        }
        Ok(held)
    }

    fn observe_made(&self, question: &Question, held: &Held, after: Duration) {
        let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
        self.observe(EnvironmentEvent::Made { folder, requirements, after });
    }

    async fn reused(&self, question: &Question, held: Arc<Held>) -> Arc<Held> {
        self.introduce(question, &held).await;
        let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
        self.observe(EnvironmentEvent::Reused { folder, requirements });
        held
    }

    async fn stale(&self, question: &Question, held: Arc<Held>, error: &EnvironmentError) -> Arc<Held> {
        self.introduce(question, &held).await;
        let (folder, requirements) = (held.manifest.folder.clone(), question.requirements.shown());
        self.observe(EnvironmentEvent::StaleAnswerUsed { folder, requirements, reason: error.to_string() });
        held
    }

    /// Spares a process for asking the environment's interpreter what it has
    /// said when the environment was made.
    async fn introduce(&self, question: &Question, held: &Held) {
        let Some(mut interpreter) = held.manifest.interpreter.clone() else { return };
        // They tell of the system as well, which may have another kernel now.
        interpreter.markers.clone_from(&question.interpreter.markers);
        let made_at = UNIX_EPOCH + Duration::from_nanos(held.manifest.made_at);
        let (supervisor, python) = (self.supervisor.clone(), held.python.clone());
        unblock(move || supervisor.introduce(&python, interpreter, made_at)).await;
    }

    fn observe(&self, event: EnvironmentEvent) {
        (self.shelf.observer)(&event);
    }

    pub fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot while somebody else is waited for.
fn give_back(slot: &SharedSlot) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    *slot = match std::mem::replace(&mut *slot, Slot::Own) {
        Slot::Held(held) => Slot::Returned(held.give_back()),
        other => other,
    };
}
