//! Connections: who may have one, how many there are, and how long they last.
//!
//! Clients are bounded in headers, bodies, time and number. At the limit of
//! connections a new client takes the place of the one that has been idle for
//! longest, so that whoever opens thousands of them keeps nobody out. A connection
//! whose request has not arrived completely is idle too.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::response::Response;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::body::MAX_BODY;
use super::identity::{HttpRequestId, REQUEST_ID, request_id};

/// The most connections.
const MAX_CONNECTIONS: usize = 1000;

/// How long a client may take to send a header that it has begun.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may read nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest header, in bytes.
const MAX_HEADER: usize = 64 * 1024;

/// How long open connections may take to end at the end of the service, and a client to
/// send the rest of a request that was refused.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// The wait after the system has refused a connection, for example for lack of
/// descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves the connections of a listener.
#[derive(Debug)]
pub struct Connections {
    router: Router,
    open: HashMap<u64, Arc<Connection>>,
    tasks: JoinSet<u64>,
    next: u64,
}

/// Where clients come from.
#[derive(Debug)]
pub struct Listeners {
    pub unix: UnixListener,
    /// Whether the Unix socket stays when the service ends: then those who wait in it
    /// are for the next service.
    pub stays: bool,
    /// With the routes for its clients.
    pub tcp: Option<(TcpListener, Router)>,
}

/// The bytes of a client.
trait Stream: AsyncRead + AsyncWrite + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + 'static> Stream for T {}

/// What is known of a connection.
#[derive(Debug)]
struct Connection {
    /// The requests that are being answered.
    requests: AtomicUsize,
    last_use: std::sync::Mutex<Instant>,
    /// The service ends.
    close: Notify,
    /// Another client needs the place.
    give_way: Notify,
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    fn last_use(&self) -> Instant {
        *self.last_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request. It is open from when it has arrived completely, or its response begins,
/// until the body of its response has been sent or dropped.
struct OpenRequest {
    connection: Arc<Connection>,
    is_open: AtomicBool,
}

impl OpenRequest {
    fn of(connection: Arc<Connection>) -> Arc<Self> {
        Arc::new(Self { connection, is_open: AtomicBool::new(false) })
    }

    fn open(&self) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.connection.requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if *self.is_open.get_mut() {
            self.connection.requests.fetch_sub(1, Ordering::Relaxed);
            *self.connection.last_use.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// The body of a request, which opens the request when all of it is there.
struct RequestBody {
    /// `None` from the drop on.
    body: Option<Incoming>,
    request: Arc<OpenRequest>,
}

impl Drop for RequestBody {
    /// Many clients send everything before they read. One whose request was refused
    /// would find its connection closed, and not the response, if nobody read the rest.
    fn drop(&mut self) {
        if let Some(rest) = self.body.take_if(|body| !body.is_end_stream()) {
            let discard = async move {
                let mut rest = Limited::new(rest, MAX_BODY);
                while let Some(Ok(_)) = rest.frame().await {}
            };
            tokio::spawn(tokio::time::timeout(CLOSING_TIME, discard));
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || body.is_end_stream() {
            self.request.open();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Connections {
    pub fn new(router: Router) -> Self {
        Self { router, open: HashMap::new(), tasks: JoinSet::new(), next: 0 }
    }

    /// Serves until `closing` is true. Responses that are being sent have a moment
    /// to get through.
    pub async fn serve(mut self, listeners: Listeners, mut closing: watch::Receiver<bool>) {
        let Listeners { unix, stays, tcp } = listeners;
        let user = nix::unistd::geteuid().as_raw();
        loop {
            tokio::select! {
                accepted = unix.accept() => match accepted {
                    Ok((stream, _)) => self.accepted(stream, user),
                    Err(error) => refused(error).await,
                },
                accepted = accept(tcp.as_ref()) => match accepted {
                    Ok((stream, router)) => self.begin(stream, router),
                    Err(error) => refused(error).await,
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = closed(&mut closing) => break,
            }
        }
        if !stays {
            // Who has connected already waits for an answer. Polling is not limited by
            // the budget of the task, which would look like nobody waiting.
            let waiting = || tokio::task::unconstrained(unix.accept()).now_or_never();
            for _ in 0..MAX_CONNECTIONS {
                let Some(Ok((stream, _))) = waiting() else { break };
                self.accepted(stream, user);
            }
        }
        drop((unix, tcp));
        self.open.values().for_each(|connection| connection.close.notify_one());
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // The rest is dropped.
        let _ = tokio::time::timeout(CLOSING_TIME, ended).await;
    }

    fn ended(&mut self, ended: Result<u64, tokio::task::JoinError>) {
        match ended {
            Ok(number) => {
                self.open.remove(&number);
            }
            // Its number stays and counts as a connection that is never idle.
            Err(error) => warn!("a connection failed: {error}"),
        }
    }

    fn accepted(&mut self, stream: UnixStream, user: u32) {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == user => {}
            Ok(peer) => return debug!(uid = peer.uid(), "a client of another user was turned away"),
            Err(error) => return debug!("a client whose user is not known was turned away: {error}"),
        }
        self.begin(stream, self.router.clone());
    }

    fn begin(&mut self, stream: impl Stream, router: Router) {
        if self.open.len() >= MAX_CONNECTIONS && !self.close_idlest() {
            return debug!("a client was turned away: {MAX_CONNECTIONS} connections are busy");
        }
        let connection = Arc::new(Connection {
            requests: AtomicUsize::new(0),
            last_use: std::sync::Mutex::new(Instant::now()),
            close: Notify::new(),
            give_way: Notify::new(),
        });
        self.next += 1;
        self.open.insert(self.next, connection.clone());
        let number = self.next;
        self.tasks.spawn(async move {
            if let Err(error) = talk(stream, router, connection).await {
                debug!("a connection ended: {error}");
            }
            number
        });
    }

    /// Makes room for a connection. Returns false if none is idle.
    fn close_idlest(&mut self) -> bool {
        let idle = self.open.iter().filter(|(_, connection)| connection.is_idle());
        let Some(number) = idle.min_by_key(|(_, connection)| connection.last_use()).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(connection) = self.open.remove(&number) {
            connection.give_way.notify_one();
        }
        true
    }
}

async fn refused(error: io::Error) {
    warn!("cannot accept a connection: {error}");
    tokio::time::sleep(RETRY_DELAY).await;
}

/// The next connection over TCP.
async fn accept(listener: Option<&(TcpListener, Router)>) -> io::Result<(TcpStream, Router)> {
    let Some((listener, router)) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    // Otherwise the last bytes of a response could wait for the client's receipt. An
    // error means that the client is gone.
    let _ = stream.set_nodelay(true);
    Ok((stream, router.clone()))
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the service has ended.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Serves one connection to its end.
async fn talk(stream: impl Stream, router: Router, connection: Arc<Connection>) -> hyper::Result<()> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let state = connection.clone();
    let service = service_fn(move |request| answer(router.clone(), request, OpenRequest::of(state.clone())));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.give_way.notified() => {
            if connection.is_idle() {
                // A shutdown would wait for the rest of what the client has begun to
                // send, and descriptors would be used up meanwhile.
                return Ok(());
            }
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = connection.close.notified() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    open: Arc<OpenRequest>,
) -> Result<Response, Infallible> {
    let (id, begun) = (Arc::<str>::from(request_id(request.headers())), Instant::now());
    request.extensions_mut().insert(HttpRequestId(id.clone()));
    let line = (request.method().clone(), request.uri().path().to_owned());
    if request.body().is_end_stream() {
        open.open();
    }
    let body = |body| Body::new(RequestBody { body: Some(body), request: open.clone() });
    let mut response = router.oneshot(request.map(body)).await?;
    open.open();
    let after_ms = hookpool_wire::milliseconds(begun.elapsed());
    debug!(http_request = &*id, method = %line.0, path = line.1, status = response.status().as_u16(), after_ms, "answered");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &open;
            frame
        }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// The most bytes that wait for a client.
    const ROOM: usize = 1024;

    /// Talks to a client that has sent this; until when, and what it can still read.
    async fn talked(sent: &[u8]) -> (Duration, hyper::Result<()>, DuplexStream) {
        let (mut client, stream) = tokio::io::duplex(ROOM);
        client.write_all(sent).await.unwrap();
        let router = Router::new().route("/", get(|| async { "x".repeat(2 * ROOM) }));
        let connection = Connection {
            requests: AtomicUsize::new(0),
            last_use: std::sync::Mutex::new(Instant::now()),
            close: Notify::new(),
            give_way: Notify::new(),
        };
        let begun = Instant::now();
        let ended = talk(stream, router, Arc::new(connection)).await;
        (begun.elapsed(), ended, client)
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_header_does_not_keep_a_connection() {
        let (time, ended, _client) = talked(b"GET / HTTP/1.1\r\nHost: hook").await;
        assert!(ended.unwrap_err().is_timeout());
        assert_eq!(time.as_secs(), HEADER_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_its_connection() {
        let (time, ended, mut client) = talked(b"GET / HTTP/1.1\r\nHost: hookpool\r\n\r\n").await;
        ended.unwrap_err();
        assert_eq!(time.as_secs(), WRITE_TIMEOUT.as_secs());
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(read.len(), ROOM);
    }
}
