//! Builds of sources.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hookpool_wire::{BuildEvent, BuildRequest, Problem};

use super::json_lines;
use crate::hooks::Origin;
use crate::service::Shared;
use crate::service::body::whole;
use crate::service::builds::start;
use crate::service::problem::Refusal;

/// Builds sources
///
/// What happens, and the result of each source, comes as JSON Lines. A client that
/// hangs up cancels what is not done.
#[utoipa::path(
    post,
    path = "/v1/builds",
    request_body = BuildRequest,
    responses(
        (status = 200, description = "A BuildEvent in each line.", body = BuildEvent, content_type = "application/x-ndjson"),
        (status = 400, description = "The request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No new work is admitted now.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn build(State(service): State<Shared>, origin: Origin, body: Body) -> Result<Response, Refusal> {
    let request: BuildRequest = serde_json::from_slice(&whole(body).await?).map_err(Refusal::invalid)?;
    Ok(json_lines(start(service, request, origin).await?))
}
