//! What the builds that have begun need, so that templates and workers of environments that
//! none of them needs can end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dependency_specifier;

/// The names of the distributions that a list of requirements has. Lists with the same names
/// mostly lead to the same environment, which is not known before it is resolved. A wrong guess
/// costs the start of a template.
type Names = Arc<BTreeSet<String>>;

/// What all builds of a frontend need.
#[derive(Debug, Default)]
pub(super) struct Demand(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of builds whose requirements are not known yet.
    unknown: usize,
    /// The number of builds with these requirements.
    builds: HashMap<Names, usize>,
    /// The interpreters of environments, with the requirements of the builds that used them.
    environments: HashMap<PathBuf, HashSet<Names>>,
}

impl Demand {
    /// A build begins.
    pub fn begin(&self) -> Needs<'_> {
        self.state().unknown += 1;
        Needs { demand: self, names: None }
    }

    /// Takes the interpreters of environments that no build needs any more. To be called when
    /// a build has ended, and when it is known what one needs.
    pub fn take_unneeded(&self) -> Vec<PathBuf> {
        let mut state = self.state();
        if state.unknown > 0 {
            return Vec::new();
        }
        let State { builds, environments, .. } = &mut *state;
        let is_unneeded = |names: &HashSet<Names>| !names.iter().any(|names| builds.contains_key(names));
        environments.extract_if(|_, names| is_unneeded(names)).map(|(python, _)| python).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one build needs, until this is dropped.
pub(super) struct Needs<'a> {
    demand: &'a Demand,
    names: Option<Names>,
}

impl Needs<'_> {
    pub fn are_known(&self) -> bool {
        self.names.is_some()
    }

    /// Its `build-system.requires`. They do not change.
    pub fn set(&mut self, requires: &[String]) {
        if self.are_known() {
            return;
        }
        let name = |text: &String| {
            dependency_specifier::parse(text).map_or_else(|_| text.clone(), |requirement| requirement.name.to_string())
        };
        let names = Names::new(requires.iter().map(name).collect());
        let mut state = self.demand.state();
        state.unknown -= 1;
        *state.builds.entry(names.clone()).or_default() += 1;
        self.names = Some(names);
    }

    /// A hook ran in the environment of this interpreter. It may have more than
    /// `build-system.requires`, and another build with the same list may need it as well.
    pub fn used(&self, python: &Path) {
        let Some(names) = &self.names else { return };
        self.demand.state().environments.entry(python.to_owned()).or_default().insert(names.clone());
    }
}

impl Drop for Needs<'_> {
    fn drop(&mut self) {
        let mut state = self.demand.state();
        let Some(names) = &self.names else {
            state.unknown -= 1;
            return;
        };
        if let Some(count) = state.builds.get_mut(names) {
            *count -= 1;
            if *count == 0 {
                state.builds.remove(names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(demand: &'a Demand, requires: &[&str]) -> Needs<'a> {
        let mut needs = demand.begin();
        needs.set(&requires.iter().map(ToString::to_string).collect::<Vec<_>>());
        needs
    }

    fn ended(needs: Needs<'_>) -> Vec<PathBuf> {
        let demand = needs.demand;
        drop(needs);
        let mut unneeded = demand.take_unneeded();
        unneeded.sort();
        unneeded
    }

    #[test]
    fn an_environment_is_needed_until_the_last_build_with_its_names_has_ended() {
        let demand = Demand::default();
        let (first, second) = (with(&demand, &["setuptools>=40", "wheel"]), with(&demand, &["Wheel", "setuptools"]));
        let other = with(&demand, &["hatchling"]);
        first.used(Path::new("/1"));
        other.used(Path::new("/2"));
        assert_eq!(ended(other), [Path::new("/2")]);
        assert_eq!(ended(first), [""; 0].map(PathBuf::from));
        // With what its hook asked for.
        second.used(Path::new("/3"));
        assert_eq!(ended(second), ["/1", "/3"].map(PathBuf::from));
        assert_eq!(ended(with(&demand, &["setuptools"])), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn nothing_is_unneeded_while_a_build_is_unknown() {
        let demand = Demand::default();
        let (unknown, known) = (demand.begin(), with(&demand, &["hatchling"]));
        known.used(Path::new("/1"));
        assert_eq!(ended(known), [""; 0].map(PathBuf::from));
        // Cancelled, or known to need nothing.
        assert_eq!(ended(unknown), [Path::new("/1")]);
        let (mut unknown, known) = (demand.begin(), with(&demand, &["hatchling"]));
        known.used(Path::new("/1"));
        assert_eq!(ended(known), [""; 0].map(PathBuf::from));
        unknown.set(&["flit_core".into()]);
        assert_eq!(demand.take_unneeded(), [Path::new("/1")]);
    }

    #[test]
    fn lists_that_lead_to_one_environment_keep_it_together() {
        let demand = Demand::default();
        let (one, two) = (with(&demand, &["hatchling", "hatch-vcs"]), with(&demand, &["hatch-vcs"]));
        one.used(Path::new("/1"));
        two.used(Path::new("/1"));
        assert_eq!(ended(one), [""; 0].map(PathBuf::from));
        assert_eq!(ended(two), [Path::new("/1")]);
    }

    #[test]
    fn a_build_that_is_cancelled_needs_nothing() {
        let demand = Demand::default();
        let (cancelled, other) = (with(&demand, &["not a requirement !"]), with(&demand, &[]));
        cancelled.used(Path::new("/1"));
        drop(cancelled);
        assert_eq!(ended(other), [Path::new("/1")]);
    }
}
