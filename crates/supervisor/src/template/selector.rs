//! Which template a worker is forked from: decisions only, no processes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::ImportedModule;
use tokio::time::Instant;

use super::learned::{LearnedModules, UnsavedList};
use super::{Template, TemplateCommand};
use crate::ids::TemplateId;
use crate::interpreter::KnownInterpreter;
use crate::tree::TreeImports;

/// Workers of the same key can be forked from the same template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemplateKey {
    pub executable: PathBuf,
    /// Environment variables that requests add.
    pub env: Arc<BTreeMap<OsString, OsString>>,
    /// The module of the backend; `None` for in-tree backends.
    pub backend: Option<String>,
}

/// The two templates that a key can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// With learned modules.
    Learned,
    /// With the backend only, for trees that offer a module of a learned name.
    Plain,
}

/// The state of one key.
struct KeyState {
    interpreter: Arc<KnownInterpreter>,
    learned: LearnedModules,
    /// The backend must not be preloaded.
    backend_refused: bool,
    /// The number of workers requested.
    requests: u64,
    /// When templates of this key failed.
    failures: Vec<Instant>,
    /// The number of consecutive forks that failed.
    failed_forks: usize,
    /// Why its workers are spawned from now on, if they are.
    fallback: Option<String>,
    learned_template: Option<ActiveTemplate>,
    plain_template: Option<ActiveTemplate>,
}

/// A template in use, which was not retired.
#[derive(Clone)]
struct ActiveTemplate {
    template: Arc<Template>,
    last_use: u64,
}

/// Where a worker comes from.
pub(crate) enum Selected {
    Template(Arc<Template>),
    /// The template must be started.
    Start(NewTemplate),
    /// It must be spawned.
    Spawn,
}

/// A template to be started.
pub(crate) struct NewTemplate {
    pub id: TemplateId,
    pub variant: Variant,
    pub backend: Option<String>,
    pub learned: Vec<String>,
}

/// Selects templates, for all keys of a supervisor.
pub(crate) struct TemplateSelector {
    keys: HashMap<TemplateKey, KeyState>,
    max_templates: usize,
    /// The folder with the lists of learned modules.
    folder: Option<PathBuf>,
    next_id: u64,
    /// Counts the selections.
    selections: u64,
    /// Lists of keys that were removed.
    unsaved: Vec<UnsavedList>,
}

impl TemplateSelector {
    /// After so many failures of templates of a key, its workers are spawned.
    /// After so many failed forks, a spawned worker is not replaced in the hope
    /// of a forked one.
    const MOST_FAILURES: usize = 2;
    /// Older failures of templates do not count.
    const FAILURE_WINDOW: Duration = Duration::from_secs(600);
    /// If there are so many keys, those without templates are removed.
    const MOST_KEYS: usize = 1024;

    pub fn new(max_templates: usize, folder: Option<PathBuf>) -> Self {
        Self { keys: HashMap::new(), max_templates, folder, next_id: 0, selections: 0, unsaved: Vec::new() }
    }

    /// The file with the modules that a key has learned in earlier runs. `None`
    /// if the key is known already. Call this before
    /// [`TemplateSelector::select`].
    pub fn unread_list(&self, key: &TemplateKey) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| !self.keys.contains_key(key))?;
        Some(folder.join(file_name(key)))
    }

    /// Adds a key with the modules that it has learned in earlier runs, unless
    /// the key is known already.
    pub fn add_key(&mut self, key: &TemplateKey, interpreter: &Arc<KnownInterpreter>, learned: LearnedModules) {
        if !self.keys.contains_key(key) {
            self.remove_unused();
            self.keys.insert(key.clone(), KeyState::new(interpreter.clone(), learned));
        }
    }

    /// Selects the template for a worker of a tree.
    pub fn select(
        &mut self,
        key: &TemplateKey,
        interpreter: &Arc<KnownInterpreter>,
        imports: &TreeImports,
    ) -> Selected {
        self.add_key(key, interpreter, LearnedModules::default());
        self.selections += 1;
        let selection = self.selections;
        let state = self.keys.get_mut(key).expect("it was added above");
        state.update_interpreter(interpreter);
        state.requests += 1;
        // The variables of a request may not be used again. A template for them
        // is started at their second use.
        let is_first_of_its_variables = !key.env.is_empty() && state.requests == 1;
        if state.fallback.is_some() || is_first_of_its_variables {
            return Selected::Spawn;
        }
        let variant = state.variant_for(imports);
        if let Some(active) = state.slot_mut(variant) {
            active.last_use = selection;
            return Selected::Template(active.template.clone());
        }
        self.next_id += 1;
        let learned = if variant == Variant::Learned { state.learned.names().to_vec() } else { Vec::new() };
        let backend = key.backend.clone().filter(|_| !state.backend_refused);
        Selected::Start(NewTemplate { id: TemplateId(self.next_id), variant, backend, learned })
    }

    /// A template was started. If there are too many now, the least recently
    /// used ones are retired.
    pub fn started(&mut self, key: &TemplateKey, variant: Variant, template: Arc<Template>) {
        if let Some(state) = self.keys.get_mut(key) {
            *state.slot_mut(variant) = Some(ActiveTemplate { template, last_use: self.selections });
        }
        self.retire_surplus();
    }

    /// Changes the number of templates in use. If there are too many now, the
    /// least recently used ones are retired.
    pub fn set_max(&mut self, max_templates: usize) {
        self.max_templates = max_templates;
        self.retire_surplus();
    }

    fn retire_surplus(&mut self) {
        while self.active().count() > self.max_templates {
            let oldest = self.active().min_by_key(|active| active.last_use).map(|active| active.template.clone());
            let Some(oldest) = oldest else { return };
            self.retire(&oldest);
        }
    }

    pub fn templates(&self) -> Vec<Arc<Template>> {
        self.active().map(|active| active.template.clone()).collect()
    }

    fn active(&self) -> impl Iterator<Item = &ActiveTemplate> {
        self.keys.values().flat_map(|state| state.learned_template.iter().chain(&state.plain_template))
    }

    /// Whether a worker that was forked from this template may run hooks of its
    /// tree. It may not if the tree now offers a module of a name that the
    /// template has learned.
    pub fn suits(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        let Some(state) = self.keys.get(key) else { return true };
        let is_learned = state.learned_template.as_ref().is_some_and(|active| Arc::ptr_eq(&active.template, template));
        !is_learned || state.variant_for(imports) == Variant::Learned
    }

    /// Whether this template forks the workers of such a tree.
    pub fn forks_for(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        let Some(state) = self.keys.get(key) else { return false };
        let active = match state.variant_for(imports) {
            Variant::Learned => &state.learned_template,
            Variant::Plain => &state.plain_template,
        };
        active.as_ref().is_some_and(|active| Arc::ptr_eq(&active.template, template))
    }

    /// Whether a worker of this key that was spawned would be forked now.
    pub fn would_fork(&self, key: &TemplateKey) -> bool {
        let would = |state: &KeyState| state.fallback.is_none() && state.failed_forks < Self::MOST_FAILURES;
        self.keys.get(key).is_some_and(would)
    }

    /// A template has forked a worker, or failed to. A template that was retired
    /// meanwhile does not count.
    pub fn answered(&mut self, key: &TemplateKey, template: &Arc<Template>, has_forked: bool) {
        if let Some(state) = self.keys.get_mut(key).filter(|state| state.holds(template)) {
            state.failed_forks = if has_forked { 0 } else { state.failed_forks + 1 };
        }
    }

    /// Retires a template: it forks no more workers, and ends after the last one.
    /// Returns whether it was in use until now.
    pub fn retire(&mut self, template: &Arc<Template>) -> bool {
        let was_used = self.keys.values_mut().any(|state| state.remove(template));
        if was_used {
            template.tell(TemplateCommand::Retire);
        }
        was_used
    }

    /// Retires a template because a file that it has imported has changed.
    pub fn retire_stale(&mut self, key: &TemplateKey, template: &Arc<Template>) -> bool {
        let was_used = self.retire(template);
        if let Some(state) = self.keys.get_mut(key).filter(|_| was_used) {
            state.reset();
        }
        was_used
    }

    /// Retires the templates that are selected by their executable and number, and
    /// forgets the failures and refusals of their keys. A key that may have no
    /// templates, because they have failed, is selected by its executable alone.
    /// Returns the number of templates.
    pub fn restart(&mut self, selects: impl Fn(&Path, Option<TemplateId>) -> bool) -> usize {
        let mut retired = 0;
        for (key, state) in &mut self.keys {
            let before = retired;
            for slot in [&mut state.learned_template, &mut state.plain_template] {
                if let Some(active) = slot.take_if(|active| selects(&key.executable, Some(active.template.id))) {
                    active.template.tell(TemplateCommand::Retire);
                    retired += 1;
                }
            }
            if retired > before || selects(&key.executable, None) {
                state.reset();
            }
        }
        retired
    }

    /// A template has failed. Returns the reason if the workers of its key are
    /// spawned from now on.
    pub fn failed(&mut self, key: &TemplateKey, template: &Arc<Template>, reason: &str) -> Option<String> {
        let state = self.keys.get_mut(key)?;
        state.remove(template);
        state.failures.retain(|failure| failure.elapsed() < Self::FAILURE_WINDOW);
        state.failures.push(Instant::now());
        if state.failures.len() < Self::MOST_FAILURES || state.fallback.is_some() {
            return None;
        }
        state.fallback = Some(reason.to_owned());
        state.fallback.clone()
    }

    /// Later templates of this key do not import the backend.
    pub fn refuse_backend(&mut self, key: &TemplateKey) {
        if let Some(state) = self.keys.get_mut(key) {
            state.backend_refused = true;
        }
    }

    /// Later templates of this key do not import learned modules.
    pub fn refuse_learned(&mut self, key: &TemplateKey) {
        if let Some(state) = self.keys.get_mut(key) {
            state.learned.disable();
        }
    }

    /// A hook has imported these modules. The template of the key learns the new
    /// ones.
    pub fn learn(&mut self, key: &TemplateKey, modules: &[ImportedModule]) {
        let Some(state) = self.keys.get_mut(key) else { return };
        let new = state.learned.learn(modules);
        if let Some(active) = state.learned_template.as_ref().filter(|_| !new.is_empty()) {
            active.template.is_learning.send_replace(true);
            active.template.tell(TemplateCommand::Learn(new));
        }
    }

    /// The lists that have changed since they were saved.
    pub fn unsaved(&mut self) -> Vec<UnsavedList> {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.extend(self.keys.values_mut().filter_map(|state| state.learned.unsaved()));
        unsaved
    }

    /// Removes the keys without templates if there are too many keys. Their lists
    /// stay in their files.
    fn remove_unused(&mut self) {
        if self.keys.len() >= Self::MOST_KEYS {
            self.unsaved = self.unsaved();
            self.keys.retain(|_, state| state.learned_template.is_some() || state.plain_template.is_some());
        }
    }
}

impl KeyState {
    fn new(interpreter: Arc<KnownInterpreter>, learned: LearnedModules) -> Self {
        Self {
            interpreter,
            learned,
            backend_refused: false,
            requests: 0,
            failures: Vec::new(),
            failed_forks: 0,
            fallback: None,
            learned_template: None,
            plain_template: None,
        }
    }

    /// If the interpreter's environment has changed, retires the templates and
    /// resets the key.
    fn update_interpreter(&mut self, interpreter: &Arc<KnownInterpreter>) {
        if !Arc::ptr_eq(&self.interpreter, interpreter) {
            self.interpreter = interpreter.clone();
            self.retire_all();
            self.reset();
        }
    }

    fn retire_all(&mut self) {
        for active in [self.learned_template.take(), self.plain_template.take()].into_iter().flatten() {
            active.template.tell(TemplateCommand::Retire);
        }
    }

    fn reset(&mut self) {
        self.backend_refused = false;
        self.failures.clear();
        self.failed_forks = 0;
        self.fallback = None;
        self.learned.enable();
    }

    /// A preloaded module would hide a module of the same name in the tree, so
    /// such trees get a template without learned modules.
    fn variant_for(&self, imports: &TreeImports) -> Variant {
        match imports.first_offered(self.learned.top_levels()) {
            Some(_) => Variant::Plain,
            None => Variant::Learned,
        }
    }

    fn slot_mut(&mut self, variant: Variant) -> &mut Option<ActiveTemplate> {
        match variant {
            Variant::Learned => &mut self.learned_template,
            Variant::Plain => &mut self.plain_template,
        }
    }

    fn holds(&self, template: &Arc<Template>) -> bool {
        let active = self.learned_template.iter().chain(&self.plain_template);
        active.into_iter().any(|active| Arc::ptr_eq(&active.template, template))
    }

    fn remove(&mut self, template: &Arc<Template>) -> bool {
        for slot in [&mut self.learned_template, &mut self.plain_template] {
            if slot.as_ref().is_some_and(|active| Arc::ptr_eq(&active.template, template)) {
                *slot = None;
                return true;
            }
        }
        false
    }
}

/// The name of the file with the list of a key.
fn file_name(key: &TemplateKey) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(key.executable.as_os_str().as_bytes());
    add(key.backend.as_deref().unwrap_or_default().as_bytes());
    for (name, value) in key.env.iter() {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    let digest: String = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}.json")
}

#[cfg(test)]
mod tests;
