//! Hooks: one for each HTTP request, or many as JSON Lines.

use std::fmt::Display;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hookpool_supervisor::ErrorKind;
use hookpool_wire::{DRAINING, Error, HookRequest, HookResponse, Phase, Problem, RequestLine, to_line};

use super::json_lines;
use crate::hooks::lines::InputLines;
use crate::hooks::requests::OpenRequests;
use crate::hooks::{Hooks, Origin};
use crate::lifecycle::{EndReason, time_is_up};
use crate::service::body::{MAX_BODY, pieces, whole};
use crate::service::problem::Refusal;
use crate::service::{Admissions, Draining, Shared};
use crate::streams::input::Input;
use crate::streams::output::Output;

/// Runs a hook
///
/// The status is 200 whether the hook fails or not: `ok` tells. A client that hangs up
/// cancels the request.
#[utoipa::path(
    post,
    path = "/v1/hooks",
    request_body = HookRequest,
    responses(
        (status = 200, description = "The hook ran, or could not be run.", body = HookResponse),
        (status = 400, description = "The request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No new work is admitted now.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn hook(State(service): State<Shared>, origin: Origin, body: Body) -> Result<Json<HookResponse>, Refusal> {
    let body = whole(body).await?;
    let request = match RequestLine::parse(&body)? {
        Some(RequestLine::Hook(request)) => *request,
        Some(RequestLine::Cancel(_)) => {
            return Err(Refusal::invalid("cancel: expected a request for a hook, which ends when its client hangs up"));
        }
        Some(RequestLine::Caller(_)) => return Err(Refusal::invalid("id: missing, expected a string or a number")),
        None => return Err(Refusal::invalid("expected a JSON object, got an empty body")),
    };
    let _open = service.admissions.admit()?;
    let submitted = Hooks { origin, ..service.hooks.clone() }.submit(request).await?;
    Ok(Json(submitted.await.read().await.response))
}

/// Runs hooks
///
/// The lines of the body are those of `hookpool run`, and so are those of the response,
/// which come as the hooks end. A client that hangs up cancels what is not answered. From
/// a drain on, lines are refused with the error `Draining`, and the batch ends when all
/// that was admitted is answered; its last line has that error then, and no id.
#[utoipa::path(
    post,
    path = "/v1/batch",
    request_body(content = String, content_type = "application/x-ndjson", description = "A HookRequest in each line."),
    responses(
        (status = 200, description = "A HookResponse in each line.", body = String, content_type = "application/x-ndjson"),
        (status = 503, description = "No new work is admitted now.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn batch(State(service): State<Shared>, origin: Origin, body: Body) -> Result<Response, Refusal> {
    let open = service.admissions.admit()?;
    let input = InputLines::of(Input::from_channel(pieces(body)), MAX_BODY);
    let (mut output, lines) = Output::to_channel();
    let hooks = Hooks { origin, ..service.hooks.clone() };
    // It may have been changed. None if the supervisor has ended.
    let queue_size = service.hooks.supervisor.snapshot().await.map_or(1, |snapshot| snapshot.limits.queue_size.get());
    let requests = OpenRequests::new(hooks, queue_size, input, service.ending.clone(), false);
    tokio::spawn(async move {
        // What is left open when the client hangs up is cancelled.
        if let EndReason::InputFailed(error) = requests.serve(&mut output, drained(service.admissions.clone())).await {
            let (writer, reports) = output.halves();
            tokio::select! {
                room = writer.room() => room.send(to_line(&broken_off(error))),
                // Nobody reads it.
                _ = reports.failure() => {}
                () = time_is_up(service.hooks.supervisor.clone(), service.ending.clone()) => {}
            }
        }
        drop(output);
        drop(open);
    });
    Ok(json_lines(lines))
}

/// Waits for a drain, which refuses further lines: a client that never ends them would
/// keep the service from ending.
async fn drained(admissions: Admissions) -> Error {
    admissions.leaves(Phase::Serving).await;
    Error {
        kind: DRAINING.to_owned(),
        message: Draining.to_string(),
        hint: Some("what was refused or has no response did not run: send it again".to_owned()),
        ..Error::default()
    }
}

/// The last response to a client whose requests broke off.
fn broken_off(error: impl Display) -> HookResponse {
    let message = format!("the rest of the requests cannot be read: {error}");
    HookResponse::failed(Error { kind: ErrorKind::InvalidRequest.to_string(), message, ..Error::default() })
}
