//! What operators do.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use hookpool_wire::{Admission, Drain, Problem};

use crate::service::Shared;
use crate::service::body::json;
use crate::service::problem::Refusal;

/// Admits no new work
///
/// What was admitted is finished. New work is refused with 503 until `/v1/resume`.
#[utoipa::path(
    post,
    path = "/v1/drain",
    request_body = Option<Drain>,
    responses(
        (status = 200, description = "No new work is admitted.", body = Admission),
        (status = 400, description = "The request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn drain(State(service): State<Shared>, body: Body) -> Result<Json<Admission>, Refusal> {
    let drain: Drain = json(body).await?;
    service.admissions.drain(drain.exit);
    Ok(Json(service.admissions.now()))
}

/// Admits new work again
#[utoipa::path(
    post,
    path = "/v1/resume",
    responses(
        (status = 200, description = "New work is admitted.", body = Admission),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn resume(State(service): State<Shared>) -> Result<Json<Admission>, Refusal> {
    service.admissions.resume()?;
    Ok(Json(service.admissions.now()))
}
