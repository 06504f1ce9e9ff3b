//! An environment from its first file to its manifest.

use std::path::PathBuf;
use std::sync::Arc;

use hookpool_supervisor::{Interpreter, LockFile, Supervisor, kept, unblock};

use super::contents::{content_id, installed};
use super::error::EnvironmentError;
use super::handle::Held;
use super::installer::{Installation, Making, python_of};
use super::manifest::{Manifest, now};
use super::requirement::RequirementList;
use super::seal::Seal;
use super::settings::EnvironmentSettings;
use super::store::{Store, random_name};
use crate::files::write_json;

/// What an environment is made from.
pub(super) struct Plan<'a> {
    pub supervisor: &'a Supervisor,
    pub settings: &'a EnvironmentSettings,
    pub store: &'a Store,
    pub installation: &'a Arc<Installation>,
    pub interpreter: &'a Interpreter,
    pub identity: &'a str,
    pub requirements: &'a RequirementList,
}

/// Makes it. Nobody else hears of it before it is complete; where this fails
/// nothing is left, and where it is dropped a leftover.
pub(super) async fn make(plan: &Plan<'_>) -> Result<Held, EnvironmentError> {
    loop {
        // None: somebody who removes all that is not in use came between its
        // completion and its use.
        if let Some(held) = attempt(plan).await? {
            return Ok(held);
        }
    }
}

async fn attempt(plan: &Plan<'_>) -> Result<Option<Held>, EnvironmentError> {
    let draft = Draft::begin(plan.store.clone()).await?;
    let shown = plan.requirements.shown();
    let making = Making {
        supervisor: plan.supervisor,
        settings: plan.settings,
        installation: plan.installation,
        interpreter: plan.interpreter,
        folder: &draft.folder,
        requirements: plan.requirements.texts(),
        shown: &shown,
    };
    match making.run().await {
        Ok(()) => {
            // Who runs hooks in it asks again, and tells what is wrong.
            let interpreter = plan.supervisor.interpreter(Some(&python_of(&draft.folder))).await.ok();
            let interpreter = interpreter.map(|known| Interpreter::clone(&known));
            draft.complete(plan, interpreter).await
        }
        Err(error) => {
            draft.remove().await;
            Err(error)
        }
    }
}

/// An environment that is not complete. The lock keeps others from removing it.
struct Draft {
    store: Store,
    name: String,
    folder: PathBuf,
    lock: LockFile,
}

impl Draft {
    async fn begin(store: Store) -> Result<Self, EnvironmentError> {
        unblock(move || {
            loop {
                let name = random_name();
                let (folder, path) = (store.environment(&name), store.environment_lock(&name));
                let lock = LockFile::try_exclusive(&path).map_err(EnvironmentError::system("lock", &path))?;
                if let Some(lock) = lock
                    && !folder.exists()
                {
                    return Ok(Self { store, name, folder, lock });
                }
            }
        })
        .await
    }

    async fn complete(
        self,
        plan: &Plan<'_>,
        interpreter: Option<Interpreter>,
    ) -> Result<Option<Held>, EnvironmentError> {
        let identity = plan.identity.to_owned();
        let (installer, private) = (plan.installation.installer.kind(), plan.requirements.has_urls());
        unblock(move || {
            let Self { store, name, folder, lock } = self;
            let installed =
                installed(&folder).map_err(EnvironmentError::system("read what is installed in", &folder))?;
            let seal = Seal::of(&folder).map_err(EnvironmentError::system("look at", &folder))?;
            let content_id = content_id(&identity, &installed);
            let made_at = now();
            let manifest = Manifest { folder, content_id, installed, installer, made_at, private, seal, interpreter };
            let path = store.manifest(&name);
            write_json(&path, &manifest).map_err(EnvironmentError::system("write", &path))?;
            let lock_path = store.environment_lock(&name);
            let is_there = lock.share().map_err(EnvironmentError::system("lock", &lock_path))?;
            Ok(is_there.then(|| Held::new(name, manifest, lock, true)))
        })
        .await
    }

    async fn remove(self) {
        let removed = unblock(move || {
            kept::remove(&self.folder).map_err(EnvironmentError::system("remove", &self.folder))?;
            let lock = self.store.environment_lock(&self.name);
            kept::remove(&lock).map_err(EnvironmentError::system("remove", &lock))
        });
        if let Err(error) = removed.await {
            tracing::debug!("what was not completed stays for the next run: {error}");
        }
    }
}
