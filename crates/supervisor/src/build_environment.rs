//! Build environments: what requests want, and the trait of those who make them.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::dispatch::JobSlot;
use crate::error::HookError;

/// What a build environment must contain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvironmentRequirements {
    /// The interpreter that it is based on. `None`: that of
    /// [`Builder::interpreter`](crate::Builder::interpreter).
    pub python: Option<PathBuf>,
    /// The tree's build requirements (`build-system.requires`, PEP 518).
    pub requires: Vec<String>,
    /// The requirements that its hooks returned (`get_requires_for_...`, PEP
    /// 517).
    pub additional: Vec<String>,
}

/// A build environment. It is not changed or removed while this exists.
pub trait BuildEnvironment: Any + fmt::Debug + Send + Sync {
    /// Its interpreter.
    fn python(&self) -> &Path;
}

/// The result of making an environment.
pub(crate) type EnvironmentOutcome = Result<Arc<dyn BuildEnvironment>, HookError>;

/// The future of an environment that is being made.
pub type MakeEnvironment = Pin<Box<dyn Future<Output = Result<Arc<dyn BuildEnvironment>, HookError>> + Send>>;

/// Finds and makes build environments.
///
/// When it is a request's turn, the supervisor calls [`find`] and, if there is
/// no environment, [`make`], once for all requests that wait for the same one.
///
/// [`find`]: BuildEnvironments::find
/// [`make`]: BuildEnvironments::make
pub trait BuildEnvironments: fmt::Debug + Send + Sync {
    /// Returns an environment that exists and that this process can use now.
    /// Called on a thread where it may block on files, and on nothing else.
    fn find(&self, requirements: &EnvironmentRequirements) -> Option<Arc<dyn BuildEnvironment>>;

    /// Makes an environment, or finds one that takes longer to find. It holds
    /// one of the job slots ([`Limits::jobs`](crate::Limits::jobs)) until `slot`
    /// is dropped. While it waits for another process it should return the slot
    /// ([`JobSlot::give_back`]).
    ///
    /// The future is dropped when no request needs the environment any more.
    fn make(self: Arc<Self>, requirements: Arc<EnvironmentRequirements>, slot: JobSlot) -> MakeEnvironment;
}

/// The build environment that a request wants.
#[derive(Clone, Debug)]
pub struct RequestEnvironment {
    /// Makes it. Requests with the same provider share environments.
    pub provider: Arc<dyn BuildEnvironments>,
    /// In place of the tree's own `build-system.requires`.
    pub requires: Option<Vec<String>>,
    /// As in [`EnvironmentRequirements`].
    pub additional: Vec<String>,
}

/// An environment that may have to be made. Equal for all requests that can
/// share it.
#[derive(Clone, Debug)]
pub(crate) struct WantedEnvironment {
    pub provider: Arc<dyn BuildEnvironments>,
    pub requirements: Arc<EnvironmentRequirements>,
}

/// An environment that was made, for the next visits of the requests that waited
/// for it. They do not call `find` again, which may be stricter than `make`:
/// then they would never run.
#[derive(Clone, Debug)]
pub(crate) struct MadeEnvironment {
    pub requirements: Arc<EnvironmentRequirements>,
    pub environment: Arc<dyn BuildEnvironment>,
}

impl WantedEnvironment {
    /// The address of the provider, which lives as long as this does.
    fn provider_address(&self) -> usize {
        Arc::as_ptr(&self.provider).cast::<()>() as usize
    }
}

impl PartialEq for WantedEnvironment {
    fn eq(&self, other: &Self) -> bool {
        self.provider_address() == other.provider_address() && self.requirements == other.requirements
    }
}

impl Eq for WantedEnvironment {}

impl Hash for WantedEnvironment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.provider_address().hash(state);
        self.requirements.hash(state);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An environment whose interpreter is never used.
    #[derive(Debug)]
    pub(crate) struct Environment;

    impl BuildEnvironment for Environment {
        fn python(&self) -> &Path {
            Path::new("/environment/python")
        }
    }

    #[derive(Debug)]
    struct Environments;

    impl BuildEnvironments for Environments {
        fn find(&self, _: &EnvironmentRequirements) -> Option<Arc<dyn BuildEnvironment>> {
            None
        }

        fn make(self: Arc<Self>, _: Arc<EnvironmentRequirements>, _: JobSlot) -> MakeEnvironment {
            Box::pin(std::future::pending())
        }
    }

    /// A provider for tests that make the environments themselves.
    pub(crate) fn environments() -> Arc<dyn BuildEnvironments> {
        static SHARED: std::sync::OnceLock<Arc<dyn BuildEnvironments>> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Arc::new(Environments)).clone()
    }
}
