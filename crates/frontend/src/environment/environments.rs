//! Asking for environments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::Supervisor;

use super::error::EnvironmentError;
use super::event::EnvironmentEvent;
use super::finding::Shared;
use super::handle::Environment;
use super::requirement::RequirementList;
use super::settings::EnvironmentSettings;
use super::shelf::changed;
use crate::unblock::unblock;

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
    /// else.
    ///
    /// Cancel-safe: when the last that waits for a list is dropped, its
    /// installer is killed.
    ///
    /// # Errors
    /// [`EnvironmentError`]. The next call tries again.
    pub async fn get(&self, python: Option<&Path>, requires: &[String]) -> Result<Environment, EnvironmentError> {
        let question = self.shared.question(python, requires).await?;
        let interpreter = question.interpreter.executable.clone();
        let held = self.shared.answer(question).await?;
        Ok(Environment { held, interpreter, requires: requires.into() })
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
        let interpreter = self.shared.interpreter(Some(&environment.interpreter)).await?;
        let wanted = RequirementList::parse(additional, &interpreter)?;
        if wanted.is_satisfied_by(environment.installed()) && !environment.held.is_discarded() {
            return Ok(environment.clone());
        }
        let requires: Vec<String> = environment.requires.iter().chain(additional).cloned().collect();
        self.get(Some(&environment.interpreter), &requires).await
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
        self.shared.asked().clear();
        let shelf = self.shared.shelf.clone();
        // What cannot be removed is left to the next run.
        let _ = unblock(move || shelf.remove_leftovers()).await;
    }
}

impl std::fmt::Debug for Environments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Environments").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
