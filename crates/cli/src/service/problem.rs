//! Refusals as problem documents (RFC 9457).

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hookpool_supervisor::ErrorKind;
use hookpool_wire::{DRAINING, HookResponse, InvalidRequest, Problem};

use super::Draining;
use crate::hooks::NotAdmitted;

/// How a handler refuses a request.
#[derive(Debug)]
pub struct Refusal(Problem);

/// After how many seconds a client may try again.
const RETRY_SECONDS: u32 = 1;

impl Refusal {
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Problem::new(status.as_u16(), kind, detail))
    }

    /// The request itself is wrong.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", detail.to_string())
    }

    /// There is nothing of this name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", detail)
    }

    /// The service cannot do this now.
    pub fn unavailable(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail)
    }

    /// The same refusal with a hint.
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }
}

impl From<Draining> for Refusal {
    fn from(draining: Draining) -> Self {
        Self::unavailable(DRAINING, draining.to_string())
    }
}

impl From<InvalidRequest> for Refusal {
    fn from(error: InvalidRequest) -> Self {
        Self::invalid(error)
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Invalid(error) => error.into(),
            NotAdmitted::Refused(response) => refused(*response),
        }
    }
}

fn refused(response: HookResponse) -> Refusal {
    let Some(error) = response.error else { return Refusal::invalid("the request was refused") };
    let is_invalid = error.kind == ErrorKind::InvalidHookName.to_string();
    let status = if is_invalid { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
    Refusal::new(status, &error.kind, error.message).with_hint(error.hint)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}
