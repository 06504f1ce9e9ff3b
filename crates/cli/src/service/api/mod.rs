//! The handlers, a file for each group of paths, and the document that describes them.

mod builds;
mod control;
mod hooks;
mod information;
mod metrics;
mod requests;
mod status;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::problem::Refusal;
use super::token;

/// The HTTP interface of a hookpool service
#[derive(OpenApi)]
#[openapi(info(
    title = "hookpool",
    description = "Runs Python build hooks (PEP 517, PEP 660) through supervised pools of workers."
))]
struct Document;

/// The routes, and the document about them at `/v1/openapi.json`.
pub fn router(service: Shared) -> Router {
    let (router, mut document) = documented().split_for_parts();
    token::document(&mut document);
    let document = document.to_json().expect("the document can be written as JSON");
    let document = move || async move { ([(CONTENT_TYPE, "application/json")], document) };
    router
        .route("/v1/openapi.json", get(document))
        .fallback(|| async { Refusal::not_found("there is no such path: /v1/openapi.json lists those that there are") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "this path does not have this method")
        })
        .with_state(service)
}

fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(hooks::hook))
        .routes(routes!(hooks::batch))
        .routes(routes!(builds::build))
        .routes(routes!(information::version))
        .routes(routes!(information::health))
        .routes(routes!(information::readiness))
        .routes(routes!(control::drain))
        .routes(routes!(control::resume))
        .routes(routes!(control::limits, control::change_limits))
        .routes(routes!(control::restart))
        .routes(routes!(status::status))
        .routes(routes!(status::events))
        .routes(routes!(metrics::metrics))
        .routes(routes!(requests::requests))
        .routes(routes!(requests::request, requests::cancel))
        .routes(routes!(requests::log))
}

/// A response of JSON Lines, sent as they come.
fn json_lines(lines: impl Stream<Item = Vec<u8>> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    ([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response()
}
