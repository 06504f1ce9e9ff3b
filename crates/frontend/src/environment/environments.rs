//! The way to an environment: from requirements to an environment that this
//! process uses.
//!
//! 1. Decide what is wanted, and its key ([`Wanted`]).
//! 2. Look whether this process has found that before, or is just looking for it
//!    ([`Memory`]).
//! 3. Look on the disk ([`Store`]), under the lock of the key.
//! 4. Have the requirements resolved ([`resolve`]), if that may save making it, and look for
//!    what they lead to.
//! 5. Make the environment ([`assemble`]), and take it into the store.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::FutureExt;
use hookpool_supervisor::files::{LockFile, unblock};
use hookpool_supervisor::{
    BuildEnvironment, BuildEnvironments, EnvironmentRequirements, JobSlot, KnownInterpreter, MakeEnvironment,
    RequestEnvironment, ReturnedSlot, Supervisor,
};
use tokio::sync::{Mutex as AsyncMutex, OnceCell, OwnedMutexGuard, Semaphore, SemaphorePermit};

use super::assembly::{Order, assemble, resolve};
use super::bytecode::check_bytecode;
use super::contents::content_id;
use super::error::{EnvironmentError, EnvironmentEvent};
use super::handle::{Environment, InUse};
use super::installer::{Installation, Installer, believes_any_age};
use super::memory::{KeyState, Memory, Outcome, Remembered};
use super::pins::Pins;
use super::requirement::RequirementList;
use super::settings::EnvironmentSettings;
use super::store::{EnvironmentObserver, Store, StoredResolution, nanoseconds, now};
use super::wanted::Wanted;

/// For how long it is believed what requirements were resolved to.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long hooks may get an environment without a look at its seal. Callers look after
/// each hook if they keep answers; others would have to wait for that, or hooks for each other.
const UNSEEN: Duration = Duration::from_secs(1);

/// The number of uv's processes at once, for each job.
const UV_PROCESSES: usize = 2;

/// Makes build environments, and finds those that were made.
pub struct Environments {
    supervisor: Supervisor,
    settings: EnvironmentSettings,
    observer: EnvironmentObserver,
    store: Arc<Store>,
    /// Locked for a look-up only.
    memory: Mutex<Memory>,
    /// By the prefixes of interpreters. Locked for a look-up only.
    installations: Mutex<HashMap<PathBuf, Arc<OnceCell<Arc<Installation>>>>>,
    /// For pip, and those who bring no job slot.
    own_slots: Semaphore,
    /// For uv, which mostly waits for the network.
    uv_processes: Semaphore,
    /// In nanoseconds since 1970.
    started_at: u64,
    /// By the pins, who makes an environment with them, and who waits for that.
    turns: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    removed_leftovers: OnceCell<()>,
    told_of_pip: AtomicBool,
    /// Whether the first environment is being made, or was.
    has_begun: AtomicBool,
}

impl Environments {
    /// Environments in the cache folder of `settings`, made by programs that
    /// `supervisor` runs. Makes the folders, and starts nothing. `observer` must
    /// not block.
    ///
    /// # Errors
    /// [`EnvironmentError::Folder`].
    pub fn new(
        supervisor: Supervisor,
        settings: EnvironmentSettings,
        observer: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, EnvironmentError> {
        let observer: EnvironmentObserver = Arc::new(observer);
        let store = Arc::new(Store::new(&settings.cache_folder, observer.clone()));
        store.make_folders()?;
        Ok(Arc::new(Self {
            supervisor,
            observer,
            store,
            memory: Mutex::default(),
            installations: Mutex::default(),
            own_slots: Semaphore::new(settings.jobs.get()),
            uv_processes: Semaphore::new(UV_PROCESSES.saturating_mul(settings.jobs.get()).min(Semaphore::MAX_PERMITS)),
            started_at: now(),
            turns: Mutex::default(),
            removed_leftovers: OnceCell::new(),
            told_of_pip: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            settings,
        }))
    }

    /// The environment of an interpreter that has what `requires` lists, the
    /// dependencies of that, and nothing else. Without `python` it is the
    /// supervisor's interpreter. Requests of hooks say themselves what they need
    /// ([`Environments::for_requests`]).
    ///
    /// Cancel-safe: when nobody waits for an environment any more, its installer
    /// is killed.
    ///
    /// # Errors
    /// [`EnvironmentError`]. The next call tries again.
    pub async fn get(
        self: &Arc<Self>,
        python: Option<&Path>,
        requires: &[String],
    ) -> Result<Environment, EnvironmentError> {
        let (python, requires) = (python.map(Path::to_owned), requires.to_vec());
        let requirements = EnvironmentRequirements { python, requires, additional: Vec::new() };
        self.provide(&requirements, None).await
    }

    /// The environment that has `additional` beside the requirements of
    /// `environment`; that environment itself, if it satisfies them.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub async fn enrich(
        self: &Arc<Self>,
        environment: &Environment,
        additional: &[String],
    ) -> Result<Environment, EnvironmentError> {
        let python = Some(environment.wanted.interpreter.executable.clone());
        let (requires, additional) = (environment.wanted.requires.clone(), additional.to_vec());
        self.provide(&EnvironmentRequirements { python, requires, additional }, None).await
    }

    /// Has a hook run in one of these environments: with `requires`, or those of
    /// the tree's `build-system.requires`, and with `additional`.
    #[must_use]
    pub fn for_requests(
        self: &Arc<Self>,
        requires: Option<Vec<String>>,
        additional: Vec<String>,
    ) -> RequestEnvironment {
        RequestEnvironment { provider: self.clone(), requires, additional }
    }

    /// The content id of the environment that satisfies requirements, if that is known:
    /// the environment is not made for it, and need not exist any more.
    pub(crate) async fn known_content(&self, requirements: &EnvironmentRequirements) -> Option<String> {
        let (python, requires) = (requirements.python.as_deref(), requirements.requires.clone());
        let (wanted, resolution) = self.known_resolution(python, requires).await?;
        let additional = RequirementList::parse(&requirements.additional, &wanted.interpreter).ok()?;
        if additional.is_satisfied_by(&resolution.installed) {
            return Some(resolution.content_id);
        }
        let all = requirements.requires.iter().chain(&requirements.additional).cloned().collect();
        Some(self.known_resolution(python, all).await?.1.content_id)
    }

    /// The same; the environment is made if that is not known.
    pub(crate) async fn content(self: &Arc<Self>, requirements: &EnvironmentRequirements) -> Option<String> {
        // Whoever needs the environment reports why it cannot be had.
        let environment = self.provide(requirements, None).await.ok()?;
        Some(environment.content_id().to_owned())
    }

    async fn known_resolution(
        &self,
        python: Option<&Path>,
        requires: Vec<String>,
    ) -> Option<(Arc<Wanted>, StoredResolution)> {
        // Whoever needs the environment reports why it cannot be had.
        let wanted = self.decide(python, requires).await.ok().filter(|wanted| !wanted.requirements.has_urls())?;
        let (store, key, not_before) = (self.store.clone(), wanted.key.clone(), self.believed_since());
        let resolution = unblock(move || store.resolved(&key, not_before)).await?;
        Some((wanted, resolution))
    }

    /// The number of environments that this process holds: those in use, and some that
    /// were used before. Nobody removes them meanwhile.
    #[must_use]
    pub fn held(&self) -> usize {
        self.memory().found()
    }

    /// Lets go of all environments, and removes those that nobody can use any
    /// more: private and discarded ones. To be called at the end, after
    /// [`Supervisor::drain`].
    pub async fn close(&self) {
        let forgotten = self.memory().clear();
        let store = self.store.clone();
        let clean = move || {
            drop(forgotten);
            store.remove_leftovers();
            store.remove_distributions(UNIX_EPOCH)
        };
        // The next run removes what cannot be removed now.
        let _ = unblock(clean).await;
    }
}

impl fmt::Debug for Environments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Environments").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl BuildEnvironments for Environments {
    fn find(&self, requirements: &EnvironmentRequirements) -> Option<Arc<dyn BuildEnvironment>> {
        let (environment, found) = self.memory().find(requirements)?;
        let is_usable = self.is_believed(&found)
            && environment.wanted.is_current()
            && self.store.is_usable(&found.in_use)
            && (found.in_use.looked_at().elapsed() < UNSEEN || self.store.is_unbroken(&found.in_use));
        is_usable.then(|| Arc::new(environment) as Arc<dyn BuildEnvironment>)
    }

    fn make(self: Arc<Self>, requirements: Arc<EnvironmentRequirements>, slot: JobSlot) -> MakeEnvironment {
        Box::pin(async move {
            let environment = self.provide(&requirements, Some(slot)).await?;
            Ok(Arc::new(environment) as Arc<dyn BuildEnvironment>)
        })
    }
}

/// The steps.
impl Environments {
    /// The environment that satisfies requirements. Without a slot, one of our own
    /// is taken if the environment has to be made.
    async fn provide(
        self: &Arc<Self>,
        requirements: &EnvironmentRequirements,
        slot: Option<JobSlot>,
    ) -> Result<Environment, EnvironmentError> {
        let slot = MakerSlot::new(slot);
        let python = requirements.python.as_deref();
        let mut environment = self.provide_list(python, &requirements.requires, &slot).await?;
        if !requirements.additional.is_empty() {
            let additional = RequirementList::parse(&requirements.additional, &environment.wanted.interpreter)?;
            if !additional.is_satisfied_by(environment.installed()) {
                let all: Vec<String> = requirements.requires.iter().chain(&requirements.additional).cloned().collect();
                environment = self.provide_list(python, &all, &slot).await?;
            }
        }
        self.memory().add(requirements, &environment);
        Ok(environment)
    }

    async fn provide_list(
        self: &Arc<Self>,
        python: Option<&Path>,
        requires: &[String],
        slot: &MakerSlot,
    ) -> Result<Environment, EnvironmentError> {
        let wanted = self.decide(python, requires.to_vec()).await?;
        let in_use = self.find_or_make(wanted.clone(), slot).await?;
        Ok(Environment { in_use, wanted, store: self.store.clone() })
    }

    /// Decides what is wanted, by everything that it depends on.
    async fn decide(&self, python: Option<&Path>, requires: Vec<String>) -> Result<Arc<Wanted>, EnvironmentError> {
        let interpreter = self.supervisor.interpreter(python).await.map_err(EnvironmentError::Interpreter)?;
        let requirements = RequirementList::parse(&requires, &interpreter)?;
        let installation = self.installation(&interpreter).await?;
        unblock(move || Wanted::new(interpreter, requires, requirements, installation).map(Arc::new)).await
    }

    /// What installs for an interpreter. It is found once and then remembered.
    async fn installation(&self, interpreter: &Arc<KnownInterpreter>) -> Result<Arc<Installation>, EnvironmentError> {
        let cell = {
            /// Of more, all are forgotten: a long run may see ever new interpreters.
            const REMEMBERED: usize = 32;
            let mut installations = self.installations.lock().unwrap_or_else(PoisonError::into_inner);
            if installations.len() >= REMEMBERED && !installations.contains_key(&interpreter.prefix) {
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

    /// Finds or makes an environment once for all in this process who want it. All
    /// of them get a failure too, but it is not remembered.
    async fn find_or_make(self: &Arc<Self>, wanted: Arc<Wanted>, slot: &MakerSlot) -> Outcome {
        let remembered = match self.memory().get(&wanted.key) {
            Some(KeyState::Found(found)) => Some(found.in_use.clone()),
            _ => None,
        };
        if let Some(in_use) = remembered {
            let store = self.store.clone();
            unblock(move || store.is_usable(&in_use)).await;
        }
        let pending = {
            let mut memory = self.memory();
            let pending = match memory.get(&wanted.key) {
                Some(KeyState::Found(found)) if self.is_believed(found) => return Ok(found.in_use.clone()),
                Some(KeyState::Pending(future)) => future.upgrade(),
                Some(KeyState::Found(_)) | None => None,
            };
            match pending {
                Some(pending) => {
                    slot.give_back();
                    pending
                }
                None => {
                    let key = wanted.key.clone();
                    let pending = self.clone().find_or_make_for_all(wanted, slot.clone()).boxed().shared();
                    if let Some(weak) = pending.downgrade() {
                        memory.set_pending(key, weak);
                    }
                    pending
                }
            }
        };
        pending.await
    }

    async fn find_or_make_for_all(self: Arc<Self>, wanted: Arc<Wanted>, slot: MakerSlot) -> Outcome {
        let outcome = self.find_or_make_checked(&wanted, &slot).await;
        let forgotten = self.memory().set_outcome(wanted.key.clone(), &outcome);
        // Releasing locks may look at the disk.
        unblock(move || drop(forgotten)).await;
        outcome
    }

    /// Finds or makes an environment, and checks its bytecode: a new one may link to
    /// distributions that have some.
    async fn find_or_make_checked(&self, wanted: &Wanted, slot: &MakerSlot) -> Outcome {
        let in_use = self.find_or_make_on_disk(wanted, slot).await?;
        check_bytecode(&self.supervisor, &self.settings, &self.store, &in_use).await?;
        Ok(in_use)
    }

    /// Finds an environment on the disk, or makes it while other processes wait.
    async fn find_or_make_on_disk(&self, wanted: &Wanted, slot: &MakerSlot) -> Outcome {
        let store = self.store.clone();
        // They may have been removed since the start.
        unblock(move || store.make_folders()).await?;
        if wanted.requirements.has_urls() {
            // What is at an address may be something else tomorrow.
            let (made, after) = self.make(wanted, None, slot).await?;
            self.introduce(wanted, &made).await;
            self.observe_made(wanted, &made, after);
            return Ok(Arc::new(made));
        }
        let not_before = self.believed_since();
        if let Some(in_use) = self.find_on_disk(wanted, not_before).await? {
            return Ok(self.reuse(wanted, in_use).await);
        }
        let _lock = self.lock_key(wanted, slot).await?;
        // Another process may have made it before the lock was free.
        if let Some(in_use) = self.find_on_disk(wanted, not_before).await? {
            return Ok(self.reuse(wanted, in_use).await);
        }
        let started = Instant::now();
        let pins = self.resolve(wanted, slot).await?;
        let _turn = self.turn(pins.as_ref()).await?;
        let pins = self.look_up(pins).await;
        if let Some(in_use) = self.find_pinned(wanted, pins.as_ref()).await? {
            return Ok(self.match_existing(wanted, in_use, started.elapsed()).await);
        }
        match self.make(wanted, pins, slot).await {
            Ok((made, after)) => self.add_to_store(wanted, made, after).await,
            Err(error @ EnvironmentError::Installer { .. }) => match self.find_on_disk(wanted, 0).await? {
                Some(in_use) => Ok(self.reuse_stale(wanted, in_use, &error).await),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn find_on_disk(&self, wanted: &Wanted, not_before: u64) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        let (store, key) = (self.store.clone(), wanted.key.clone());
        let executable = wanted.interpreter.executable.clone();
        unblock(move || store.find(&key, not_before, &executable)).await
    }

    /// Keeps other processes from making the same.
    async fn lock_key(&self, wanted: &Wanted, slot: &MakerSlot) -> Result<LockFile, EnvironmentError> {
        /// The pauses between attempts grow from the first to the last.
        const FIRST_PAUSE: Duration = Duration::from_millis(5);
        const LAST_PAUSE: Duration = Duration::from_millis(250);
        let path = self.store.resolution_lock(&wanted.key);
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = path.clone();
            let locked = unblock(move || LockFile::try_exclusive(&attempt)).await;
            if let Some(lock) = locked.map_err(EnvironmentError::system("lock", &path))? {
                return Ok(lock);
            }
            if pause == FIRST_PAUSE {
                self.observe(EnvironmentEvent::Awaited { requirements: wanted.requirements.redacted() });
                slot.give_back();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.supervisor.interrupted() => return Err(EnvironmentError::Interrupted),
            }
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    /// Asks the installer what it would install, where that may save installing it.
    async fn resolve(&self, wanted: &Wanted, slot: &MakerSlot) -> Result<Option<Pins>, EnvironmentError> {
        let is_uv = matches!(wanted.installation.installer, Installer::Uv(_));
        if !is_uv || wanted.requirements.texts().is_empty() {
            return Ok(None);
        }
        // The first list of all would wait for uv twice.
        let store = self.store.clone();
        if unblock(move || store.distributions.is_empty()).await && !self.has_begun.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        let _place = self.place(wanted, slot).await?;
        resolve(self.order(wanted)).await
    }

    /// Waits until an installer may run. pip, which computes, takes a job slot; uv takes none,
    /// because a slot that waits for the network keeps hooks from running.
    async fn place(&self, wanted: &Wanted, slot: &MakerSlot) -> Result<Place<'_>, EnvironmentError> {
        let place = async {
            match wanted.installation.installer {
                Installer::Uv(_) => {
                    slot.give_back();
                    // The semaphore is never closed.
                    (None, self.uv_processes.acquire().await.ok())
                }
                Installer::Pip(_) => slot.take(&self.own_slots).await,
            }
        };
        tokio::select! {
            place = place => Ok(place),
            () = self.supervisor.interrupted() => Err(EnvironmentError::Interrupted),
        }
    }

    /// Waits while an environment with these pins is made for another list: to make it
    /// twice would be in vain.
    async fn turn(&self, pins: Option<&Pins>) -> Result<Option<OwnedMutexGuard<()>>, EnvironmentError> {
        let Some(pins) = pins else { return Ok(None) };
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let id = pins.id();
            let turn = turns.get(&id).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(id, Arc::downgrade(&turn));
            turn
        };
        tokio::select! {
            turn = turn.lock_owned() => Ok(Some(turn)),
            () = self.supervisor.interrupted() => Err(EnvironmentError::Interrupted),
        }
    }

    /// Looks up again what is kept: others may have installed some of it while this one
    /// waited.
    async fn look_up(&self, pins: Option<Pins>) -> Option<Pins> {
        let (mut pins, store) = (pins?, self.store.clone());
        let look_up = move || {
            pins.look_up(&store.distributions);
            pins
        };
        Some(unblock(look_up).await)
    }

    /// The environment that has exactly these pins.
    async fn find_pinned(&self, wanted: &Wanted, pins: Option<&Pins>) -> Result<Option<Arc<InUse>>, EnvironmentError> {
        let Some(distributions) = pins.and_then(Pins::distributions) else { return Ok(None) };
        let content_id = content_id(&wanted.interpreter_id, &distributions);
        let (store, key) = (self.store.clone(), wanted.key.clone());
        let executable = wanted.interpreter.executable.clone();
        unblock(move || store.resolve_to(&key, &content_id, &executable)).await
    }

    fn order<'a>(&'a self, wanted: &'a Wanted) -> Order<'a> {
        Order { supervisor: &self.supervisor, settings: &self.settings, store: &self.store, wanted }
    }

    async fn make(
        &self,
        wanted: &Wanted,
        pins: Option<Pins>,
        slot: &MakerSlot,
    ) -> Result<(InUse, Duration), EnvironmentError> {
        self.remove_leftovers().await;
        let place = self.place(wanted, slot).await?;
        let started = Instant::now();
        let installation = &wanted.installation;
        if let Some(told_by) = &installation.pip_because_of
            && !self.told_of_pip.swap(true, Ordering::Relaxed)
        {
            self.observe(EnvironmentEvent::PipInPlaceOfUv { told_by: told_by.clone() });
        }
        let (requirements, installer) = (wanted.requirements.redacted(), installation.installer.kind());
        self.observe(EnvironmentEvent::Making { requirements, installer });
        let pins = self.look_up(pins).await;
        let made = assemble(self.order(wanted), pins).await?;
        drop(place);
        Ok((made, started.elapsed()))
    }

    async fn add_to_store(&self, wanted: &Wanted, made: InUse, after: Duration) -> Outcome {
        let (store, key, name) = (self.store.clone(), wanted.key.clone(), made.name.clone());
        let in_use = unblock(move || store.add(made, &key)).await?;
        if in_use.name == name {
            self.introduce(wanted, &in_use).await;
            self.observe_made(wanted, &in_use, after);
            return Ok(in_use);
        }
        Ok(self.match_existing(wanted, in_use, after).await)
    }

    async fn match_existing(&self, wanted: &Wanted, in_use: Arc<InUse>, after: Duration) -> Arc<InUse> {
        self.introduce(wanted, &in_use).await;
        let (folder, requirements) = (in_use.manifest.folder.clone(), wanted.requirements.redacted());
        self.observe(EnvironmentEvent::Matched { folder, requirements, after });
        in_use
    }

    async fn reuse(&self, wanted: &Wanted, in_use: Arc<InUse>) -> Arc<InUse> {
        self.introduce(wanted, &in_use).await;
        let (folder, requirements) = (in_use.manifest.folder.clone(), wanted.requirements.redacted());
        self.observe(EnvironmentEvent::Reused { folder, requirements });
        in_use
    }

    async fn reuse_stale(&self, wanted: &Wanted, in_use: Arc<InUse>, error: &EnvironmentError) -> Arc<InUse> {
        self.introduce(wanted, &in_use).await;
        let (folder, requirements) = (in_use.manifest.folder.clone(), wanted.requirements.redacted());
        self.observe(EnvironmentEvent::StaleResolutionUsed { folder, requirements, reason: error.to_string() });
        in_use
    }
}

/// What the steps need.
impl Environments {
    /// Whether a remembered environment may be used again. Whoever inspected its
    /// seal may have discarded it.
    fn is_believed(&self, found: &Remembered) -> bool {
        !found.in_use.is_discarded() && (found.at.elapsed() < BELIEVED || believes_any_age(&self.settings))
    }

    /// The time of the oldest resolution on the disk that is believed, in
    /// nanoseconds since 1970.
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

    /// Gives the supervisor what the environment's interpreter says about itself, as it was
    /// known when the environment was made. That saves a process.
    async fn introduce(&self, wanted: &Wanted, in_use: &InUse) {
        let Some(mut interpreter) = in_use.manifest.interpreter.clone() else { return };
        // Markers also describe the system, which may have another kernel now.
        interpreter.markers.clone_from(&wanted.interpreter.markers);
        let made_at = UNIX_EPOCH + Duration::from_nanos(in_use.manifest.made_at);
        let (supervisor, python) = (self.supervisor.clone(), in_use.python.clone());
        unblock(move || supervisor.introduce(&python, interpreter, made_at)).await;
    }

    /// Once, before the first environment is made.
    async fn remove_leftovers(&self) {
        let remove = async || {
            let store = self.store.clone();
            let count = unblock(move || store.remove_leftovers()).await;
            if count > 0 {
                self.observe(EnvironmentEvent::LeftoversRemoved { count });
            }
        };
        self.removed_leftovers.get_or_init(remove).await;
    }

    fn observe_made(&self, wanted: &Wanted, in_use: &InUse, after: Duration) {
        let (folder, requirements) = (in_use.manifest.folder.clone(), wanted.requirements.redacted());
        self.observe(EnvironmentEvent::Made { folder, requirements, after });
    }

    fn observe(&self, event: EnvironmentEvent) {
        (self.observer)(&event);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an installer holds while it runs.
type Place<'a> = (Option<JobSlot>, Option<SemaphorePermit<'a>>);

/// The job slot of whoever wants an environment. It is given back while somebody
/// else is waited for. The future that makes the environment shares it with the
/// caller, who may need it for a second environment. Locked for a moment only.
#[derive(Clone)]
struct MakerSlot(Arc<Mutex<SlotState>>);

enum SlotState {
    Held(JobSlot),
    GivenBack(ReturnedSlot),
    /// The caller has brought none, or it was used.
    None,
}

impl MakerSlot {
    fn new(slot: Option<JobSlot>) -> Self {
        Self(Arc::new(Mutex::new(slot.map_or(SlotState::None, SlotState::Held))))
    }

    fn give_back(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = match std::mem::replace(&mut *state, SlotState::None) {
            SlotState::Held(held) => SlotState::GivenBack(held.give_back()),
            other => other,
        };
    }

    /// The slot to work in. Waits for it if it was given back, and for one of
    /// `own` if there is none.
    async fn take<'a>(&self, own: &'a Semaphore) -> Place<'a> {
        let state = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), SlotState::None);
        match state {
            SlotState::Held(held) => (Some(held), None),
            SlotState::GivenBack(returned) => (Some(returned.take().await), None),
            // The semaphore is never closed.
            SlotState::None => (None, own.acquire().await.ok()),
        }
    }
}
