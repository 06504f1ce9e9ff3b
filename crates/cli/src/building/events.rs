//! From the events of the libraries to those that are shown: the events of one build,
//! by the sources that they are about.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookpool_frontend::{EnvironmentEvent, JobId, Step};
use hookpool_supervisor::{CapturedOutput, Event, RequestId};
use hookpool_wire::{BuildEvent, Captured, HookState};

use crate::format::milliseconds;

/// Receives the events of a build. Must not block.
pub type Tell = Arc<dyn Fn(BuildEvent) + Send + Sync>;

/// The hooks of a build.
#[derive(Debug, Default)]
struct Hooks {
    /// Those without an answer, each with its source.
    sources: HashMap<RequestId, JobId>,
    /// All of them.
    submitted: Vec<RequestId>,
}

/// Tells the events of a build, whose hooks are some of those of a pool.
#[derive(Clone)]
pub struct Narrator {
    tell: Tell,
    tells_output: bool,
    /// Locked for a look-up only.
    hooks: Arc<Mutex<Hooks>>,
}

impl Narrator {
    pub fn new(tell: Tell, tells_output: bool) -> Self {
        Self { tell, tells_output, hooks: Arc::default() }
    }

    /// The requests of the build so far.
    pub fn requests(&self) -> HashSet<RequestId> {
        self.hooks().submitted.iter().copied().collect()
    }

    /// Tells an event of the frontend.
    pub fn of_frontend(&self, event: &hookpool_frontend::BuildEvent) {
        use hookpool_frontend::BuildEvent as Their;
        match event {
            Their::Step { job, step } => {
                let step = match step {
                    Step::Unpacking => "unpacking",
                    Step::Hook(hook) => hook.name(),
                };
                (self.tell)(BuildEvent::Step { source: job.0, step: step.to_owned() });
            }
            Their::HookSubmitted { job, request, .. } => {
                let mut hooks = self.hooks();
                hooks.sources.insert(*request, *job);
                hooks.submitted.push(*request);
            }
            Their::HookAnswered { request, stdout, stderr } => {
                // An event of its beginning may still come.
                self.hooks().sources.remove(request);
                if self.tells_output {
                    let (stdout, stderr) = (captured(stdout), captured(stderr));
                    (self.tell)(BuildEvent::OutputEnded { request: request.number(), stdout, stderr });
                }
            }
            _ => {}
        }
    }

    /// Whether [`Self::of_pool`] tells an event.
    pub fn wants(&self) -> impl Fn(&Event) -> bool + Send + 'static {
        let tells_output = self.tells_output;
        move |event| match event {
            Event::OutputCaptured { .. } | Event::RequestFinished { .. } => tells_output,
            Event::RequestPreparing { .. }
            | Event::RequestPrepared { .. }
            | Event::RequestAccepted { .. }
            | Event::TreeLocked { .. } => true,
            _ => false,
        }
    }

    /// Tells an event of the supervisor, if it is about this build.
    pub fn of_pool(&self, event: &Event) {
        match event {
            Event::RequestPreparing { request } => self.hook_is(request, HookState::Preparing),
            Event::RequestPrepared { request } => self.hook_is(request, HookState::Queued),
            Event::RequestAccepted { request, .. } => self.hook_is(request, HookState::Running),
            Event::OutputCaptured { request, stdout, stderr } if self.tells_output => {
                if let Some(source) = self.source(request) {
                    let (stdout, stderr) = (text(stdout), text(stderr));
                    let request = request.number();
                    (self.tell)(BuildEvent::OutputFiles { source: source.0, request, stdout, stderr });
                }
            }
            Event::RequestFinished { request, .. } if self.tells_output && self.source(request).is_some() => {
                (self.tell)(BuildEvent::OutputPaused { request: request.number() });
            }
            Event::TreeLocked { request, tree } if self.source(request).is_some() => {
                (self.tell)(BuildEvent::TreeLocked { tree: text(tree) });
            }
            _ => {}
        }
    }

    /// Tells an event of the build environments.
    pub fn of_environments(&self, event: &EnvironmentEvent) {
        let told = match event {
            EnvironmentEvent::Made { requirements, after, .. } => {
                BuildEvent::EnvironmentMade { requirements: requirements.clone(), after_ms: milliseconds(*after) }
            }
            EnvironmentEvent::Matched { requirements, after, .. } => {
                BuildEvent::EnvironmentMatched { requirements: requirements.clone(), after_ms: milliseconds(*after) }
            }
            EnvironmentEvent::Awaited { requirements } => {
                BuildEvent::EnvironmentAwaited { requirements: requirements.clone() }
            }
            EnvironmentEvent::StaleResolutionUsed { requirements, reason, .. } => {
                let (requirements, reason) = (requirements.clone(), reason.clone());
                BuildEvent::EnvironmentOutdated { requirements, reason }
            }
            EnvironmentEvent::Discarded { folder, reason } => {
                BuildEvent::EnvironmentDiscarded { folder: text(folder), reason: reason.clone() }
            }
            EnvironmentEvent::PipInPlaceOfUv { told_by } => BuildEvent::PipInPlaceOfUv { told_by: told_by.clone() },
            _ => return,
        };
        (self.tell)(told);
    }

    fn hook_is(&self, request: &RequestId, state: HookState) {
        if let Some(source) = self.source(request) {
            (self.tell)(BuildEvent::Hook { source: source.0, state });
        }
    }

    fn source(&self, request: &RequestId) -> Option<JobId> {
        self.hooks().sources.get(request).copied()
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn captured(output: &CapturedOutput) -> Captured {
    Captured { base64: output.tail.clone(), truncated: output.truncated }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_attention_is_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let narrator = Narrator::new(Arc::new(move |event| tell.lock().unwrap().push(event)), false);
        let (requirements, reason) = (vec!["flit_core".to_owned()], "no network".to_owned());
        narrator.of_environments(&EnvironmentEvent::StaleResolutionUsed {
            folder: "/e".into(),
            requirements: requirements.clone(),
            reason: reason.clone(),
        });
        narrator.of_environments(&EnvironmentEvent::Discarded { folder: "/e".into(), reason: reason.clone() });
        let expected = [
            BuildEvent::EnvironmentOutdated { requirements, reason: reason.clone() },
            BuildEvent::EnvironmentDiscarded { folder: "/e".to_owned(), reason },
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
