//! The loop between input, pool and output.

use std::io;
use std::pin::pin;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hookpool_frontend::Environments;
use hookpool_supervisor::{ErrorKind, HookError, HookRequest, Response, Supervisor};
use tokio::sync::watch;

use super::id::Id;
use super::input::{InputLine, InputLines, LONGEST_LINE, LineContent};
use super::open_request::{AnsweredRequest, OpenRequest, refusal};
use super::request_line::RequestLine;
use super::response_line::{ResponseLine, invalid_request};
use crate::commands::finish::{SessionEnd, time_is_up};
use crate::signals::Ending;
use crate::streams::output::{Output, Room, Writer};

/// How long the lines of unanswered requests may be together, in bytes, for
/// another to be read.
const MOST_OPEN_BYTES: usize = LONGEST_LINE;

/// What has been asked for and not answered yet.
///
/// Memory is bounded by the queue, in number and in bytes: beyond it nothing is
/// read, and a ticket is only looked at once there is room for its answer in the output, so that a
/// slow reader makes the pool wait. What hooks wrote is read one at a time.
pub struct Session {
    supervisor: Supervisor,
    /// `None`: hooks run in the interpreter of their request as it is.
    environments: Option<Environments>,
    queue_size: usize,
    input: InputLines,
    input_end: Option<io::Result<()>>,
    ending: watch::Receiver<Ending>,
    tickets: FuturesUnordered<OpenRequest>,
    /// How long the lines of these are together.
    open_bytes: usize,
    /// The response that is being read from the disk. There is one at most, as
    /// of the answers.
    reading: Option<BoxFuture<'static, (Id, Response)>>,
    /// An answer that waits for room in the output. There is one at most:
    /// nothing is read and no ticket looked at before it is on its way.
    answer: Option<Vec<u8>>,
    any_failed: bool,
}

enum Happening<'output> {
    Room(Room<'output>),
    Answered(AnsweredRequest),
    Read(Id, Response),
    Line(io::Result<Option<InputLine>>),
    End,
}

impl Session {
    pub fn new(
        supervisor: Supervisor,
        environments: Option<Environments>,
        queue_size: usize,
        input: InputLines,
        ending: watch::Receiver<Ending>,
    ) -> Self {
        Self {
            supervisor,
            environments,
            queue_size,
            input,
            input_end: None,
            ending,
            tickets: FuturesUnordered::new(),
            open_bytes: 0,
            reading: None,
            answer: None,
            any_failed: false,
        }
    }

    /// Whether some answer so far was a failure.
    pub fn any_failed(&self) -> bool {
        self.any_failed
    }

    /// Runs until everything is answered, or nothing can be.
    pub async fn serve(&mut self, output: &mut Output) -> SessionEnd {
        let (writer, reports) = output.halves();
        let mut failed = pin!(reports.failure());
        let mut time_is_up = pin!(time_is_up(self.supervisor.clone(), self.ending.clone()));
        let mut room = None;
        while !self.is_over() {
            let happening = tokio::select! {
                biased;
                error = &mut failed => return SessionEnd::OutputFailed(error),
                () = &mut time_is_up => return SessionEnd::TimeIsUp,
                happening = self.next(writer, room.is_some()) => happening,
            };
            match happening {
                Happening::Room(free) => room = Some(free),
                Happening::Answered(AnsweredRequest { id, response, length }) => {
                    self.open_bytes -= length;
                    self.reading = Some(async move { (id, response.read().await) }.boxed());
                }
                Happening::Read(id, response) => {
                    self.any_failed |= response.outcome.is_err();
                    self.answer = Some(ResponseLine::answered(&id, response).to_bytes());
                }
                Happening::Line(line) => self.take_line(line).await,
                Happening::End => {}
            }
            if let Some(answer) = self.answer.take() {
                match room.take() {
                    Some(room) => room.send(answer),
                    None => self.answer = Some(answer),
                }
            }
        }
        match self.input_end.take() {
            Some(Err(error)) => SessionEnd::InputFailed(error),
            Some(Ok(())) | None => SessionEnd::Answered,
        }
    }

    fn is_over(&self) -> bool {
        let reads_no_more = self.input_end.is_some() || self.is_ending();
        reads_no_more && self.tickets.is_empty() && self.reading.is_none() && self.answer.is_none()
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::NotYet
    }

    /// Waits for whatever comes first; cancel-safe, as all futures here are.
    async fn next<'output>(&mut self, writer: &'output Writer, has_room: bool) -> Happening<'output> {
        let is_ending = self.is_ending();
        let has_place = self.tickets.len() < self.queue_size && self.open_bytes < MOST_OPEN_BYTES;
        let is_free = self.answer.is_none() && self.reading.is_none();
        let reads = is_free && has_place && self.input_end.is_none() && !is_ending;
        tokio::select! {
            room = writer.room(), if !has_room => Happening::Room(room),
            Some((id, response)) = read(&mut self.reading) => Happening::Read(id, response),
            Some(answered) = self.tickets.next(), if has_room && is_free => Happening::Answered(answered),
            line = self.input.next(), if reads => Happening::Line(line),
            // The sender lives as long as the program.
            Ok(()) = self.ending.changed(), if !is_ending => Happening::End,
            else => std::future::pending().await,
        }
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
        let mut length = 0;
        let request = match line.content {
            LineContent::Bytes(bytes) => {
                length = bytes.len();
                RequestLine::parse(&bytes).map_err(invalid_request)
            }
            LineContent::TooLong => Err(invalid_request(format!("the line is longer than {LONGEST_LINE} bytes"))),
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

    /// Does not wait: the line was only read because there was a place.
    async fn submit(&mut self, id: Id, mut request: HookRequest, requires: Option<Vec<String>>, length: usize) {
        request.environment =
            self.environments.as_ref().map(|environments| environments.for_requests(requires, Vec::new()));
        let (tree, hook) = (request.tree.to_string_lossy().into_owned(), request.hook);
        match self.supervisor.submit(request).await {
            Ok(ticket) => {
                self.open_bytes += length;
                self.tickets.push(OpenRequest::new(id, ticket, length));
            }
            Err(error) => self.fail(&ResponseLine::refused(&id, &tree, hook.name(), refusal(error))),
        }
    }

    fn cancel(&mut self, id: &Id) {
        self.tickets.iter_mut().filter(|request| request.has_id(id)).for_each(OpenRequest::cancel);
    }

    fn fail(&mut self, response: &ResponseLine<'_>) {
        self.any_failed = true;
        self.answer = Some(response.to_bytes());
    }
}

/// Waits for a response that is being read. Cancel-safe: it stays where it is.
async fn read(reading: &mut Option<BoxFuture<'static, (Id, Response)>>) -> Option<(Id, Response)> {
    let read = reading.as_mut()?.await;
    *reading = None;
    Some(read)
}
