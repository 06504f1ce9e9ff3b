//! Records the events of a run in bounded memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use hookpool_supervisor::{ErrorKind, Event, ExitReason, Hook, StartMethod, Timing, WorkerSnapshot};

use super::processors::Samples;
use super::records::{HookRecord, Interval, Key, Lives, Names, TemplateRecord, WorkerRecord};

/// The records of a run so far. Times are since its start.
///
/// As soon as there are [`Recorder::MAX_RECORDS`] of one kind, nothing more is
/// recorded: a report that covers the first part of a run is correct for that part,
/// and one with gaps would mislead.
#[derive(Debug)]
pub struct Recorder {
    max_records: usize,
    open: HashMap<Key, OpenRequest>,
    pub hooks: Vec<HookRecord>,
    pub workers: Lives<WorkerRecord>,
    pub templates: Lives<TemplateRecord>,
    pub intervals: Vec<Interval>,
    pub trees: Names,
    pub samples: Samples,
    /// The number of requests that were answered, recorded or not.
    pub answered: usize,
    /// When recording stopped.
    pub cut: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct OpenRequest {
    queued: Duration,
    accepted: Option<(Duration, Option<usize>)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_limit(Self::MAX_RECORDS)
    }
}

impl Recorder {
    /// The most records of each kind; they take some tens of megabytes together.
    const MAX_RECORDS: usize = 100_000;
    const MAX_LEARNED: usize = 500;

    fn with_limit(max_records: usize) -> Self {
        Self {
            max_records,
            open: HashMap::new(),
            hooks: Vec::new(),
            workers: Lives::default(),
            templates: Lives::default(),
            intervals: Vec::new(),
            trees: Names::default(),
            samples: Samples::default(),
            answered: 0,
            cut: None,
        }
    }

    /// Records an event of the supervisor with this number.
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
        let counts = [self.hooks.len(), self.workers.records.len(), self.templates.records.len(), self.intervals.len()];
        if counts.into_iter().any(|count| count >= self.max_records) {
            self.cut = Some(now);
        }
    }

    /// Notes a worker that was started before the run. To be called before any event is
    /// observed.
    pub fn has_worker(&mut self, supervisor: u32, worker: &WorkerSnapshot) {
        let key = (supervisor, worker.id.number());
        self.worker_starting(key, &worker.tree, worker.generation, worker.start_method, Duration::ZERO);
        self.workers.change(key, |record| {
            record.pid = worker.pid;
            record.ready = worker.pid.map(|_| Duration::ZERO);
        });
    }

    /// Forgets all hooks but those of these requests, and the workers that ran none of
    /// them.
    pub fn retain(&mut self, requests: &HashSet<Key>) {
        self.hooks.retain(|hook| requests.contains(&hook.request));
        self.answered = requests.len();
        let kept: BTreeSet<usize> = self.hooks.iter().filter_map(|hook| hook.worker).collect();
        let new_index: HashMap<usize, usize> = kept.iter().copied().zip(0..).collect();
        let slots: BTreeSet<usize> = kept.iter().map(|index| self.workers.records[*index].slot).collect();
        let new_slot: HashMap<usize, usize> = slots.into_iter().zip(0..).collect();
        let (workers, trees) = (std::mem::take(&mut self.workers), std::mem::take(&mut self.trees));
        let mut keep = |tree: &mut usize| *tree = self.trees.add(trees.all()[*tree].clone());
        for (index, mut worker) in workers.records.into_iter().enumerate() {
            if kept.contains(&index) {
                keep(&mut worker.tree);
                worker.slot = new_slot[&worker.slot];
                self.workers.records.push(worker);
            }
        }
        for hook in &mut self.hooks {
            keep(&mut hook.tree);
            hook.worker = hook.worker.map(|index| new_index[&index]);
        }
    }

    /// Records an interval.
    pub fn interval(&mut self, interval: Interval) {
        if self.cut.is_none() && self.intervals.len() < self.max_records {
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
            Event::RequestFinished { request, tree, hook, error, timing, .. } => {
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
            open.accepted = Some((now, self.workers.index_of(worker)));
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
        let tree = self.trees.index_of(tree);
        let (accepted, worker) = accepted.map_or((None, None), |(at, worker)| (Some(at), worker));
        self.hooks.push(HookRecord { request, tree, hook, worker, queued, accepted, finished: now, timing, error });
    }

    fn observe_worker(&mut self, supervisor: u32, event: &Event, now: Duration) {
        match event {
            Event::WorkerStarting { worker, tree, generation, start_method } => {
                self.worker_starting((supervisor, worker.number()), tree, *generation, *start_method, now);
            }
            Event::WorkerReady { worker, pid, start_method, .. } => {
                self.workers.change((supervisor, worker.number()), |record| {
                    record.ready = Some(now);
                    record.pid = Some(*pid);
                    // A worker is spawned if its template fails.
                    record.start_method = *start_method;
                });
            }
            Event::WorkerStopping { worker, reason } => {
                let reason = reason.describe();
                self.workers.change((supervisor, worker.number()), |record| record.reason = Some(reason.into()));
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
        if self.workers.index_of(worker).is_some() {
            // It was noted before this event was read.
            return;
        }
        let tree = self.trees.index_of(tree);
        self.workers.begin(worker, |slot| WorkerRecord {
            number: worker.1,
            slot,
            tree,
            generation,
            start_method,
            pid: None,
            start: now,
            ready: None,
            end: None,
            reason: None,
        });
    }

    fn worker_ended(&mut self, worker: Key, crash: Option<String>, now: Duration) {
        self.workers.end(worker, |record| {
            record.end = Some(now);
            record.reason = crash.or(record.reason.take());
        });
    }

    fn observe_template(&mut self, supervisor: u32, event: &Event, now: Duration) {
        match event {
            Event::TemplateStarting { template, backend, .. } => {
                self.template_starting((supervisor, template.number()), backend.clone(), now);
            }
            Event::TemplateReady { template, .. } => {
                self.templates.change((supervisor, template.number()), |record| record.ready = Some(now));
            }
            Event::TemplateLearned { template, modules } => {
                self.templates.change((supervisor, template.number()), |record| {
                    if record.learned.len() < Self::MAX_LEARNED {
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
        self.templates.begin(template, |slot| TemplateRecord {
            number: template.1,
            slot,
            backend,
            start: now,
            ready: None,
            end: None,
            learned: Vec::new(),
            reason: None,
        });
    }

    fn template_ended(&mut self, template: Key, reason: Option<&String>, now: Duration) {
        self.templates.end(template, |record| {
            record.end = Some(now);
            record.reason = reason.cloned();
        });
    }
}

fn crash(exit: &ExitReason, planned: bool) -> Option<String> {
    (!planned).then(|| format!("crashed: it {exit}"))
}

#[cfg(test)]
mod tests;
