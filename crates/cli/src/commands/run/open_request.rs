//! A request that was read and is not answered yet.

use std::pin::Pin;
use std::task::{Context, Poll};

use hookpool_supervisor::{HookError, SubmitError, Ticket, UnreadResponse};

use super::id::Id;

/// A request that the supervisor has: a future of its response and the id for
/// it. What its hook wrote stays on the disk until the response is read.
pub struct OpenRequest {
    /// Taken with the answer.
    id: Option<Id>,
    ticket: Ticket,
    /// The length of its line.
    length: usize,
}

/// A request that is answered.
pub struct AnsweredRequest {
    pub id: Id,
    pub response: UnreadResponse,
    /// The length of its line.
    pub length: usize,
}

impl OpenRequest {
    pub fn new(id: Id, ticket: Ticket, length: usize) -> Self {
        Self { id: Some(id), ticket, length }
    }

    /// Whether `{"cancel": id}` means this one.
    pub fn has_id(&self, id: &Id) -> bool {
        self.id.as_ref() == Some(id)
    }

    /// Cancels it; it is answered all the same.
    pub fn cancel(&mut self) {
        self.ticket.cancel();
    }
}

impl Future for OpenRequest {
    type Output = AnsweredRequest;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = self.ticket.poll_unread(context);
        response.map(|response| {
            let id = self.id.take().expect("a future is not polled after its end");
            AnsweredRequest { id, response, length: self.length }
        })
    }
}

/// Why the supervisor does not take a request.
pub fn refusal(error: SubmitError) -> HookError {
    HookError::new(error.kind(), error.to_string())
}
