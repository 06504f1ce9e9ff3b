//! Which template is used for what: decisions only, no processes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookd_protocol::ImportedModule;
use tokio::time::Instant;

use super::Template;
use super::learned::{LearnedModules, UnsavedList};
use super::message::TemplateCommand;
use crate::ids::TemplateId;
use crate::interpreter::KnownInterpreter;
use crate::tree::TreeImports;

/// What templates are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemplateKey {
    pub executable: PathBuf,
    /// Variables that requests add to the environment.
    pub env: Arc<BTreeMap<OsString, OsString>>,
    /// The module of the backend; none for in-tree backends.
    pub backend: Option<String>,
}

/// A key has two templates at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// With learned modules.
    Learned,
    /// With the backend alone, for trees that offer a name which is among the
    /// learned.
    Plain,
}

/// What is known of one key.
struct Family {
    interpreter: Arc<KnownInterpreter>,
    learned: LearnedModules,
    /// Whether the backend itself must not be preloaded.
    backend_refused: bool,
    /// How often a worker was asked for.
    uses: u64,
    /// When templates ended by themselves.
    failures: Vec<Instant>,
    /// How often in a row a template forked no worker.
    forks_refused: usize,
    /// Why its workers are spawned from now on.
    fallback: Option<String>,
    learned_template: Option<Live>,
    plain_template: Option<Live>,
}

/// A template that forks.
#[derive(Clone)]
struct Live {
    template: Arc<Template>,
    turn: u64,
}

/// Where a worker is to come from.
pub(crate) enum Choice {
    Template(Arc<Template>),
    /// No such template is there: start one that preloads these.
    Start(Start),
    /// No template is to be used.
    Spawn,
}

/// A template to be started.
pub(crate) struct Start {
    pub id: TemplateId,
    pub variant: Variant,
    pub backend: Option<String>,
    pub learned: Vec<String>,
}

/// All keys of a supervisor.
pub(crate) struct Book {
    families: HashMap<TemplateKey, Family>,
    max_templates: usize,
    /// Where learned lists are kept.
    folder: Option<PathBuf>,
    next_id: u64,
    next_turn: u64,
    /// Lists of keys that were forgotten, on their way to their files.
    unsaved: Vec<UnsavedList>,
}

impl Book {
    /// After so many templates of a key have ended by themselves, its workers
    /// are spawned.
    const MOST_FAILURES: usize = 2;
    /// The time in which they count.
    const FAILURE_WINDOW: Duration = Duration::from_secs(600);
    /// Keys without templates that are remembered.
    const FAMILIES_KEPT: usize = 1024;

    pub fn new(max_templates: usize, folder: Option<PathBuf>) -> Self {
        Self { families: HashMap::new(), max_templates, folder, next_id: 0, next_turn: 0, unsaved: Vec::new() }
    }

    /// Where to look for what a key has learned in earlier runs, unless the key
    /// is known already: before [`Book::choose`].
    pub fn unread_list(&self, key: &TemplateKey) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| !self.families.contains_key(key))?;
        Some(folder.join(file_name(key)))
    }

    /// What a key has learned in earlier runs, unless that is known by now.
    pub fn introduce(&mut self, key: &TemplateKey, interpreter: &Arc<KnownInterpreter>, learned: LearnedModules) {
        if !self.families.contains_key(key) {
            self.forget_unused();
            self.families.insert(key.clone(), Family::new(interpreter.clone(), learned));
        }
    }

    /// The template for a worker of a tree.
    pub fn choose(&mut self, key: &TemplateKey, interpreter: &Arc<KnownInterpreter>, imports: &TreeImports) -> Choice {
        self.introduce(key, interpreter, LearnedModules::default());
        self.next_turn += 1;
        let turn = self.next_turn;
        let family = self.families.get_mut(key).expect("it is there by now");
        family.see(interpreter);
        family.uses += 1;
        // Variables of a request may never come again: a template for them is
        // worth its start only when they did.
        let is_first_of_its_variables = !key.env.is_empty() && family.uses == 1;
        if family.fallback.is_some() || is_first_of_its_variables {
            return Choice::Spawn;
        }
        let variant = family.variant_for(imports);
        if let Some(live) = family.slot_mut(variant) {
            live.turn = turn;
            return Choice::Template(live.template.clone());
        }
        self.next_id += 1;
        let learned = if variant == Variant::Learned { family.learned.names().to_vec() } else { Vec::new() };
        let backend = key.backend.clone().filter(|_| !family.backend_refused);
        Choice::Start(Start { id: TemplateId(self.next_id), variant, backend, learned })
    }

    /// A template was started; the least recently used makes room for it.
    pub fn started(&mut self, key: &TemplateKey, variant: Variant, template: Arc<Template>) {
        let turn = self.next_turn;
        if let Some(family) = self.families.get_mut(key) {
            *family.slot_mut(variant) = Some(Live { template, turn });
        }
        while self.live().count() > self.max_templates {
            let oldest = self.live().min_by_key(|live| live.turn).map(|live| live.template.clone());
            let Some(oldest) = oldest else { return };
            self.retire(&oldest);
        }
    }

    pub fn templates(&self) -> Vec<Arc<Template>> {
        self.live().map(|live| live.template.clone()).collect()
    }

    fn live(&self) -> impl Iterator<Item = &Live> {
        self.families.values().flat_map(|family| family.learned_template.iter().chain(&family.plain_template))
    }

    /// Whether a worker that was forked from this template may still run hooks
    /// of its tree: not if the tree has come to offer a name that the template
    /// holds.
    pub fn suits(&self, key: &TemplateKey, template: &Arc<Template>, imports: &TreeImports) -> bool {
        let Some(family) = self.families.get(key) else { return true };
        let is_learned = family.learned_template.as_ref().is_some_and(|live| Arc::ptr_eq(&live.template, template));
        !is_learned || family.variant_for(imports) == Variant::Learned
    }

    /// Whether a worker that was spawned could be forked the next time.
    pub fn would_fork(&self, key: &TemplateKey) -> bool {
        let would = |family: &Family| family.fallback.is_none() && family.forks_refused < Self::MOST_FAILURES;
        self.families.get(key).is_some_and(would)
    }

    /// A template forked a worker, or did not. That of one which was retired
    /// meanwhile says nothing of the next.
    pub fn asked(&mut self, key: &TemplateKey, template: &Arc<Template>, has_forked: bool) {
        if let Some(family) = self.families.get_mut(key).filter(|family| family.holds(template)) {
            family.forks_refused = if has_forked { 0 } else { family.forks_refused + 1 };
        }
    }

    /// This template forks nothing more; it ends with its last worker. Answers
    /// whether it was in use until now.
    pub fn retire(&mut self, template: &Arc<Template>) -> bool {
        let was_used = self.families.values_mut().any(|family| family.remove(template));
        if was_used {
            template.tell(TemplateCommand::Retire);
        }
        was_used
    }

    /// As [`Book::retire`], because something that it imported has changed.
    pub fn retire_stale(&mut self, key: &TemplateKey, template: &Arc<Template>) -> bool {
        let was_used = self.retire(template);
        if let Some(family) = self.families.get_mut(key).filter(|_| was_used) {
            family.forgive();
        }
        was_used
    }

    /// Everything is to be looked at anew, and everybody gets another chance.
    pub fn recycle(&mut self) {
        for family in self.families.values_mut() {
            family.retire_all();
            family.forgive();
        }
    }

    /// A template ended without having been told to. Answers with the reason
    /// for which its key gets no other, when that is decided now.
    pub fn failed(&mut self, key: &TemplateKey, template: &Arc<Template>, reason: &str) -> Option<String> {
        let family = self.families.get_mut(key)?;
        family.remove(template);
        family.failures.retain(|failure| failure.elapsed() < Self::FAILURE_WINDOW);
        family.failures.push(Instant::now());
        if family.failures.len() < Self::MOST_FAILURES || family.fallback.is_some() {
            return None;
        }
        family.fallback = Some(reason.to_owned());
        family.fallback.clone()
    }

    /// The backend is not to be imported by templates of this key.
    pub fn refuse_backend(&mut self, key: &TemplateKey) {
        if let Some(family) = self.families.get_mut(key) {
            family.backend_refused = true;
        }
    }

    /// Templates of this key go without learned modules.
    pub fn refuse_learned(&mut self, key: &TemplateKey) {
        if let Some(family) = self.families.get_mut(key) {
            family.learned.give_up();
        }
    }

    /// A hook imported these modules: the key's template learns those that are
    /// new.
    pub fn learn(&mut self, key: &TemplateKey, modules: &[ImportedModule]) {
        let Some(family) = self.families.get_mut(key) else { return };
        let new = family.learned.learn(modules);
        if let Some(live) = family.learned_template.as_ref().filter(|_| !new.is_empty()) {
            live.template.is_learning.send_replace(true);
            live.template.tell(TemplateCommand::Learn(new));
        }
    }

    /// What was learned and is not written down.
    pub fn unsaved(&mut self) -> Vec<UnsavedList> {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.extend(self.families.values_mut().filter_map(|family| family.learned.unsaved()));
        unsaved
    }

    /// Keys that have no template are forgotten from time to time; what they
    /// learned is kept in its file.
    fn forget_unused(&mut self) {
        if self.families.len() >= Self::FAMILIES_KEPT {
            self.unsaved = self.unsaved();
            self.families.retain(|_, family| family.learned_template.is_some() || family.plain_template.is_some());
        }
    }
}

impl Family {
    fn new(interpreter: Arc<KnownInterpreter>, learned: LearnedModules) -> Self {
        Self {
            interpreter,
            learned,
            backend_refused: false,
            uses: 0,
            failures: Vec::new(),
            forks_refused: 0,
            fallback: None,
            learned_template: None,
            plain_template: None,
        }
    }

    /// The environment may be another than it was.
    fn see(&mut self, interpreter: &Arc<KnownInterpreter>) {
        if !Arc::ptr_eq(&self.interpreter, interpreter) {
            self.interpreter = interpreter.clone();
            self.retire_all();
            self.forgive();
        }
    }

    fn retire_all(&mut self) {
        for live in [self.learned_template.take(), self.plain_template.take()].into_iter().flatten() {
            live.template.tell(TemplateCommand::Retire);
        }
    }

    fn forgive(&mut self) {
        self.backend_refused = false;
        self.failures.clear();
        self.forks_refused = 0;
        self.fallback = None;
        self.learned.forgive();
    }

    /// A learned name is used for a tree only if the tree offers no module of
    /// that name: it would hide the tree's own.
    fn variant_for(&self, imports: &TreeImports) -> Variant {
        match imports.first_offered(self.learned.top_levels()) {
            Some(_) => Variant::Plain,
            None => Variant::Learned,
        }
    }

    fn slot_mut(&mut self, variant: Variant) -> &mut Option<Live> {
        match variant {
            Variant::Learned => &mut self.learned_template,
            Variant::Plain => &mut self.plain_template,
        }
    }

    fn holds(&self, template: &Arc<Template>) -> bool {
        let live = self.learned_template.iter().chain(&self.plain_template);
        live.into_iter().any(|live| Arc::ptr_eq(&live.template, template))
    }

    fn remove(&mut self, template: &Arc<Template>) -> bool {
        for slot in [&mut self.learned_template, &mut self.plain_template] {
            if slot.as_ref().is_some_and(|live| Arc::ptr_eq(&live.template, template)) {
                *slot = None;
                return true;
            }
        }
        false
    }
}

/// The name of the file that keeps what a key has learned.
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
