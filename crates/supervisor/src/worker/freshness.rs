//! Whether a worker may run another hook, or must be replaced before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hookd_protocol::ImportedModule;

use super::process::WorkerProcess;
use super::start::LaunchSettings;
use crate::blocking::{BlockingPool, Unresponsive};
use crate::caller::Variables;
use crate::event::StopReason;
use crate::ids::TemplateId;
use crate::interpreter::{Freshness, KnownInterpreter, Stamp, Watched};
use crate::response::{Isolation, StartMethod};
use crate::template::{Template, TemplateKey, Templates};
use crate::tree::{Fitness, TreeImports};

/// What a worker was started from, which each visit checks that may give it a
/// hook.
#[derive(Debug)]
pub(crate) struct WorkerFreshness {
    interpreter: Arc<KnownInterpreter>,
    templates: Arc<Templates>,
    key: TemplateKey,
    /// Its environment variables.
    variables: Arc<Variables>,
    /// The template that it was forked from, and the number of learned modules
    /// that the template had then.
    forked: Option<(Arc<Template>, u64)>,
    /// Files that hooks have imported in the worker itself (isolation `none`).
    own: Freshness,
    settings: Arc<LaunchSettings>,
}

impl WorkerFreshness {
    pub async fn new(
        interpreter: Arc<KnownInterpreter>,
        templates: Arc<Templates>,
        (key, variables): (TemplateKey, Arc<Variables>),
        process: &WorkerProcess,
        settings: &Arc<LaunchSettings>,
        pool: &BlockingPool,
    ) -> Result<Self, Unresponsive> {
        let forked = process.as_forked().map(|forked| (forked.template().clone(), forked.learned_version));
        // The template of a forked one watches them.
        let own = if settings.isolation == Isolation::None && settings.check_freshness && forked.is_none() {
            watch_folders(pool, &interpreter.interpreter.prefix, interpreter.interpreter.path.clone()).await?
        } else {
            Vec::new()
        };
        let (own, settings) = (Freshness::new(own), settings.clone());
        Ok(Self { interpreter, templates, key, variables, forked, own, settings })
    }

    pub fn key(&self) -> &TemplateKey {
        &self.key
    }

    /// The template that the worker was forked from.
    pub fn template(&self) -> Option<TemplateId> {
        self.forked.as_ref().map(|(template, _)| template.id)
    }

    /// The folder of most of the files that are checked.
    pub fn place(&self) -> &Path {
        &self.interpreter.interpreter.prefix
    }

    /// Whether the worker can run the next hook of its tree or, if it `moves`, one
    /// of another tree. Blocks on files.
    pub fn fitness(&self, imports: &TreeImports, moves: bool) -> Fitness {
        let has_template = self.settings.start_method == StartMethod::Forkserver;
        if has_template && (self.has_better_template() || !(moves || self.suits_its_tree(imports))) {
            return Fitness::Stale(StopReason::TemplateChanged);
        }
        if self.settings.check_freshness && self.has_changed() {
            return Fitness::Stale(StopReason::EnvironmentChanged);
        }
        if moves && !self.is_as_new(imports) {
            return Fitness::Unsuited;
        }
        Fitness::Fit
    }

    fn has_better_template(&self) -> bool {
        let Some((template, learned_version)) = &self.forked else {
            return self.templates.would_fork(&self.key, &self.variables);
        };
        match self.settings.isolation {
            Isolation::Hook => template.learned_version() > *learned_version,
            // The worker's own imports are worth more than learned modules, but a
            // worker without its template is watched by nobody.
            Isolation::None => template.has_ended(),
        }
    }

    fn suits_its_tree(&self, imports: &TreeImports) -> bool {
        self.forked.as_ref().is_none_or(|(template, _)| self.templates.suits(&self.key, template, imports))
    }

    /// Whether a new worker of a tree would be forked from the same template.
    fn is_as_new(&self, imports: &TreeImports) -> bool {
        self.forked.as_ref().is_none_or(|(template, _)| self.templates.forks_for(&self.key, template, imports))
    }

    fn has_changed(&self) -> bool {
        self.forked.as_ref().is_some_and(|(template, _)| template.freshness.change().is_some())
            || self.interpreter.freshness.change().is_some()
            || self.own.change().is_some()
    }

    /// A hook that began at `since` has imported these into the worker itself.
    pub async fn imported(&self, modules: &[ImportedModule], since: SystemTime, pool: &BlockingPool) {
        let files: Vec<Watched> = modules.iter().filter_map(watched).collect();
        let mut folders: Vec<PathBuf> =
            files.iter().filter_map(|file| file.path().parent()).map(Path::to_owned).collect();
        folders.sort();
        folders.dedup();
        self.own.watch(files, since);
        // An error is ignored: a file system that does not respond here fails the
        // next visit.
        let folders = watch_folders(pool, self.place(), folders).await;
        self.own.watch_as_it_is(folders.unwrap_or_default());
    }
}

fn watched(module: &ImportedModule) -> Option<Watched> {
    let path = Path::new(module.file.as_deref()?).to_owned();
    let stamp = module.size.zip(module.mtime_ns);
    let stamp = stamp.map(|(size, modified)| Stamp { identity: None, size, modified });
    Some(Watched::File { path, stamp })
}

async fn watch_folders(pool: &BlockingPool, place: &Path, folders: Vec<PathBuf>) -> Result<Vec<Watched>, Unresponsive> {
    pool.run(&[place], move |_| folders.iter().map(|folder| Watched::folder(folder)).collect()).await
}
