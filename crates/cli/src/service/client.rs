//! A client of a service, for the commands of this program.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use hookpool_wire::Problem;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// How long a service may take to answer a question about itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no service listens at {path}: {source}")]
    Nobody { path: String, source: io::Error },
    /// The socket belongs to another user.
    #[error("{path} belongs to user {owner}, and is not used")]
    Foreign { path: String, owner: u32 },
    /// The connection broke.
    #[error("the connection to the service broke: {0}")]
    Broken(#[from] hyper::Error),
    /// It took too long.
    #[error("the service did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// What it answered has another form than expected.
    #[error("the service answered what this program does not understand: {0}")]
    Strange(#[from] serde_json::Error),
}

/// A connection to a service.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the service of this user at this path.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let name = || path.display().to_string();
        let nobody = |source| ClientError::Nobody { path: name(), source };
        let owner = std::fs::symlink_metadata(path).map_err(nobody)?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            return Err(ClientError::Foreign { path: name(), owner });
        }
        let stream = UnixStream::connect(path).await.map_err(nobody)?;
        let peer = stream.peer_cred().map_err(nobody)?.uid();
        if peer != owner {
            return Err(ClientError::Foreign { path: name(), owner: peer });
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end is noticed by the sender.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Asks for JSON that comes soon.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let answer = async {
            let response = self.send(method, path, body).await?;
            Ok::<_, ClientError>(response.into_body().collect().await?.to_bytes())
        };
        let bytes = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| ClientError::Silent)??;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Sends a request whose response may take long and be long.
    pub async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("the paths of this program are right");
        request.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("hookpool"));
        request.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        Err(ClientError::Refused(serde_json::from_slice(&bytes)?))
    }
}
