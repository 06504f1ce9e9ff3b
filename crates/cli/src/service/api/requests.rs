//! The unanswered requests: what they do, their output, and their end by an operator.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hookpool_supervisor::files::{Links, open_regular_file, unblock};
use hookpool_supervisor::{Listed, RequestId, Snapshot};
use hookpool_wire::{CancelledRequest, Problem, RequestStatus};
use tokio::sync::mpsc;

use super::status::{listed, request_fields, snapshot};
use crate::service::monitor::OutputFiles;
use crate::service::problem::Refusal;
use crate::service::{Service, Shared};

/// Lists the unanswered requests
///
/// The oldest come first, at most 1,000 of them.
#[utoipa::path(
    get,
    path = "/v1/requests",
    responses(
        (status = 200, description = "The unanswered requests.", body = hookpool_wire::Listed<RequestStatus>),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn requests(State(service): State<Shared>) -> Result<Json<hookpool_wire::Listed<RequestStatus>>, Refusal> {
    let snapshot = snapshot(&service).await?;
    Ok(Json(listed(snapshot.requests, request_fields)))
}

/// Says what an unanswered request does
#[utoipa::path(
    get,
    path = "/v1/requests/{id}",
    params(("id" = u64, Path, description = "The number of the request in the list.")),
    responses(
        (status = 200, description = "The request.", body = RequestStatus),
        (status = 400, description = "That is not a number.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such request is unanswered.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn request(
    State(service): State<Shared>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<RequestStatus>, Refusal> {
    let id = number(&id)?;
    let Listed { count, first } = snapshot(&service).await?.requests;
    let standing = standing(id, count, first.iter().map(|request| request.id));
    match (standing, first.into_iter().find(|request| request.id == id)) {
        (_, Some(request)) => Ok(Json(request_fields(request))),
        (Standing::NotListed, None) => {
            let detail = format!("request {id} is not among the {} oldest of {count}", Snapshot::LISTED);
            Err(Refusal::not_found(detail))
        }
        (_, None) => Err(answered(id)),
    }
}

/// Cancels a request
///
/// Its caller gets an answer that says so. A hook that runs is ended.
#[utoipa::path(
    delete,
    path = "/v1/requests/{id}",
    params(("id" = u64, Path, description = "The number of the request in the list.")),
    responses(
        (status = 200, description = "It is cancelled.", body = CancelledRequest),
        (status = 400, description = "That is not a number.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such request is unanswered.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    State(service): State<Shared>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<CancelledRequest>, Refusal> {
    let id = number(&id)?;
    match service.hooks.supervisor.cancel(id).await {
        true => Ok(Json(CancelledRequest { id: id.number() })),
        false => Err(answered(id)),
    }
}

/// Sends what the hook of a request has written so far
///
/// Standard output and standard error come as they were written. With `follow=1` more of
/// it follows, until the request is answered.
#[utoipa::path(
    get,
    path = "/v1/requests/{id}/log",
    params(
        ("id" = u64, Path, description = "The number of the request in the list."),
        ("follow" = Option<u8>, Query, description = "1: until the request is answered.", minimum = 0, maximum = 1),
    ),
    responses(
        (status = 200, description = "The output.", body = String, content_type = "text/plain"),
        (status = 400, description = "The request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such request is unanswered.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn log(
    State(service): State<Shared>,
    UrlPath(id): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let id = number(&id)?;
    let follow = match query.as_deref() {
        None | Some("" | "follow=0") => false,
        Some("follow=1") => true,
        Some(other) => return Err(Refusal::invalid(format!("expected follow=1, follow=0 or no query, got {other:?}"))),
    };
    if !service.is_unanswered(id).await {
        return Err(answered(id));
    }
    // A capacity of one: what a slow client has not read stays in the files.
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(send_output(id, service, follow, sender));
    let pieces = stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), pieces))
    });
    let header = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
    Ok((header, Body::from_stream(pieces)).into_response())
}

/// What the list of unanswered requests says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unanswered,
    /// It may be unanswered: there are more requests than are listed.
    NotListed,
    Answered,
}

fn standing(id: RequestId, count: usize, listed: impl ExactSizeIterator<Item = RequestId> + Clone) -> Standing {
    if listed.clone().any(|request| request == id) {
        Standing::Unanswered
    } else if count > listed.len() && listed.last().is_none_or(|last| id > last) {
        Standing::NotListed
    } else {
        Standing::Answered
    }
}

impl Service {
    async fn is_unanswered(&self, id: RequestId) -> bool {
        let Ok(snapshot) = snapshot(self).await else { return false };
        let Listed { count, first } = snapshot.requests;
        standing(id, count, first.iter().map(|request| request.id)) != Standing::Answered
    }
}

fn number(text: &str) -> Result<RequestId, Refusal> {
    let number: Result<u64, _> = text.parse();
    number.map(Into::into).map_err(|_| Refusal::invalid(format!("id: expected the number of a request, got {text:?}")))
}

fn answered(id: RequestId) -> Refusal {
    Refusal::not_found(format!("no request {id} is unanswered"))
}

/// How often the files are read while somebody follows them.
const TICK: Duration = Duration::from_millis(100);

/// The most that is read of a file at once, in bytes.
const PIECE: u64 = 64 * 1024;

/// Sends the output until the request is answered or, without `follow`, until the end of
/// the files. Ends when nobody receives any more.
async fn send_output(id: RequestId, service: Shared, follow: bool, pieces: mpsc::Sender<Bytes>) {
    let mut running = service.monitor.running();
    let mut output = None;
    loop {
        // Before the files are read, so that nothing of an answered request is missing.
        let files = running.borrow_and_update().get(&id).cloned();
        let is_answered = match (&files, &output) {
            (Some(_), _) => false,
            (None, Some(_)) => true,
            (None, None) => !service.is_unanswered(id).await,
        };
        if let Some(files) = files.filter(|_| output.is_none()) {
            output = Some(unblock(move || Output::open(&files)).await);
        }
        while let Some(opened) = output.take() {
            let (opened, piece) = unblock(move || opened.read(is_answered)).await;
            output = Some(opened);
            if piece.is_empty() {
                break;
            }
            if pieces.send(piece.into()).await.is_err() {
                return;
            }
        }
        if is_answered || !follow {
            return;
        }
        let runs = output.is_some();
        let changed = running.wait_for(|running| running.contains_key(&id) != runs);
        tokio::select! {
            // Whether it has changed or time is up: both are looked at above.
            _ = tokio::time::timeout(TICK, changed) => {}
            () = pieces.closed() => return,
        }
    }
}

/// The two files of a running hook.
#[derive(Debug)]
struct Output([Stream; 2]);

#[derive(Debug)]
struct Stream {
    path: PathBuf,
    /// `None`: the hook has replaced the file, or its response was taken.
    file: Option<File>,
    position: u64,
    /// Where the output ends, once the request is answered: processes that the hook has
    /// left behind may go on writing.
    end: Option<u64>,
}

impl Output {
    fn open(files: &OutputFiles) -> Self {
        Self([Stream::open(&files.stdout), Stream::open(&files.stderr)])
    }

    /// The next bytes; none if there are no more yet.
    fn read(mut self, is_answered: bool) -> (Self, Vec<u8>) {
        let mut bytes = Vec::new();
        for stream in &mut self.0 {
            // What cannot be read is missing here, and not in the response.
            let _ = stream.read(is_answered, &mut bytes);
        }
        (self, bytes)
    }
}

impl Stream {
    fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), file: open_regular_file(path, Links::Refuse).ok(), position: 0, end: None }
    }

    fn read(&mut self, is_answered: bool, bytes: &mut Vec<u8>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if is_answered && self.end.is_none() {
            // A file that stayed in its place was left empty, for the next hook.
            let is_left = is_same(file, &self.path)?;
            self.end = Some(if is_left { self.position } else { file.metadata()?.len() });
        }
        let left = self.end.map_or(PIECE, |end| end.saturating_sub(self.position));
        file.seek(SeekFrom::Start(self.position))?;
        let read = file.take(left.min(PIECE)).read_to_end(bytes)?;
        self.position += read as u64;
        Ok(())
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    Ok(path.symlink_metadata().is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_after_the_last_listed_one_may_be_unanswered() {
        let cases = [
            (2, 2, Standing::Unanswered),
            (3, 2, Standing::Answered),
            (5, 2, Standing::Answered),
            (1, 9, Standing::Answered),
            (5, 9, Standing::NotListed),
        ];
        for (id, count, expected) in cases {
            let listed = [2, 4].map(RequestId::from);
            assert_eq!(standing(id.into(), count, listed.into_iter()), expected, "{id} of {count}");
        }
    }
}
