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

/// How long a client may take to send a body, and send nothing in the middle of a line.
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

/// The pieces of a body of lines, as they come. Ends when the receiver is dropped.
pub fn pieces(mut body: Body) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    // A capacity of one: nothing is read long before it is asked for.
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut is_within_line = false;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = tokio::time::sleep(BODY_TIMEOUT), if is_within_line => {
                    let late = format!("the rest of a line did not arrive within {} s", BODY_TIMEOUT.as_secs());
                    Some(Err(axum::Error::new(late)))
                }
                () = sender.closed() => return,
            };
            let piece = match frame {
                Some(Ok(frame)) => Ok(frame.into_data().map_or_else(|_| Vec::new(), Vec::from)),
                Some(Err(error)) => Err(io::Error::other(error)),
                None => return,
            };
            // An empty piece would be the end.
            if piece.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            is_within_line = piece.as_ref().is_ok_and(|piece| piece.last() != Some(&b'\n'));
            let is_over = piece.is_err();
            if sender.send(piece).await.is_err() || is_over {
                return;
            }
        }
    });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use axum::response::IntoResponse;
    use futures_util::StreamExt;
    use futures_util::stream::{iter, pending};

    /// What comes of a body that begins like this and never ends.
    async fn received(beginning: &[&'static str], pieces_expected: usize) -> Vec<Result<String, String>> {
        let beginning: Vec<_> =
            beginning.iter().map(|text| Ok::<_, Infallible>(Bytes::from_static(text.as_bytes()))).collect();
        let mut pieces = pieces(Body::from_stream(iter(beginning).chain(pending())));
        let mut found = Vec::new();
        while found.len() < pieces_expected {
            let Some(piece) = pieces.recv().await else { break };
            found.push(piece.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string()));
        }
        found
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_refused() {
        let begun = tokio::time::Instant::now();
        let beginning = iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
        let refusal = whole(Body::from_stream(beginning.chain(pending()))).await.unwrap_err();
        assert_eq!(refusal.into_response().status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(begun.elapsed().as_secs(), BODY_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_pause_between_lines_only() {
        assert_eq!(received(&["a\n", "", "b\n"], 2).await, [Ok("a\n".into()), Ok("b\n".into())]);
        let late = Err("the rest of a line did not arrive within 30 s".into());
        assert_eq!(received(&["a\nb"], 3).await, [Ok("a\nb".into()), late]);
    }
}
