//! Whether a worker may run one more hook, or is to be replaced before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hookd_protocol::ImportedModule;

use super::launch::LaunchSettings;
use super::process::WorkerProcess;
use crate::environment::{Freshness, KnownInterpreter, Stamp, Watched};
use crate::event::StopReason;
use crate::response::{Isolation, StartMethod};
use crate::template::{TemplateKey, Templates};
use crate::tree::TreeImports;

/// What a worker was made from.
#[derive(Debug)]
pub(crate) struct WorkerFreshness {
    interpreter: Arc<KnownInterpreter>,
    key: TemplateKey,
    /// What hooks imported in the worker itself (isolation `none`).
    own: Freshness,
}

impl WorkerFreshness {
    pub async fn new(interpreter: Arc<KnownInterpreter>, key: TemplateKey, settings: &LaunchSettings) -> Self {
        let own = if settings.isolation == Isolation::None && settings.check_freshness {
            watch_folders(interpreter.interpreter.path.clone()).await
        } else {
            Vec::new()
        };
        Self { interpreter, key, own: Freshness::new(own) }
    }

    pub fn key(&self) -> &TemplateKey {
        &self.key
    }

    /// Why the worker must be replaced before the next hook, if it must.
    pub async fn reason_to_recycle(
        &self,
        process: &WorkerProcess,
        settings: &LaunchSettings,
        templates: &Templates,
        imports: &TreeImports,
    ) -> Option<StopReason> {
        if settings.start_method == StartMethod::Forkserver
            && self.has_better_template(process, settings, templates, imports)
        {
            return Some(StopReason::TemplateChanged);
        }
        if settings.check_freshness && self.has_changed(process).await {
            return Some(StopReason::EnvironmentChanged);
        }
        None
    }

    fn has_better_template(
        &self,
        process: &WorkerProcess,
        settings: &LaunchSettings,
        templates: &Templates,
        imports: &TreeImports,
    ) -> bool {
        let Some(forked) = process.as_forked() else { return templates.would_fork(&self.key) };
        let template = forked.template();
        // With isolation `none`, what hooks left in the worker is wanted.
        let has_learned = settings.isolation == Isolation::Hook && template.learned_version() > forked.learned_version;
        has_learned || !templates.suits(&self.key, template, imports)
    }

    async fn has_changed(&self, process: &WorkerProcess) -> bool {
        if let Some(forked) = process.as_forked()
            && forked.template().freshness.change().await.is_some()
        {
            return true;
        }
        self.interpreter.freshness.change().await.is_some() || self.own.change().await.is_some()
    }

    /// A hook that began at `since` imported these into the worker itself.
    pub async fn imported(&self, modules: &[ImportedModule], since: SystemTime) {
        if modules.is_empty() {
            // As of nearly every hook: none is to wait for a thread.
            return;
        }
        let files: Vec<Watched> = modules.iter().filter_map(watched).collect();
        let mut folders: Vec<PathBuf> =
            files.iter().filter_map(|file| file.path().parent()).map(Path::to_owned).collect();
        folders.sort();
        folders.dedup();
        self.own.watch(files, since);
        self.own.watch_as_it_is(watch_folders(folders).await);
    }
}

fn watched(module: &ImportedModule) -> Option<Watched> {
    let path = Path::new(module.file.as_deref()?).to_owned();
    let stamp = module.size.zip(module.mtime_ns);
    let stamp = stamp.map(|(size, modified)| Stamp { identity: None, size, modified });
    Some(Watched::File { path, stamp })
}

/// Looks at folders on a thread that may wait for a disk.
async fn watch_folders(folders: Vec<PathBuf>) -> Vec<Watched> {
    let look = move || folders.iter().map(|folder| Watched::folder(folder)).collect();
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
