//! Runs hooks for requests as they are written: in the lines of `hookpool run`, and
//! over HTTP.

pub mod lines;
pub mod request;
pub mod requests;
pub mod response;

use std::collections::VecDeque;
use std::fmt;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hookpool_frontend::{AnswerUse, Answers, Environments, Keeping, Lookup, settle};
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{CallerProcess, ErrorKind, HookError, KeptAnswers, Supervisor, Ticket, UnreadResponse};
use hookpool_wire::{HookRequest, HookResponse, Id, InvalidRequest};

use crate::exit::Failure;

/// Runs hooks in one pool, with the same environments and answers.
#[derive(Clone, Debug)]
pub struct Hooks {
    pub supervisor: Supervisor,
    pub environments: Arc<EnvironmentsOfCallers>,
    /// `None`: no answers are kept.
    pub answers: Option<Arc<Answers>>,
    /// What hooks inherit if their request does not say. `None`: requests come from
    /// this process, and so do all that hooks inherit; otherwise paths have to be
    /// absolute.
    pub default_caller: Option<Arc<CallerProcess>>,
    pub origin: Origin,
}

/// Where hooks come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The id of the HTTP request.
    pub id: Option<Arc<str>>,
    /// Its `traceparent` (W3C Trace Context), if it is valid. Hooks get it as
    /// `TRACEPARENT`, unless their caller has one.
    pub trace: Option<Arc<str>>,
}

/// The build environments for hooks, by what hooks and installers inherit.
pub struct EnvironmentsOfCallers {
    make: MakeEnvironments,
    /// Those that were used last come first. Locked for a look-up only.
    known: Mutex<VecDeque<OfCaller>>,
}

type MakeEnvironments =
    Box<dyn Fn(Option<Arc<CallerProcess>>) -> Result<Option<Arc<Environments>>, Failure> + Send + Sync>;

type OfCaller = (Option<Arc<CallerProcess>>, Option<Arc<Environments>>);

impl fmt::Debug for EnvironmentsOfCallers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EnvironmentsOfCallers").finish_non_exhaustive()
    }
}

impl EnvironmentsOfCallers {
    /// The number of callers that are remembered.
    const MOST: usize = 16;

    /// `make` returns `None` if hooks run in the environment of the interpreter.
    pub fn new(
        make: impl Fn(Option<Arc<CallerProcess>>) -> Result<Option<Arc<Environments>>, Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { make: Box::new(make), known: Mutex::default() })
    }

    /// Those of a caller.
    pub async fn of(
        self: &Arc<Self>,
        caller: Option<&Arc<CallerProcess>>,
    ) -> Result<Option<Arc<Environments>>, Failure> {
        if let Some(known) = self.find(caller) {
            return Ok(known);
        }
        let (this, owned) = (self.clone(), caller.cloned());
        // Makes folders.
        let made = unblock(move || (this.make)(owned)).await?;
        // Another request of the caller may have been faster.
        Ok(self.find(caller).unwrap_or_else(|| {
            let mut known = self.known();
            known.truncate(Self::MOST - 1);
            known.push_front((caller.cloned(), made.clone()));
            made
        }))
    }

    /// Those that are known of a caller, which are the ones used last from now on.
    fn find(&self, caller: Option<&Arc<CallerProcess>>) -> Option<Option<Arc<Environments>>> {
        let mut known = self.known();
        let place = known.iter().position(|(other, _)| other.as_ref() == caller)?;
        let entry = known.remove(place)?;
        let environments = entry.1.clone();
        known.push_front(entry);
        Some(environments)
    }

    /// The number of environments that this process holds.
    pub fn held(&self) -> usize {
        self.known().iter().filter_map(|(_, environments)| environments.as_ref()).map(|some| some.held()).sum()
    }

    async fn close(&self) {
        let all = std::mem::take(&mut *self.known());
        for environments in all.into_iter().filter_map(|(_, environments)| environments) {
            environments.close().await;
        }
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<OfCaller>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request was not admitted.
#[derive(Debug)]
pub enum NotAdmitted {
    /// It is not a valid request.
    Invalid(InvalidRequest),
    /// It is one, but the pool does not run it.
    Refused(Box<HookResponse>),
}

impl Hooks {
    /// Admits a request; waits while the queue is full.
    pub async fn submit(&self, wire: HookRequest) -> Result<SubmittedRequest, NotAdmitted> {
        if self.default_caller.is_some() {
            request::check_absolute(&wire).map_err(NotAdmitted::Invalid)?;
        }
        let mut request = match request::resolve(&wire).map_err(NotAdmitted::Invalid)? {
            Ok(request) => request,
            Err(error) => {
                return Err(refused(wire, HookError::new(ErrorKind::InvalidHookName, error.to_string())));
            }
        };
        // Who does not say what hooks inherit gets installers as this process would
        // have them.
        let environments = self.environments.of(request.caller.as_ref()).await;
        request.caller = request.caller.or_else(|| self.default_caller.clone());
        let environments = match environments {
            Ok(environments) => environments,
            Err(error) => return Err(refused(wire, HookError::new(ErrorKind::SystemRefused, error.message()))),
        };
        request.environment =
            environments.map(|environments| environments.for_requests(wire.requires.clone(), Vec::new()));
        request.caller = request.caller.map(|caller| traced(caller, self.origin.trace.as_deref()));
        request.caller_id.clone_from(&self.origin.id);
        let lookup = self.answers.as_ref().and_then(|answers| answers.lookup(&request));
        request.kept_answers = lookup.clone().map(|lookup| lookup as Arc<dyn KeptAnswers>);
        match self.supervisor.submit(request).await {
            Ok(ticket) => Ok(SubmittedRequest { answered: Some(Answered { id: wire.id, lookup }), ticket }),
            Err(error) => Err(refused(wire, HookError::new(error.kind(), error.to_string()))),
        }
    }

    /// Lets go of what only this pool could use. To be called when no hook runs any
    /// more.
    pub async fn close(self) {
        self.environments.close().await;
        if let Some(answers) = self.answers {
            answers.close().await;
        }
    }
}

/// A caller with this trace in `TRACEPARENT`, unless it has one of its own.
pub fn traced(mut caller: Arc<CallerProcess>, trace: Option<&str>) -> Arc<CallerProcess> {
    if let Some(trace) = trace {
        Arc::make_mut(&mut caller).variables.entry("TRACEPARENT".into()).or_insert_with(|| trace.into());
    }
    caller
}

fn refused(wire: HookRequest, error: HookError) -> NotAdmitted {
    NotAdmitted::Refused(Box::new(response::refused(wire.id, wire.tree, &wire.hook, error)))
}

/// A request that the supervisor has admitted: a future of its answer, whose output
/// stays on the disk until it is read.
#[derive(Debug)]
pub struct SubmittedRequest {
    /// Taken when the future completes.
    answered: Option<Answered>,
    ticket: Ticket,
}

impl SubmittedRequest {
    /// Whether the caller has given it this id.
    pub fn has_id(&self, id: &Id) -> bool {
        self.answered.as_ref().is_some_and(|answered| answered.id == *id)
    }

    /// Cancels it. It is still answered.
    pub fn cancel(&mut self) {
        self.ticket.cancel();
    }
}

impl Future for SubmittedRequest {
    type Output = UnreadAnswer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.ticket.poll_unread(context).map(|response| {
            let answered = self.answered.take().expect("the future is not polled after its completion");
            UnreadAnswer { answered, response }
        })
    }
}

/// What is needed of a request when it is answered.
#[derive(Debug)]
struct Answered {
    id: Id,
    lookup: Option<Arc<Lookup>>,
}

/// The answer to a request, whose output is still on the disk.
#[derive(Debug)]
pub struct UnreadAnswer {
    answered: Answered,
    response: UnreadResponse,
}

/// The response to a request, and whether it counts as a failure.
#[derive(Debug)]
pub struct ReadAnswer {
    pub response: HookResponse,
    pub has_failed: bool,
    /// A kept answer was wrong.
    pub was_wrong: bool,
}

impl UnreadAnswer {
    /// Reads the output, and keeps the answer if it may be kept.
    pub async fn read(self) -> ReadAnswer {
        let mut response = self.response.read().await;
        // Without an answer to keep, the seal of the environment is not looked at: that takes
        // a tenth of a short hook's time. The next process does so.
        let answer = match self.answered.lookup {
            Some(lookup) => settle(Some(lookup), &mut response, false).await.answer,
            None => AnswerUse::None,
        };
        if let AnswerUse::New(Keeping::Mismatch(difference)) = &answer {
            let (tree, hook) = (response.tree.display(), response.hook);
            tracing::warn!("{tree}: the kept answer of {hook} was wrong: {difference}");
        }
        ReadAnswer {
            has_failed: response.outcome.is_err(),
            was_wrong: matches!(answer, AnswerUse::New(Keeping::Mismatch(_))),
            response: response::answered(self.answered.id, response, &answer),
        }
    }
}
