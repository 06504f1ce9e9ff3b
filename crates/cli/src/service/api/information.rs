//! What the service says of itself.

use axum::Json;
use axum::extract::State;
use hookpool_wire::{Admission, Phase, Problem, Version};

use crate::service::Shared;
use crate::service::admission::Draining;
use crate::service::problem::Refusal;

/// Says who serves
#[utoipa::path(get, path = "/v1/version", responses((status = 200, description = "Who serves.", body = Version)))]
pub async fn version(State(service): State<Shared>) -> Json<Version> {
    Json(service.version.clone())
}

/// Says that the service works
#[utoipa::path(
    get,
    path = "/healthz",
    responses((status = 200, description = "The event loop works.", body = Admission))
)]
pub async fn health(State(service): State<Shared>) -> Json<Admission> {
    Json(service.admissions.now())
}

/// Says whether new work is admitted
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "New work is admitted.", body = Admission),
        (status = 503, description = "It is not.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn readiness(State(service): State<Shared>) -> Result<Json<Admission>, Refusal> {
    let now = service.admissions.now();
    match now.phase {
        Phase::Serving => Ok(Json(now)),
        Phase::Draining => Err(Draining.into()),
    }
}
