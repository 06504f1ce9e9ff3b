//! The caller's end of a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::dispatch::message::Delivery;
use crate::error::{ErrorKind, HookError};
use crate::request::RequestId;
use crate::response::{CapturedOutput, Response, Timing};
use crate::worker::output::WholeOutput;

/// A request that was admitted: a future of its [`Response`].
///
/// It always resolves, whatever happens to workers, and once only. Dropping it
/// cancels the request: one that waits is forgotten, one that runs is killed.
///
/// A request counts as unanswered, for
/// [`Limits::queue_size`](crate::Limits::queue_size), until its ticket is gone.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) id: RequestId,
    /// Who is asked, and what for: the answer of last resort needs them.
    pub(crate) tree: std::path::PathBuf,
    pub(crate) hook: hookd_protocol::Hook,
    pub(crate) reply: oneshot::Receiver<Delivery>,
    /// Unbounded, yet never more than there are tickets: each sends once.
    pub(crate) cancellations: async_channel::Sender<RequestId>,
    pub(crate) settled: bool,
    pub(crate) _place: OwnedSemaphorePermit,
}

impl Ticket {
    /// The number of the request, in events too.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Cancels the request and keeps the ticket, which resolves with
    /// [`ErrorKind::Cancelled`], or with the result if that was faster.
    pub fn cancel(&mut self) {
        if !self.settled {
            self.settled = true;
            // A dispatcher that is gone has answered everything.
            let _ = self.cancellations.try_send(self.id);
        }
    }

    /// The response, and everything that the hook wrote, still on the disk. The
    /// request is no longer cancelled by dropping the future once it resolved.
    pub async fn with_output(mut self) -> (Response, WholeOutput) {
        let delivery = (&mut self.reply).await;
        self.settled = true;
        match delivery {
            Ok(Delivery { mut response, files }) => {
                (response.stdout, response.stderr) = files.read();
                (response, WholeOutput { files })
            }
            Err(_) => (self.last_resort(), WholeOutput::default()),
        }
    }

    fn last_resort(&self) -> Response {
        Response {
            id: self.id,
            tree: self.tree.clone(),
            hook: self.hook,
            outcome: Err(HookError::new(ErrorKind::Interrupted, "the supervisor has ended")),
            worker: None,
            timing: Timing::default(),
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        }
    }
}

impl Future for Ticket {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let delivery = ready!(Pin::new(&mut self.reply).poll(context));
        self.settled = true;
        Poll::Ready(match delivery {
            Ok(Delivery { mut response, files }) => {
                (response.stdout, response.stderr) = files.read();
                response
            }
            Err(_) => self.last_resort(),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}
