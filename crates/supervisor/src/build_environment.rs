//! Build environments, as requests ask for them and somebody else makes them.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::dispatch::JobSlot;
use crate::error::HookError;

/// What a request's build environment has to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvironmentRequirements {
    /// The interpreter that it is made from; `None` is the supervisor's own.
    pub python: Option<PathBuf>,
    /// What the tree requires for its build (`build-system.requires`, PEP 518).
    pub requires: Vec<String>,
    /// What its hooks asked for in addition (`get_requires_for_...`, PEP 517).
    pub additional: Vec<String>,
}

/// A build environment. Its maker keeps it as it is for as long as this is
/// held.
pub trait BuildEnvironment: Any + fmt::Debug + Send + Sync {
    /// Its interpreter.
    fn python(&self) -> &Path;
}

/// What comes of making one.
pub(crate) type EnvironmentOutcome = Result<Arc<dyn BuildEnvironment>, HookError>;

/// A future of an environment that is being made.
pub type MakeEnvironment = Pin<Box<dyn Future<Output = Result<Arc<dyn BuildEnvironment>, HookError>> + Send>>;

/// Who makes build environments.
///
/// The supervisor asks when it is a request's turn: first [`find`], and where
/// that finds nothing [`make`], once for all requests that wait for the same.
///
/// [`find`]: BuildEnvironments::find
/// [`make`]: BuildEnvironments::make
pub trait BuildEnvironments: fmt::Debug + Send + Sync {
    /// An environment that is there and can be used now, as far as this process
    /// knows. May look at files, which blocks: it is called on a thread for
    /// that. Waits for nothing else.
    fn find(&self, requirements: &EnvironmentRequirements) -> Option<Arc<dyn BuildEnvironment>>;

    /// Makes one, or finds it where that takes longer. What it does for it
    /// counts as one of the hooks that may run at once
    /// ([`Limits::jobs`](crate::Limits::jobs)) until `slot` is dropped: while it
    /// only waits for somebody else, it should give it back
    /// ([`JobSlot::give_back`]).
    ///
    /// The future is dropped when nobody wants the environment any more.
    fn make(self: Arc<Self>, requirements: Arc<EnvironmentRequirements>, slot: JobSlot) -> MakeEnvironment;
}

/// Which build environment a request runs in.
#[derive(Clone, Debug)]
pub struct RequestEnvironment {
    /// Who makes it: the same for all requests that are to share environments.
    pub provider: Arc<dyn BuildEnvironments>,
    /// In place of the tree's own `build-system.requires`.
    pub requires: Option<Vec<String>>,
    /// As in [`EnvironmentRequirements`].
    pub additional: Vec<String>,
}

/// An environment that may have to be made: the same for all requests that can
/// share it.
#[derive(Clone, Debug)]
pub(crate) struct WantedEnvironment {
    pub provider: Arc<dyn BuildEnvironments>,
    pub requirements: Arc<EnvironmentRequirements>,
}

/// An environment that was made, for the next visits of those who waited for
/// it. They need not find it again: whoever finds may be stricter than whoever
/// makes, and then they would wait for ever.
#[derive(Clone, Debug)]
pub(crate) struct MadeEnvironment {
    pub requirements: Arc<EnvironmentRequirements>,
    pub environment: Arc<dyn BuildEnvironment>,
}

impl WantedEnvironment {
    /// The address of who makes it: it lives as long as this does.
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

    /// One that is never looked at.
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

    /// The maker for tests in which somebody else makes them.
    pub(crate) fn environments() -> Arc<dyn BuildEnvironments> {
        static SHARED: std::sync::OnceLock<Arc<dyn BuildEnvironments>> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Arc::new(Environments)).clone()
    }
}
