//! Makes records of what happens, in memory that is bounded.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use hookpool_supervisor::{ErrorKind, Event, ExitReason, Hook, StartMethod, Timing};

use super::processors::Samples;
use super::records::{HookRecord, Interval, Names, TemplateRecord, WorkerRecord};
use super::slots::Slots;

/// The number of something, and the number of the supervisor that it is of.
pub type Key = (u32, u64);

/// What is known of a run so far. Times are from its start.
///
/// As soon as there are [`Recorder::MOST`] records of one kind, nothing more is
/// recorded: a report of the first part of a run is a whole one, and one with
/// holes would mislead.
#[derive(Debug)]
pub struct Recorder {
    most: usize,
    open: HashMap<Key, OpenRequest>,
    living: HashMap<Key, usize>,
    worker_slots: Slots<Key>,
    living_templates: HashMap<Key, usize>,
    template_slots: Slots<Key>,
    pub hooks: Vec<HookRecord>,
    pub workers: Vec<WorkerRecord>,
    pub templates: Vec<TemplateRecord>,
    pub intervals: Vec<Interval>,
    pub trees: Names,
    pub samples: Samples,
    /// Requests that were answered, recorded or not.
    pub answered: usize,
    /// Since when nothing is recorded any more.
    pub cut: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct OpenRequest {
    queued: Duration,
    accepted: Option<(Duration, Option<usize>)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_most(Self::MOST)
    }
}

impl Recorder {
    /// The records of each kind; some tens of megabytes in all.
    pub const MOST: usize = 100_000;
    const MOST_LEARNED: usize = 500;

    fn with_most(most: usize) -> Self {
        Self {
            most,
            open: HashMap::new(),
            living: HashMap::new(),
            worker_slots: Slots::default(),
            living_templates: HashMap::new(),
            template_slots: Slots::default(),
            hooks: Vec::new(),
            workers: Vec::new(),
            templates: Vec::new(),
            intervals: Vec::new(),
            trees: Names::default(),
            samples: Samples::default(),
            answered: 0,
            cut: None,
        }
    }

    /// Something happened in the supervisor of this number.
    pub fn observe(&mut self, supervisor: u32, event: &Event, now: Duration) {
        if let Event::RequestFinished { .. } = event {
            self.answered += 1;
        }
        if self.cut.is_some() {
            return;
        }
        self.observe_request(supervisor, event, now);
        self.observe_worker(supervisor, event, now);
        self.observe_template(supervisor, event, now);
        let fullest = [self.hooks.len(), self.workers.len(), self.templates.len(), self.intervals.len()];
        if fullest.into_iter().any(|count| count >= self.most) {
            self.cut = Some(now);
        }
    }

    /// Something else took this time.
    pub fn interval(&mut self, interval: Interval) {
        if self.cut.is_none() && self.intervals.len() < self.most {
            self.intervals.push(interval);
        }
    }

    fn observe_request(&mut self, supervisor: u32, event: &Event, now: Duration) {
        match event {
            Event::RequestQueued { request, .. } => {
                self.request_queued((supervisor, request.number()), now);
            }
            Event::RequestAccepted { request, worker } => {
                self.request_accepted((supervisor, request.number()), (supervisor, worker.number()), now);
            }
            Event::RequestFinished { request, tree, hook, error, timing } => {
                self.request_finished((supervisor, request.number()), tree, *hook, *error, *timing, now);
            }
            _ => {}
        }
    }

    fn request_queued(&mut self, request: Key, now: Duration) {
        self.open.insert(request, OpenRequest { queued: now, accepted: None });
    }

    fn request_accepted(&mut self, request: Key, worker: Key, now: Duration) {
        if let Some(open) = self.open.get_mut(&request) {
            open.accepted = Some((now, self.living.get(&worker).copied()));
        }
    }

    fn request_finished(
        &mut self,
        request: Key,
        tree: &Path,
        hook: Hook,
        error: Option<ErrorKind>,
        timing: Timing,
        now: Duration,
    ) {
        let Some(OpenRequest { queued, accepted }) = self.open.remove(&request) else { return };
        let tree = self.trees.place_of(tree);
        let (accepted, worker) = accepted.map_or((None, None), |(at, worker)| (Some(at), worker));
        self.hooks.push(HookRecord { tree, hook, worker, queued, accepted, finished: now, timing, error });
    }

    fn observe_worker(&mut self, supervisor: u32, event: &Event, now: Duration) {
        match event {
            Event::WorkerStarting { worker, tree, generation, start_method } => {
                self.worker_starting((supervisor, worker.number()), tree, *generation, *start_method, now);
            }
            Event::WorkerReady { worker, pid, start_method, .. } => {
                self.change_worker((supervisor, worker.number()), |record| {
                    record.ready = Some(now);
                    record.pid = Some(*pid);
                    // A template may have been of no use.
                    record.start_method = *start_method;
                });
            }
            Event::WorkerStopping { worker, reason } => {
                let reason = reason.describe();
                self.change_worker((supervisor, worker.number()), |record| record.reason = Some(reason.into()));
            }
            Event::WorkerStartFailed { worker, reason, .. } => {
                self.worker_ended((supervisor, worker.number()), Some(reason.clone()), now);
            }
            Event::WorkerExited { worker, exit, planned, .. } => {
                self.worker_ended((supervisor, worker.number()), crash(exit, *planned), now);
            }
            _ => {}
        }
    }

    fn worker_starting(&mut self, worker: Key, tree: &Path, generation: u64, start_method: StartMethod, now: Duration) {
        let record = WorkerRecord {
            number: worker.1,
            slot: self.worker_slots.take(worker),
            tree: self.trees.place_of(tree),
            generation,
            start_method,
            pid: None,
            start: now,
            ready: None,
            end: None,
            reason: None,
        };
        self.living.insert(worker, self.workers.len());
        self.workers.push(record);
    }

    fn change_worker(&mut self, worker: Key, change: impl FnOnce(&mut WorkerRecord)) {
        if let Some(record) = self.living.get(&worker).and_then(|place| self.workers.get_mut(*place)) {
            change(record);
        }
    }

    fn worker_ended(&mut self, worker: Key, crash: Option<String>, now: Duration) {
        self.change_worker(worker, |record| {
            record.end = Some(now);
            record.reason = crash.or(record.reason.take());
        });
        self.living.remove(&worker);
        self.worker_slots.release(&worker);
    }

    fn observe_template(&mut self, supervisor: u32, event: &Event, now: Duration) {
        match event {
            Event::TemplateStarting { template, backend, .. } => {
                self.template_starting((supervisor, template.number()), backend.clone(), now);
            }
            Event::TemplateReady { template, .. } => {
                self.change_template((supervisor, template.number()), |record| record.ready = Some(now));
            }
            Event::TemplateLearned { template, modules } => {
                self.change_template((supervisor, template.number()), |record| {
                    if record.learned.len() < Self::MOST_LEARNED {
                        record.learned.push((now, *modules));
                    }
                });
            }
            Event::TemplateFailed { template, reason } => {
                self.template_ended((supervisor, template.number()), Some(reason), now);
            }
            Event::TemplateExited { template } => self.template_ended((supervisor, template.number()), None, now),
            _ => {}
        }
    }

    fn template_starting(&mut self, template: Key, backend: Option<String>, now: Duration) {
        let record = TemplateRecord {
            number: template.1,
            slot: self.template_slots.take(template),
            backend,
            start: now,
            ready: None,
            end: None,
            learned: Vec::new(),
            reason: None,
        };
        self.living_templates.insert(template, self.templates.len());
        self.templates.push(record);
    }

    fn change_template(&mut self, template: Key, change: impl FnOnce(&mut TemplateRecord)) {
        if let Some(record) = self.living_templates.get(&template).and_then(|place| self.templates.get_mut(*place)) {
            change(record);
        }
    }

    fn template_ended(&mut self, template: Key, reason: Option<&String>, now: Duration) {
        self.change_template(template, |record| {
            record.end = Some(now);
            record.reason = reason.cloned();
        });
        self.living_templates.remove(&template);
        self.template_slots.release(&template);
    }
}

fn crash(exit: &ExitReason, planned: bool) -> Option<String> {
    (!planned).then(|| format!("crashed: it {exit}"))
}

#[cfg(test)]
mod tests;
