//! Reads requests, submits them to the pool and writes the responses.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hookpool_frontend::{AnswerUse, Answers, Environments, Keeping, Lookup};
use hookpool_supervisor::files::unblock;
use hookpool_supervisor::{
    ErrorKind, HookError, HookRequest, KeptAnswers, Response, Supervisor, Ticket, UnreadResponse,
};
use tokio::sync::watch;

use super::lines::{InputLine, InputLines, MAX_LINE};
use super::request::{Id, RequestLine};
use super::response::{ResponseLine, invalid_request};
use crate::commands::lifecycle::{EndReason, time_is_up};
use crate::signals::Ending;
use crate::streams::output::Output;

/// No further request is read while the lines of the open ones have this many bytes
/// together.
const MAX_OPEN_BYTES: usize = MAX_LINE;

/// The requests that were read and are not answered yet.
///
/// Memory is bounded in number and in bytes: no line is read beyond the size of the
/// queue, responses are read from the disk one at a time, and none before the output
/// has room for it, so that a slow reader slows down the pool.
pub struct OpenRequests {
    supervisor: Supervisor,
    /// `None`: hooks run in the environment of the interpreter.
    environments: Option<Arc<Environments>>,
    /// `None`: no answers are kept.
    answers: Option<Arc<Answers>>,
    queue_size: usize,
    input: InputLines,
    /// How reading the input ended.
    input_end: Option<io::Result<()>>,
    ending: watch::Receiver<Ending>,
    submitted: FuturesUnordered<SubmittedRequest>,
    /// The bytes in the lines of the submitted requests.
    open_bytes: usize,
    /// The response that is being read from the disk.
    reading: Option<BoxFuture<'static, (Id, Response, AnswerUse)>>,
    /// The line that waits for room in the output.
    response: Option<Vec<u8>>,
    any_failed: bool,
    /// Whether a kept answer that was wrong counts as a failure.
    is_strict: bool,
}

impl OpenRequests {
    pub fn new(
        supervisor: Supervisor,
        environments: Option<Arc<Environments>>,
        answers: Option<Arc<Answers>>,
        queue_size: usize,
        input: InputLines,
        ending: watch::Receiver<Ending>,
        is_strict: bool,
    ) -> Self {
        Self {
            supervisor,
            environments,
            answers,
            queue_size,
            input,
            input_end: None,
            ending,
            submitted: FuturesUnordered::new(),
            open_bytes: 0,
            reading: None,
            response: None,
            any_failed: false,
            is_strict,
        }
    }

    /// Serves requests until all are answered or the output fails.
    pub async fn serve(mut self, output: &mut Output) -> EndReason {
        let (writer, reports) = output.halves();
        let mut output_failed = pin!(reports.failure());
        let mut time_is_up = pin!(time_is_up(self.supervisor.clone(), self.ending.clone()));
        let mut room = None;
        while !self.is_over() {
            let is_ending = self.is_ending();
            let is_idle = self.response.is_none() && self.reading.is_none();
            let may_read = is_idle && !is_ending && self.input_end.is_none() && self.has_place();
            tokio::select! {
                error = &mut output_failed => return EndReason::OutputFailed(error),
                () = &mut time_is_up => return EndReason::TimeIsUp,
                free = writer.room(), if room.is_none() => room = Some(free),
                line = self.input.next(), if may_read => self.take_line(line).await,
                Some((answered, response)) = self.submitted.next(), if is_idle && room.is_some() => {
                    self.open_bytes -= answered.length;
                    let read = async move {
                        let mut response = response.read().await;
                        let answer = settle(answered.lookup, &mut response).await;
                        (answered.id, response, answer)
                    };
                    self.reading = Some(read.boxed());
                }
                Some((id, response, answer)) = read(&mut self.reading) => {
                    let is_wrong = matches!(answer, AnswerUse::New(Keeping::Mismatch(_)));
                    self.any_failed |= response.outcome.is_err() || (self.is_strict && is_wrong);
                    self.response = Some(ResponseLine::answered(&id, response, &answer).to_bytes());
                }
                // The sender lives as long as the program.
                Ok(()) = self.ending.changed(), if !is_ending => {}
            }
            if let Some(line) = self.response.take_if(|_| room.is_some())
                && let Some(room) = room.take()
            {
                room.send(line);
            }
        }
        match self.input_end {
            Some(Err(error)) => EndReason::InputFailed(error),
            Some(Ok(())) | None => EndReason::AllAnswered { any_failed: self.any_failed },
        }
    }

    fn is_over(&self) -> bool {
        let reads_no_more = self.input_end.is_some() || self.is_ending();
        reads_no_more && self.submitted.is_empty() && self.reading.is_none() && self.response.is_none()
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    fn has_place(&self) -> bool {
        self.submitted.len() < self.queue_size && self.open_bytes < MAX_OPEN_BYTES
    }

    async fn take_line(&mut self, line: io::Result<Option<InputLine>>) {
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.input_end = Some(Ok(()));
                return;
            }
            Err(error) => {
                self.input_end = Some(Err(error));
                return;
            }
        };
        let length = line.bytes.as_ref().map_or(0, Vec::len);
        let request = match line.bytes {
            Some(bytes) => RequestLine::parse(&bytes).map_err(invalid_request),
            None => Err(invalid_request(format!("the line is longer than {MAX_LINE} bytes"))),
        };
        match request {
            Ok(None) => {}
            Ok(Some(RequestLine::Cancel(id))) => self.cancel(&id),
            Ok(Some(RequestLine::Hook { id, request, requires })) => self.submit(id, *request, requires, length).await,
            Ok(Some(RequestLine::UnknownHook { id, tree, error })) => {
                let hook = error.value.clone();
                let error = HookError::new(ErrorKind::InvalidHookName, error.to_string());
                self.fail(&ResponseLine::refused(&id, &tree, &hook, error));
            }
            Err(error) => self.fail(&ResponseLine::invalid(line.number, error)),
        }
    }

    /// Does not wait: a line is only read while the queue has a place.
    async fn submit(&mut self, id: Id, mut request: HookRequest, requires: Option<Vec<String>>, length: usize) {
        request.environment =
            self.environments.as_ref().map(|environments| environments.for_requests(requires, Vec::new()));
        let (tree, hook) = (request.tree.to_string_lossy().into_owned(), request.hook);
        let lookup = self.answers.as_ref().and_then(|answers| answers.lookup(&request));
        request.kept_answers = lookup.clone().map(|lookup| lookup as Arc<dyn KeptAnswers>);
        match self.supervisor.submit(request).await {
            Ok(ticket) => {
                self.open_bytes += length;
                let answered = Answered { id, length, lookup };
                self.submitted.push(SubmittedRequest { answered: Some(answered), ticket });
            }
            Err(error) => {
                let error = HookError::new(error.kind(), error.to_string());
                self.fail(&ResponseLine::refused(&id, &tree, hook.name(), error));
            }
        }
    }

    /// Cancelled requests are still answered.
    fn cancel(&mut self, id: &Id) {
        let same = self.submitted.iter_mut().filter(|request| request.has_id(id));
        same.for_each(|request| request.ticket.cancel());
    }

    fn fail(&mut self, response: &ResponseLine<'_>) {
        self.any_failed = true;
        self.response = Some(response.to_bytes());
    }
}

/// Waits for the response that is being read. Cancel-safe.
async fn read(
    reading: &mut Option<BoxFuture<'static, (Id, Response, AnswerUse)>>,
) -> Option<(Id, Response, AnswerUse)> {
    let read = reading.as_mut()?.await;
    *reading = None;
    Some(read)
}

/// Keeps the answer of a hook that ran. If it was kept before, completes the response
/// with what the hook printed then.
async fn settle(lookup: Option<Arc<Lookup>>, response: &mut Response) -> AnswerUse {
    let Some(lookup) = lookup else { return AnswerUse::None };
    if response.kept {
        return lookup.use_kept(response);
    }
    let response = response.clone();
    let keep = move || {
        let keeping = lookup.keep(&response);
        lookup.share();
        keeping
    };
    AnswerUse::New(unblock(keep).await)
}

/// What is needed of a request when it is answered.
struct Answered {
    id: Id,
    /// Of its line, in bytes.
    length: usize,
    lookup: Option<Arc<Lookup>>,
}

/// A request that the supervisor has admitted: a future of its response, whose output
/// stays on the disk until it is read.
struct SubmittedRequest {
    /// Taken when the future completes.
    answered: Option<Answered>,
    ticket: Ticket,
}

impl SubmittedRequest {
    fn has_id(&self, id: &Id) -> bool {
        self.answered.as_ref().is_some_and(|answered| answered.id == *id)
    }
}

impl Future for SubmittedRequest {
    type Output = (Answered, UnreadResponse);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.ticket.poll_unread(context).map(|response| {
            let answered = self.answered.take().expect("the future is not polled after its completion");
            (answered, response)
        })
    }
}
