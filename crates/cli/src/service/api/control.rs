//! What operators do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use hookpool_supervisor::{LimitsChange, LimitsError, QueueSize, Selection, Timeout};
use hookpool_wire::{Admission, Drain, Limits, Problem, Restart, Restarted};

use super::status::{limits_fields, snapshot};
use crate::service::Shared;
use crate::service::admission::Draining;
use crate::service::body::{json, whole};
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

/// Says which limits are in force
#[utoipa::path(
    get,
    path = "/v1/limits",
    responses(
        (status = 200, description = "The limits in force.", body = Limits),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn limits(State(service): State<Shared>) -> Result<Json<Limits>, Refusal> {
    Ok(Json(limits_fields(&snapshot(&service).await?.limits)))
}

/// Changes limits
///
/// No request is lost: hooks beyond a lower limit run to their end. Nothing is changed if
/// a part of the change is impossible.
#[utoipa::path(
    patch,
    path = "/v1/limits",
    request_body = hookpool_wire::LimitsChange,
    responses(
        (status = 200, description = "The limits in force now.", body = Limits),
        (status = 400, description = "The change is not possible.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_limits(State(service): State<Shared>, body: Body) -> Result<Json<Limits>, Refusal> {
    let change = resolve(&hookpool_wire::LimitsChange::parse(&whole(body).await?)?)?;
    match service.hooks.supervisor.change_limits(change).await {
        Ok(limits) => Ok(Json(limits_fields(&limits))),
        Err(LimitsError::Ended) => Err(Draining.into()),
        Err(error) => Err(Refusal::invalid(error)),
    }
}

fn resolve(change: &hookpool_wire::LimitsChange) -> Result<LimitsChange, Refusal> {
    let queue_size = change.queue_size.map(QueueSize::new).transpose();
    Ok(LimitsChange {
        jobs: change.jobs,
        max_workers: change.max_workers,
        workers_per_tree: change.workers_per_tree,
        max_templates: change.max_templates,
        queue_size: queue_size.map_err(|error| Refusal::invalid(format!("queue_size: {error}")))?,
        idle_timeout: timeout("idle_timeout_ms", change.idle_timeout_ms)?,
        max_requests: change.max_requests,
        max_lifetime: timeout("max_lifetime_ms", change.max_lifetime_ms)?,
        hook_memory_limit: change.hook_memory_limit,
        hook_timeout: timeout("hook_timeout_ms", change.hook_timeout_ms)?,
        grace_period: timeout("grace_period_ms", change.grace_period_ms)?,
    })
}

#[expect(clippy::option_option, reason = "absent, null or a time")]
fn timeout(field: &str, milliseconds: Option<Option<f64>>) -> Result<Option<Option<Timeout>>, Refusal> {
    let Some(Some(milliseconds)) = milliseconds else { return Ok(milliseconds.map(|_| None)) };
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).ok();
    match duration.and_then(|duration| Timeout::new(duration).ok()) {
        Some(timeout) => Ok(Some(Some(timeout))),
        None => {
            let most = Timeout::MAX.as_millis();
            let expected = format!("expected a number of milliseconds above zero and at most {most}, or null");
            Err(Refusal::invalid(format!("{field}: {expected}, got {milliseconds}")))
        }
    }
}

/// Replaces workers and templates
///
/// All of them, or those of a source tree, an environment or a template: idle ones now,
/// others after their hook. No request is lost. Pools in backoff or quarantine get another
/// chance.
#[utoipa::path(
    post,
    path = "/v1/restart",
    request_body = Option<Restart>,
    responses(
        (status = 200, description = "What is replaced.", body = Restarted),
        (status = 400, description = "The request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The service is ending.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn restart(State(service): State<Shared>, body: Body) -> Result<Json<Restarted>, Refusal> {
    let selection = match Restart::parse(&whole(body).await?)? {
        Restart { tree: Some(tree), .. } if Path::new(&tree).is_absolute() => Selection::Tree(PathBuf::from(tree)),
        Restart { tree: Some(tree), .. } => {
            return Err(Refusal::invalid(format!("tree: expected an absolute path, got {tree:?}")));
        }
        Restart { environment: Some(python), .. } => Selection::Environment(PathBuf::from(python)),
        Restart { template: Some(number), .. } => Selection::Template(number.into()),
        Restart { tree: None, environment: None, template: None } => Selection::All,
    };
    let restarted = service.hooks.supervisor.restart(selection).await.ok_or(Draining)?;
    let (workers, templates, pools) = (restarted.workers, restarted.templates, restarted.pools);
    Ok(Json(Restarted { workers, templates, pools }))
}
