//! Reads requests, submits them to the pool and writes the responses.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hookpool_wire::{Caller, Error, HookRequest, HookResponse, Id, RequestLine, to_line};
use tokio::sync::watch;
use tokio::task::unconstrained;

use super::lines::{InputLine, InputLines};
use super::response::invalid;
use crate::hooks::{Hooks, NotAdmitted, ReadAnswer, SubmittedRequest, UnreadAnswer};
use crate::lifecycle::{EndReason, time_is_up};
use crate::signals::Ending;
use crate::streams::output::{Output, Room};

/// The requests that were read and are not answered yet.
///
/// Memory is bounded in number and in bytes: no line is read beyond the size of the
/// queue, responses are read from the disk one at a time, and none before the output
/// has room for it, so that a slow reader slows down the pool.
pub struct OpenRequests {
    hooks: Hooks,
    /// What the hooks of the following requests inherit.
    caller: Option<Caller>,
    queue_size: usize,
    input: InputLines,
    /// Why no further requests are admitted. They are read, so that open ones can be
    /// cancelled.
    refusal: Option<Error>,
    /// How reading the input ended.
    input_end: Option<io::Result<()>>,
    ending: watch::Receiver<Ending>,
    submitted: FuturesUnordered<OpenRequest>,
    /// The bytes in the lines of the submitted requests. No further request is read
    /// while there are as many as one line may have.
    open_bytes: usize,
    /// The response that is being read from the disk.
    reading: Option<BoxFuture<'static, ReadAnswer>>,
    /// The line that waits for room in the output.
    response: Option<Vec<u8>>,
    any_failed: bool,
    /// Whether a kept answer that was wrong counts as a failure.
    is_strict: bool,
}

impl OpenRequests {
    pub fn new(
        hooks: Hooks,
        queue_size: usize,
        input: InputLines,
        ending: watch::Receiver<Ending>,
        is_strict: bool,
    ) -> Self {
        Self {
            hooks,
            caller: None,
            queue_size,
            input,
            refusal: None,
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

    /// Serves requests until all are answered or the output fails. From when `closed` says
    /// why, further ones are refused, and when none is open, the last response says that
    /// the rest is not read.
    pub async fn serve(mut self, output: &mut Output, closed: impl Future<Output = Error>) -> EndReason {
        let (writer, reports) = output.halves();
        let mut output_failed = pin!(reports.failure());
        let mut time_is_up = pin!(time_is_up(self.hooks.supervisor.clone(), self.ending.clone()));
        let mut closed = pin!(closed);
        let mut room: Option<Room<'_>> = None;
        while !self.is_over() {
            self.end_if_refusing();
            if let Some(line) = self.response.take_if(|_| room.is_some())
                && let Some(room) = room.take()
            {
                room.send(line);
                continue;
            }
            let is_ending = self.is_ending();
            let is_idle = self.response.is_none() && self.reading.is_none();
            let may_read = is_idle && !is_ending && self.input_end.is_none() && self.has_place();
            tokio::select! {
                error = &mut output_failed => return EndReason::OutputFailed(error),
                () = &mut time_is_up => return EndReason::TimeIsUp,
                free = writer.room(), if room.is_none() => room = Some(free),
                refusal = &mut closed, if self.refusal.is_none() => self.refusal = Some(refusal),
                line = self.input.next(), if may_read => self.take_line(line).await,
                // Without tokio's budget: once that is used up, an answer that is there is passed
                // over, and comes after those of hooks that ended later.
                Some((length, answer)) = unconstrained(self.submitted.next()), if is_idle && room.is_some() => {
                    self.open_bytes -= length;
                    self.reading = Some(answer.read().boxed());
                }
                Some(answer) = read(&mut self.reading) => {
                    self.any_failed |= answer.has_failed || (self.is_strict && answer.was_wrong);
                    self.response = Some(to_line(&answer.response));
                }
                // The sender lives as long as the program.
                Ok(()) = self.ending.changed(), if !is_ending => {}
            }
        }
        match self.input_end {
            Some(Err(error)) => EndReason::InputFailed(error),
            Some(Ok(())) | None => EndReason::AllAnswered { any_failed: self.any_failed },
        }
    }

    fn is_over(&self) -> bool {
        (self.input_end.is_some() || self.is_ending()) && self.has_nothing_open()
    }

    fn has_nothing_open(&self) -> bool {
        self.submitted.is_empty() && self.reading.is_none() && self.response.is_none()
    }

    fn end_if_refusing(&mut self) {
        if let Some(refusal) = self.refusal.as_ref().filter(|_| self.input_end.is_none() && self.has_nothing_open()) {
            self.response = Some(to_line(&HookResponse::failed(refusal.clone())));
            self.input_end = Some(Ok(()));
        }
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    fn has_place(&self) -> bool {
        self.submitted.len() < self.queue_size && self.open_bytes < self.input.longest()
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
            Some(bytes) => RequestLine::parse(&bytes).map_err(|error| invalid(line.number, error)),
            None => Err(invalid(line.number, format!("the line is longer than {} bytes", self.input.longest()))),
        };
        match request {
            Ok(None) => {}
            Ok(Some(RequestLine::Cancel(id))) => self.cancel(&id),
            Ok(Some(RequestLine::Caller(caller))) => self.caller = Some(*caller),
            Ok(Some(RequestLine::Hook(request))) => match &self.refusal {
                Some(refusal) => {
                    let HookRequest { id, tree, hook, .. } = *request;
                    let refused = HookResponse::failed(refusal.clone());
                    self.fail(&HookResponse { id: Some(id), tree: Some(tree), hook: Some(hook), ..refused });
                }
                None => self.submit(*request, line.number, length).await,
            },
            Err(response) => self.fail(&response),
        }
    }

    /// Does not wait: a line is only read while the queue has a place.
    async fn submit(&mut self, mut request: HookRequest, line: u64, length: usize) {
        request.caller = request.caller.or_else(|| self.caller.clone());
        match self.hooks.submit(request).await {
            Ok(submitted) => {
                self.open_bytes += length;
                self.submitted.push(OpenRequest { submitted, length });
            }
            Err(NotAdmitted::Refused(response)) => self.fail(&response),
            Err(NotAdmitted::Invalid(error)) => self.fail(&invalid(line, error)),
        }
    }

    /// Cancelled requests are still answered.
    fn cancel(&mut self, id: &Id) {
        let same = self.submitted.iter_mut().filter(|request| request.submitted.has_id(id));
        same.for_each(|request| request.submitted.cancel());
    }

    fn fail(&mut self, response: &HookResponse) {
        self.any_failed = true;
        self.response = Some(to_line(response));
    }
}

/// Waits for the response that is being read. Cancel-safe.
async fn read(reading: &mut Option<BoxFuture<'static, ReadAnswer>>) -> Option<ReadAnswer> {
    let read = reading.as_mut()?.await;
    *reading = None;
    Some(read)
}

/// A request that was admitted, with the length of its line in bytes.
struct OpenRequest {
    submitted: SubmittedRequest,
    length: usize,
}

impl Future for OpenRequest {
    type Output = (usize, UnreadAnswer);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.submitted).poll(context));
        Poll::Ready((self.length, answer))
    }
}
