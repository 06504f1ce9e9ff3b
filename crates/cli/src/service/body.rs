//! The bodies of requests: all of one, or one piece after the other.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::problem::Refusal;

/// The longest body of a request, and line of a batch, in bytes.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole body.
pub async fn whole(body: Body) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is longer than {MAX_BODY} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "InvalidRequest", detail))
        }
        Ok(Err(error)) => Err(Refusal::invalid(format!("cannot read the body: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "InvalidRequest", detail))
        }
    }
}

/// The whole body as JSON; the default if it is empty.
pub async fn json<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refusal> {
    let bytes = whole(body).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(Refusal::invalid)
}

/// The pieces of a body, as they come. Ends when the receiver is dropped.
pub fn pieces(mut body: Body) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    // A capacity of one: nothing is read long before it is asked for.
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = sender.closed() => return,
            };
            let piece = match frame {
                Some(Ok(frame)) => Ok(frame.into_data().map_or_else(|_| Vec::new(), Vec::from)),
                Some(Err(error)) => Err(io::Error::other(error)),
                None => return,
            };
            // An empty piece would be the end.
            let is_empty = piece.as_ref().is_ok_and(Vec::is_empty);
            if !is_empty && sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    pieces
}
