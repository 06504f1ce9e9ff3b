//! A request that was read and is not answered yet.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use hookpool_frontend::Environments;
use hookpool_supervisor::{ErrorKind, HookError, HookRequest, Response, SubmitError, Supervisor, Ticket};
use tokio::sync::oneshot;

use super::id::Id;
use super::response_line::ResponseLine;

/// A request on its way, a future of its answer and the id for it.
pub struct OpenRequest {
    /// Taken with the answer.
    id: Option<Id>,
    way: Way,
}

enum Way {
    /// It is with the supervisor.
    Submitted(Box<Ticket>),
    /// It needs a build environment first.
    Prepared {
        /// Sent, or dropped, to cancel it.
        cancel: Option<oneshot::Sender<()>>,
        answer: BoxFuture<'static, Answer>,
    },
}

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    Response(Box<Response>),
    /// It never came to the supervisor.
    Refused {
        tree: String,
        hook: &'static str,
        error: HookError,
    },
}

impl OpenRequest {
    /// A request that the supervisor has.
    pub fn submitted(id: Id, ticket: Ticket) -> Self {
        Self { id: Some(id), way: Way::Submitted(Box::new(ticket)) }
    }

    /// A request that is submitted once its build environment is there.
    pub fn prepared(
        id: Id,
        request: HookRequest,
        requires: Option<Vec<String>>,
        environments: Environments,
        supervisor: Supervisor,
    ) -> Self {
        let (cancel, cancelled) = oneshot::channel();
        let answer = prepare_and_run(request, requires, environments, supervisor, cancelled).boxed();
        Self { id: Some(id), way: Way::Prepared { cancel: Some(cancel), answer } }
    }

    /// Whether `{"cancel": id}` means this one.
    pub fn has_id(&self, id: &Id) -> bool {
        self.id.as_ref() == Some(id)
    }

    /// Cancels it; it is answered all the same.
    pub fn cancel(&mut self) {
        match &mut self.way {
            Way::Submitted(ticket) => ticket.cancel(),
            Way::Prepared { cancel, .. } => drop(cancel.take()),
        }
    }
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Response(response) if response.outcome.is_ok())
    }

    /// The line of the output.
    pub fn to_bytes(&self, id: &Id) -> Vec<u8> {
        match self {
            Self::Response(response) => ResponseLine::answered(id, response).to_bytes(),
            Self::Refused { tree, hook, error } => ResponseLine::refused(id, tree, hook, error).to_bytes(),
        }
    }
}

impl Future for OpenRequest {
    type Output = (Id, Answer);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.way {
            Way::Submitted(ticket) => ticket.poll_unpin(context).map(|response| Answer::Response(Box::new(response))),
            Way::Prepared { answer, .. } => answer.poll_unpin(context),
        };
        answer.map(|answer| (self.id.take().expect("a future is not polled after its end"), answer))
    }
}

async fn prepare_and_run(
    mut request: HookRequest,
    requires: Option<Vec<String>>,
    environments: Environments,
    supervisor: Supervisor,
    mut cancelled: oneshot::Receiver<()>,
) -> Answer {
    let (tree, hook) = (request.tree.to_string_lossy().into_owned(), request.hook.name());
    let environment = tokio::select! {
        biased;
        _ = &mut cancelled => Err(HookError::new(ErrorKind::Cancelled, "the request was cancelled")),
        environment = environment(&request, requires, &environments, &supervisor) => environment,
    };
    let environment = match environment {
        Ok(environment) => environment,
        Err(error) => return Answer::Refused { tree, hook, error },
    };
    request.python = Some(environment.python().to_owned());
    let mut ticket = match supervisor.submit(request).await {
        Ok(ticket) => ticket,
        Err(error) => return Answer::Refused { tree, hook, error: refusal(error) },
    };
    let response = tokio::select! {
        biased;
        _ = &mut cancelled => {
            ticket.cancel();
            ticket.await
        }
        response = &mut ticket => response,
    };
    Answer::Response(Box::new(response))
}

async fn environment(
    request: &HookRequest,
    requires: Option<Vec<String>>,
    environments: &Environments,
    supervisor: &Supervisor,
) -> Result<hookpool_frontend::Environment, HookError> {
    let requires = match requires {
        Some(requires) => requires,
        None => supervisor.build_system(&request.tree).await?.requires,
    };
    Ok(environments.get(request.python.as_deref(), &requires).await?)
}

/// Why the supervisor does not take a request.
pub fn refusal(error: SubmitError) -> HookError {
    HookError::new(error.kind(), error.to_string())
}
