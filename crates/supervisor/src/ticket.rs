//! Tickets: how callers wait for responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};

use crate::blocking::unblock;
use crate::error::{ErrorKind, HookError};
use crate::ids::RequestId;
use crate::response::Response;
use crate::semaphore::Permit;
use crate::worker::capture_files::CaptureFiles;

/// An admitted request, to be awaited for its [`Response`].
///
/// It resolves whatever happens to workers. Dropping it cancels the request: a
/// hook that runs is ended.
///
/// A request counts as unanswered, for
/// [`Limits::queue_size`](crate::Limits::queue_size), until its ticket is gone.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) id: RequestId,
    /// With `hook`, for the answer where the dispatcher gives none.
    pub(crate) tree: std::path::PathBuf,
    pub(crate) hook: hookd_protocol::Hook,
    pub(crate) reply: oneshot::Receiver<UnreadResponse>,
    /// Unbounded, but each ticket sends once, and the tickets are bounded.
    pub(crate) cancellations: mpsc::UnboundedSender<RequestId>,
    pub(crate) settled: bool,
    pub(crate) _place: Permit,
}

/// A response whose captured output is still on the disk, for callers that wait
/// for many and do not want to have all output in memory.
#[derive(Debug)]
pub struct UnreadResponse {
    pub(crate) response: Response,
    pub(crate) files: CaptureFiles,
}

impl UnreadResponse {
    /// Reads the end of the output, on a thread.
    pub async fn read(self) -> Response {
        let Self { mut response, files } = self;
        if files.is_empty() {
            return response;
        }
        let read = unblock(move || {
            let read = files.read();
            files.delete();
            read
        });
        (response.stdout, response.stderr) = read.await;
        response
    }

    /// The same, together with the files of the output.
    pub async fn with_output(self) -> (Response, CaptureFiles) {
        let Self { mut response, files } = self;
        if files.is_empty() {
            return (response, files);
        }
        let ((stdout, stderr), files) = unblock(move || (files.read(), files)).await;
        (response.stdout, response.stderr) = (stdout, stderr);
        (response, files)
    }
}

impl Ticket {
    /// The number of the request, which events have too.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Cancels the request. The ticket resolves with [`ErrorKind::Cancelled`], or
    /// with the result if that came first.
    pub fn cancel(&mut self) {
        if !self.settled {
            self.settled = true;
            // A dispatcher that has ended has answered all requests.
            let _ = self.cancellations.send(self.id);
        }
    }

    /// The response, and the files of the hook's output.
    pub async fn with_output(mut self) -> (Response, CaptureFiles) {
        std::future::poll_fn(|context| self.poll_unread(context)).await.with_output().await
    }

    /// Polls for the response, and leaves the hook's output on the disk.
    pub fn poll_unread(&mut self, context: &mut Context<'_>) -> Poll<UnreadResponse> {
        let response = ready!(Pin::new(&mut self.reply).poll(context));
        self.settled = true;
        Poll::Ready(response.unwrap_or_else(|_| {
            let error = HookError::new(ErrorKind::Interrupted, "the supervisor has ended");
            let response = Response::failed(self.id, std::mem::take(&mut self.tree), self.hook, error);
            UnreadResponse { response, files: CaptureFiles::default() }
        }))
    }
}

impl IntoFuture for Ticket {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move { std::future::poll_fn(|context| self.poll_unread(context)).await.read().await })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}
