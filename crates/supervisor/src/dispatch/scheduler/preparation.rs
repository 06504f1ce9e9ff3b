//! Build environments that requests wait for. Each is made once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::message::Action;
use super::{RequestState, Scheduler};
use crate::build_environment::{EnvironmentOutcome, EnvironmentRequirements, MadeEnvironment, WantedEnvironment};
use crate::error::HookError;
use crate::event::Event;
use crate::ids::RequestId;
use crate::tree::TreePath;

/// The environments that are being made, and those that could not be made.
#[derive(Debug, Default)]
pub(super) struct Preparations {
    /// For each, the trees that wait for it and the requests that need it.
    running: HashMap<WantedEnvironment, Waiting>,
    /// The last failures and their times: the answer to all requests that were
    /// submitted before.
    failed: HashMap<WantedEnvironment, (Instant, HookError)>,
}

type Waiting = BTreeMap<TreePath, Vec<RequestId>>;

impl Preparations {
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// No request is left that was submitted before a failure.
    pub fn forget_failures(&mut self) {
        self.failed.clear();
    }
}

impl Scheduler {
    /// A visit has found that the request's environment is missing. While it is
    /// made, the request keeps its place in the queue, no other request of the
    /// tree is served, and other processes may use the tree.
    pub(super) fn prepare(&mut self, request: RequestId, requirements: Arc<EnvironmentRequirements>, now: Instant) {
        let Some(record) = self.requests.get_mut(&request) else { return };
        let Some(environment) = &record.details.environment else { return };
        let wanted = WantedEnvironment { provider: environment.provider.clone(), requirements };
        let (path, submitted_at) = (record.path.clone(), record.submitted_at);
        if let Some((failed_at, error)) = self.preparations.failed.get(&wanted)
            && submitted_at <= *failed_at
        {
            let error = error.clone();
            self.fail(request, error, now);
            return self.leave_tree(&path);
        }
        if self.suspended {
            // The next visit finds that again.
            self.put_back(request);
            return self.leave_tree(&path);
        }
        let slot = record.slot.take();
        self.put_back(request);
        let record = self.requests.get_mut(&request).expect("it was there");
        record.state = RequestState::Preparing { since: now };
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

    /// An environment was made, or could not be made.
    pub fn prepared(&mut self, wanted: &WantedEnvironment, outcome: EnvironmentOutcome, now: Instant) {
        let Some(waiting) = self.preparations.running.remove(wanted) else { return };
        if let Err(error) = &outcome {
            self.remember_failure(wanted, error, now);
        }
        for path in waiting.keys() {
            self.note_whether_preparing(path);
        }
        for request in waiting.into_values().flatten() {
            let Some(record) = self.requests.get_mut(&request) else { continue };
            let RequestState::Preparing { since } = record.state else { continue };
            record.prepared_for += now - since;
            record.state = RequestState::Queued;
            if let Ok(environment) = &outcome {
                let (requirements, environment) = (wanted.requirements.clone(), environment.clone());
                record.made = Some(MadeEnvironment { requirements, environment });
            }
            self.observe(Event::RequestPrepared { request });
            if let Err(error) = &outcome {
                self.dequeue(request);
                self.fail(request, error.clone(), now);
            }
        }
        self.fill();
        self.stop_all_when_drained();
    }

    /// Requests that were submitted before get the same answer when it is their
    /// turn.
    fn remember_failure(&mut self, wanted: &WantedEnvironment, error: &HookError, now: Instant) {
        let oldest = self.requests.values().map(|record| record.submitted_at).min();
        self.preparations.failed.retain(|_, (failed_at, _)| oldest.is_some_and(|oldest| oldest <= *failed_at));
        self.preparations.failed.insert(wanted.clone(), (now, error.clone()));
    }

    /// A tree has no more requests, and so does not need its environments any
    /// more.
    pub(super) fn give_up_preparing(&mut self, path: &TreePath) {
        self.preparations.running.values_mut().for_each(|waiting| {
            waiting.remove(path);
        });
        self.note_whether_preparing(path);
        self.give_up_unwanted_environments();
    }

    /// A request that waits for its environment was cancelled. The next request
    /// of its tree may need the same environment, so the making is ended only
    /// when that is known.
    pub(super) fn wait_no_longer(&mut self, request: RequestId, path: &TreePath) {
        for waiting in self.preparations.running.values_mut() {
            if let Some(requests) = waiting.get_mut(path) {
                requests.retain(|other| *other != request);
            }
        }
        self.note_whether_preparing(path);
    }

    /// A visit has found which environment the next request of a tree needs.
    /// Environments that no request needs are not made any further.
    pub(super) fn give_up_forsaken(&mut self, path: &TreePath) {
        if self.preparations.running.is_empty() || self.shutdown.ends_hooks() {
            return;
        }
        for waiting in self.preparations.running.values_mut() {
            if waiting.get(path).is_some_and(Vec::is_empty) {
                waiting.remove(path);
            }
        }
        self.give_up_unwanted_environments();
    }

    fn note_whether_preparing(&mut self, path: &TreePath) {
        let mut waiting = self.preparations.running.values().filter_map(|waiting| waiting.get(path));
        let is_preparing = waiting.any(|requests| !requests.is_empty());
        self.trees.change(path, |state| state.is_preparing = is_preparing);
    }

    fn give_up_unwanted_environments(&mut self) {
        let unwanted = self.preparations.running.extract_if(|_, waiting| waiting.is_empty());
        self.actions.extend(unwanted.map(|(wanted, _)| Action::GiveUpEnvironment { wanted }));
    }

    #[cfg(test)]
    pub(super) fn waits_for_environment(&self, request: RequestId, path: &TreePath) -> bool {
        let mut waiting = self.preparations.running.values().filter_map(|waiting| waiting.get(path));
        waiting.any(|requests| requests.contains(&request))
    }
}
