//! Which template a worker is forked from: decisions only, no processes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::ImportedModule;
use tokio::time::Instant;

use super::learned::{LearnedModules, UnsavedList};
use super::variables::ReadVariables;
use super::{Template, TemplateCommand};
use crate::caller::Variables;
use crate::ids::TemplateId;
use crate::interpreter::KnownInterpreter;
use crate::tree::TreeImports;

/// Workers of the same key can be forked from the same template, as far as their
/// variables allow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemplateKey {
    pub executable: PathBuf,
    /// The module of the backend; `None` for in-tree backends.
    pub backend: Option<String>,
}

/// The two templates that variables of a key can have.
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
    /// For variables that differ in what templates have read.
    environments: Vec<EnvironmentState>,
}

/// The state of the workers of a key for which templates with the same variables
/// will do.
struct EnvironmentState {
    /// Those of its templates.
    variables: Arc<Variables>,
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
    pub variables: Arc<Variables>,
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
    /// If there are so many keys, or different variables of a key, those without
    /// templates are removed. A list of learned modules takes some 30 KB, and is read
    /// from its file when its key is needed again.
    const MOST_KEYS: usize = 64;
    const MOST_ENVIRONMENTS: usize = 64;

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
        variables: &Arc<Variables>,
        imports: &TreeImports,
    ) -> Selected {
        self.add_key(key, interpreter, LearnedModules::default());
        self.selections += 1;
        let selection = self.selections;
        let state = self.keys.get_mut(key).expect("it was added above");
        state.update_interpreter(interpreter);
        let variant = state.variant_for(imports);
        let learned = if variant == Variant::Learned { state.learned.names() } else { &[] };
        let learned = learned.to_vec();
        let is_only = state.environments.is_empty();
        let environment = state.environment_of(variables);
        environment.requests += 1;
        // Values that modules read and that differ from earlier ones, such as the
        // number of a build, may not come again. A template for them is started
        // at their second use.
        let is_first_use = !is_only && environment.requests == 1;
        if environment.fallback.is_some() || is_first_use {
            return Selected::Spawn;
        }
        if let Some(active) = environment.slot_mut(variant) {
            active.last_use = selection;
            return Selected::Template(active.template.clone());
        }
        self.next_id += 1;
        let backend = key.backend.clone().filter(|_| !environment.backend_refused);
        let variables = environment.variables.clone();
        Selected::Start(NewTemplate { id: TemplateId(self.next_id), variables, variant, backend, learned })
    }

    /// A template was started. If there are too many now, the least recently
    /// used ones are retired.
    pub fn started(&mut self, key: &TemplateKey, variant: Variant, template: Arc<Template>) {
        let last_use = self.selections;
        if let Some(environment) = self.environment_mut(key, &template) {
            *environment.slot_mut(variant) = Some(ActiveTemplate { template, last_use });
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
        self.keys.values().flat_map(|state| &state.environments).flat_map(EnvironmentState::active)
    }

    fn environment(&self, key: &TemplateKey, template: &Template) -> Option<&EnvironmentState> {
        self.keys.get(key)?.environments.iter().find(|environment| environment.is_of(template))
    }

    fn environment_mut(&mut self, key: &TemplateKey, template: &Template) -> Option<&mut EnvironmentState> {
        self.keys.get_mut(key)?.environments.iter_mut().find(|environment| environment.is_of(template))
    }

    /// Whether a worker that was forked from this template may run hooks of its
    /// tree. It may not if the tree now offers a module of a name that the
    /// template has learned.
    pub fn suits(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        let Some(state) = self.keys.get(key) else { return true };
        let learned = self.environment(key, template).and_then(|environment| environment.learned_template.as_ref());
        let is_learned = learned.is_some_and(|active| Arc::ptr_eq(&active.template, template));
        !is_learned || state.variant_for(imports) == Variant::Learned
    }

    /// Whether this template forks the workers of such a tree.
    pub fn forks_for(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        let Some(state) = self.keys.get(key) else { return false };
        let Some(environment) = self.environment(key, template) else { return false };
        let active = match state.variant_for(imports) {
            Variant::Learned => &environment.learned_template,
            Variant::Plain => &environment.plain_template,
        };
        active.as_ref().is_some_and(|active| Arc::ptr_eq(&active.template, template))
    }

    /// Whether a worker of this key that was spawned would be forked now.
    pub fn would_fork(&self, key: &TemplateKey, variables: &Variables) -> bool {
        let Some(state) = self.keys.get(key) else { return false };
        let read = state.learned.read();
        let mut environments = state.environments.iter();
        let environment = environments.find(|environment| read.are_equal(&environment.variables, variables));
        environment.is_none_or(|found| found.fallback.is_none() && found.failed_forks < Self::MOST_FAILURES)
    }

    /// Imports in a template have read these variables.
    pub fn add_read(&mut self, key: &TemplateKey, read: &ReadVariables) {
        if let Some(state) = self.keys.get_mut(key) {
            state.learned.add_read(read);
        }
    }

    /// A template has forked a worker, or failed to. A template that was retired
    /// meanwhile does not count.
    pub fn answered(&mut self, key: &TemplateKey, template: &Arc<Template>, has_forked: bool) {
        if let Some(state) = self.environment_mut(key, template).filter(|state| state.holds(template)) {
            state.failed_forks = if has_forked { 0 } else { state.failed_forks + 1 };
        }
    }

    /// Retires a template: it forks no more workers, and ends after the last one.
    /// Returns whether it was in use until now.
    pub fn retire(&mut self, template: &Arc<Template>) -> bool {
        let mut environments = self.keys.values_mut().flat_map(|state| &mut state.environments);
        let was_used = environments.any(|environment| environment.remove(template));
        if was_used {
            template.tell(TemplateCommand::Retire);
        }
        was_used
    }

    /// Retires the templates of an interpreter, which has these names.
    pub fn retire_interpreter(&mut self, interpreters: &HashSet<PathBuf>) {
        let keys = self.keys.iter().filter(|(key, _)| interpreters.contains(&key.executable));
        let active = keys.flat_map(|(_, state)| &state.environments).flat_map(EnvironmentState::active);
        for template in active.map(|active| active.template.clone()).collect::<Vec<_>>() {
            self.retire(&template);
        }
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
            let environments = state.environments.iter_mut();
            for slot in environments.flat_map(|state| [&mut state.learned_template, &mut state.plain_template]) {
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
        let state = self.environment_mut(key, template)?;
        state.remove(template);
        state.failures.retain(|failure| failure.elapsed() < Self::FAILURE_WINDOW);
        state.failures.push(Instant::now());
        if state.failures.len() < Self::MOST_FAILURES || state.fallback.is_some() {
            return None;
        }
        state.fallback = Some(reason.to_owned());
        state.fallback.clone()
    }

    /// Later templates with the variables of this one do not import the backend.
    pub fn refuse_backend(&mut self, key: &TemplateKey, template: &Template) {
        if let Some(state) = self.environment_mut(key, template) {
            state.backend_refused = true;
        }
    }

    /// Later templates of this key do not import learned modules.
    pub fn refuse_learned(&mut self, key: &TemplateKey) {
        if let Some(state) = self.keys.get_mut(key) {
            state.learned.disable();
        }
    }

    /// A hook has imported these modules. The templates of the key learn the new
    /// ones.
    pub fn learn(&mut self, key: &TemplateKey, modules: &[ImportedModule]) {
        let Some(state) = self.keys.get_mut(key) else { return };
        let new = state.learned.learn(modules);
        let learned = state.environments.iter().filter_map(|environment| environment.learned_template.as_ref());
        for active in learned.filter(|_| !new.is_empty()) {
            active.template.is_learning.send_replace(true);
            active.template.tell(TemplateCommand::Learn(new.clone()));
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
            self.keys.retain(|_, state| state.environments.iter().any(EnvironmentState::has_template));
        }
    }
}

impl KeyState {
    fn new(interpreter: Arc<KnownInterpreter>, learned: LearnedModules) -> Self {
        let mut state = Self { interpreter, learned, environments: Vec::new() };
        state.note_start_code();
        state
    }

    /// Code that runs at the start of the interpreter is not observed.
    fn note_start_code(&mut self) {
        if self.interpreter.interpreter.runs_code_at_start {
            self.learned.add_read(&ReadVariables { all: true, ..ReadVariables::default() });
        }
    }

    /// The state for workers with these variables.
    fn environment_of(&mut self, variables: &Arc<Variables>) -> &mut EnvironmentState {
        let read = self.learned.read();
        let is_alike = |state: &EnvironmentState| read.are_equal(&state.variables, variables);
        let index = self.environments.iter().position(is_alike).unwrap_or_else(|| {
            if self.environments.len() >= TemplateSelector::MOST_ENVIRONMENTS {
                self.environments.retain(EnvironmentState::has_template);
            }
            self.environments.push(EnvironmentState::new(variables.clone()));
            self.environments.len() - 1
        });
        &mut self.environments[index]
    }

    /// If the interpreter's environment has changed, retires the templates and
    /// resets the key.
    fn update_interpreter(&mut self, interpreter: &Arc<KnownInterpreter>) {
        if !Arc::ptr_eq(&self.interpreter, interpreter) {
            self.interpreter = interpreter.clone();
            self.retire_all();
            self.reset();
            // Other modules may read others.
            self.environments.clear();
            self.learned.forget_read();
            self.note_start_code();
        }
    }

    fn retire_all(&mut self) {
        for state in &mut self.environments {
            for active in [state.learned_template.take(), state.plain_template.take()].into_iter().flatten() {
                active.template.tell(TemplateCommand::Retire);
            }
        }
    }

    fn reset(&mut self) {
        for state in &mut self.environments {
            state.backend_refused = false;
            state.failures.clear();
            state.failed_forks = 0;
            state.fallback = None;
        }
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
}

impl EnvironmentState {
    fn new(variables: Arc<Variables>) -> Self {
        Self {
            variables,
            backend_refused: false,
            requests: 0,
            failures: Vec::new(),
            failed_forks: 0,
            fallback: None,
            learned_template: None,
            plain_template: None,
        }
    }

    fn active(&self) -> impl Iterator<Item = &ActiveTemplate> {
        self.learned_template.iter().chain(&self.plain_template)
    }

    fn has_template(&self) -> bool {
        self.active().next().is_some()
    }

    /// Whether the template is, or was, one of these.
    fn is_of(&self, template: &Template) -> bool {
        Arc::ptr_eq(&self.variables, &template.variables)
    }

    fn slot_mut(&mut self, variant: Variant) -> &mut Option<ActiveTemplate> {
        match variant {
            Variant::Learned => &mut self.learned_template,
            Variant::Plain => &mut self.plain_template,
        }
    }

    fn holds(&self, template: &Arc<Template>) -> bool {
        self.active().any(|active| Arc::ptr_eq(&active.template, template))
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
    let digest: String = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}.json")
}

#[cfg(test)]
mod tests;
