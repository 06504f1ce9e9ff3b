//! Environments that requests wait for: each is made once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::message::Action;
use super::{RequestState, Scheduler};
use crate::build_environment::{EnvironmentOutcome, EnvironmentRequirements, WantedEnvironment};
use crate::error::HookError;
use crate::event::Event;
use crate::request::RequestId;
use crate::tree::TreePath;

/// What is being made, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Preparations {
    /// The trees that wait for it, and the requests that were found to need it.
    running: HashMap<WantedEnvironment, Waiting>,
    /// The last failures, and when they came: the answer for all who had asked
    /// by then.
    failed: HashMap<WantedEnvironment, (Instant, HookError)>,
}

type Waiting = BTreeMap<TreePath, Vec<RequestId>>;

impl Preparations {
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Nobody is left who had asked before.
    pub fn forget_failures(&mut self) {
        self.failed.clear();
    }
}

impl Scheduler {
    /// A visit has found that the request's environment is not there. While it
    /// is made, the request has its place in the queue, its tree waits, and
    /// other processes may work in it.
    pub(super) fn prepare(&mut self, request: RequestId, requirements: Arc<EnvironmentRequirements>, now: Instant) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        let Some(environment) = &record.details.environment else { return };
        let wanted = WantedEnvironment { provider: environment.provider.clone(), requirements };
        let (path, place, submitted_at) = (record.path.clone(), record.place, record.submitted_at);
        if let Some((failed_at, error)) = self.preparations.failed.get(&wanted)
            && submitted_at <= *failed_at
        {
            let error = error.clone();
            self.fail(request, error, now);
            return self.leave_tree(&path);
        }
        if self.suspended {
            // It is found out again when all go on.
            record.state = RequestState::Queued;
            record.slot = None;
            self.trees.put_back(&path, place);
            return self.leave_tree(&path);
        }
        record.state = RequestState::Preparing { since: now };
        let slot = record.slot.take();
        self.trees.put_back(&path, place);
        self.trees.change(&path, |state| state.is_preparing = true);
        self.leave_tree(&path);
        self.observe(Event::RequestPreparing { request });
        match self.preparations.running.get_mut(&wanted) {
            Some(waiting) => waiting.entry(path).or_default().push(request),
            None => {
                self.preparations.running.insert(wanted.clone(), BTreeMap::from([(path, vec![request])]));
                let slot = slot.expect("a visit holds a job slot");
                self.actions.push(Action::Prepare { wanted, slot });
            }
        }
    }

    /// An environment is there, or will not be.
    pub fn prepared(&mut self, wanted: &WantedEnvironment, outcome: EnvironmentOutcome, now: Instant) {
        let Some(waiting) = self.preparations.running.remove(wanted) else { return };
        let error = outcome.err();
        if let Some(error) = &error {
            self.remember_failure(wanted, error, now);
        }
        for path in waiting.keys() {
            self.trees.change(path, |state| state.is_preparing = false);
        }
        for request in waiting.into_values().flatten() {
            let Some(record) = self.requests.get_mut(&request) else { continue };
            let RequestState::Preparing { since } = record.state else { continue };
            record.prepared_for += now - since;
            record.state = RequestState::Queued;
            self.observe(Event::RequestPrepared { request });
            if let Some(error) = &error {
                self.dequeue(request);
                self.fail(request, error.clone(), now);
            }
        }
        self.fill();
        self.stop_all_when_drained();
    }

    /// Requests that had asked by now get the same answer when it is their turn.
    fn remember_failure(&mut self, wanted: &WantedEnvironment, error: &HookError, now: Instant) {
        let oldest = self.requests.values().map(|record| record.submitted_at).min();
        self.preparations.failed.retain(|_, (failed_at, _)| oldest.is_some_and(|oldest| oldest <= *failed_at));
        self.preparations.failed.insert(wanted.clone(), (now, error.clone()));
    }

    /// No request is left for a tree, and so for the environments that were
    /// wanted there.
    pub(super) fn give_up_preparing(&mut self, path: &TreePath) {
        self.trees.change(path, |state| state.is_preparing = false);
        self.preparations.running.values_mut().for_each(|waiting| {
            waiting.remove(path);
        });
        let unwanted = self.preparations.running.extract_if(|_, waiting| waiting.is_empty());
        self.actions.extend(unwanted.map(|(wanted, _)| Action::GiveUpEnvironment { wanted }));
    }

    #[cfg(test)]
    pub(super) fn waits_for_environment(&self, path: &TreePath) -> bool {
        self.preparations.running.values().any(|waiting| waiting.contains_key(path))
    }
}
