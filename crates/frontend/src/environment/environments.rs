//! Asking for environments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::{
    BuildEnvironment, BuildEnvironments, EnvironmentRequirements, JobSlot, MakeEnvironment, RequestEnvironment,
    Supervisor, unblock,
};

use super::error::EnvironmentError;
use super::event::EnvironmentEvent;
use super::finding::Shared;
use super::handle::Environment;
use super::settings::EnvironmentSettings;
use super::shelf::changed;

/// Makes build environments, and finds those that were made. Cheap to clone;
/// all clones are the same.
#[derive(Clone)]
pub struct Environments {
    shared: Arc<Shared>,
}

impl Environments {
    /// Environments in the cache folder of `settings`, made by programs that
    /// `supervisor` runs. Makes the folders, and starts nothing. `observer` is
    /// told what happens; it must not block.
    ///
    /// # Errors
    /// [`EnvironmentError::Folder`].
    pub fn new(
        supervisor: Supervisor,
        settings: EnvironmentSettings,
        observer: impl Fn(&EnvironmentEvent) + Send + Sync + 'static,
    ) -> Result<Self, EnvironmentError> {
        let shared = Shared::new(supervisor, settings, Arc::new(observer))?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The environment of an interpreter, the supervisor's own where none is
    /// named, that has what `requires` lists, what that depends on, and nothing
    /// else. Requests name what they need by themselves
    /// ([`Environments::for_requests`]).
    ///
    /// Cancel-safe: when the last that waits for a list is dropped, its
    /// installer is killed.
    ///
    /// # Errors
    /// [`EnvironmentError`]. The next call tries again.
    pub async fn get(&self, python: Option<&Path>, requires: &[String]) -> Result<Environment, EnvironmentError> {
        let (python, requires) = (python.map(Path::to_owned), requires.to_vec());
        let requirements = EnvironmentRequirements { python, requires, additional: Vec::new() };
        self.shared.provide(&requirements, None).await
    }

    /// The environment that has what `additional` lists beside what this one
    /// was asked for with: the same one, where that is so already.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub async fn enrich(
        &self,
        environment: &Environment,
        additional: &[String],
    ) -> Result<Environment, EnvironmentError> {
        let python = Some(environment.interpreter.executable.clone());
        let (requires, additional) = (environment.requires.to_vec(), additional.to_vec());
        self.shared.provide(&EnvironmentRequirements { python, requires, additional }, None).await
    }

    /// For requests that run in environments of these: in place of the tree's
    /// own `requires`, if any are given, and with what its hooks asked for in
    /// addition.
    #[must_use]
    pub fn for_requests(&self, requires: Option<Vec<String>>, additional: Vec<String>) -> RequestEnvironment {
        RequestEnvironment { provider: self.shared.clone(), requires, additional }
    }

    /// Looks whether the environment is as it was made; what differs is told,
    /// as by [`Environment::inspect_seal`]. Where anything does, the
    /// environment is discarded: the next [`Environments::get`] makes another.
    ///
    /// # Errors
    /// [`EnvironmentError::System`].
    pub async fn check_seal(&self, environment: &Environment) -> Result<Vec<PathBuf>, EnvironmentError> {
        let (shelf, held) = (self.shared.shelf.clone(), environment.held.clone());
        unblock(move || {
            let differences = held.differences()?;
            if let Some(reason) = changed(&differences) {
                shelf.discard(&held, reason)?;
            }
            Ok(differences)
        })
        .await
    }

    /// Forgets what was asked for, and removes what nobody uses and nobody can
    /// use any more: environments of this process alone, and discarded ones.
    /// For the end, when the supervisor was drained.
    pub async fn close(&self) {
        let let_go = self.shared.answers().clear();
        let shelf = self.shared.shelf.clone();
        let clean = move || {
            drop(let_go);
            shelf.remove_leftovers()
        };
        // What cannot be removed is left to the next run.
        let _ = unblock(clean).await;
    }
}

impl std::fmt::Debug for Environments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Environments").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl BuildEnvironments for Shared {
    fn find(&self, requirements: &EnvironmentRequirements) -> Option<Arc<dyn BuildEnvironment>> {
        let environment = self.at_hand(requirements)?;
        Some(Arc::new(environment))
    }

    fn make(self: Arc<Self>, requirements: Arc<EnvironmentRequirements>, slot: JobSlot) -> MakeEnvironment {
        Box::pin(async move {
            let environment = self.provide(&requirements, Some(slot)).await?;
            Ok(Arc::new(environment) as Arc<dyn BuildEnvironment>)
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}
