//! What tells requests apart in logs and traces: the id of an HTTP request, and the
//! trace that it belongs to.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::hooks::Origin;

/// The header with the id of a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client, in bytes.
const LONGEST_ID: usize = 128;

/// The id of an HTTP request: the client's own if it is plain, else a random one.
pub fn request_id(headers: &HeaderMap) -> String {
    let is_plain = |id: &&str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(is_allowed)
    };
    let sent = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_plain);
    // Random keys are enough to tell requests apart.
    sent.map_or_else(|| format!("{:016x}", RandomState::new().hash_one(0_u8)), ToOwned::to_owned)
}

/// The id of an HTTP request, among its extensions.
#[derive(Clone, Debug)]
pub struct HttpRequestId(pub Arc<str>);

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let mut sent = parts.headers.get_all("traceparent").iter();
        let only = sent.next().filter(|_| sent.next().is_none());
        let trace = only.and_then(|value| value.to_str().ok()).filter(|value| is_traceparent(value)).map(Into::into);
        Ok(Self { id: parts.extensions.get().map(|HttpRequestId(id)| id.clone()), trace })
    }
}

/// Version, trace id, parent id and flags in lower-case hexadecimal. Later versions may
/// have more behind them.
fn is_traceparent(value: &str) -> bool {
    let is_hexadecimal = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, length: usize| is_hexadecimal(part, length) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = value.split('-').collect();
    match parts.as_slice() {
        [version, trace, parent, flags, rest @ ..] => {
            is_hexadecimal(version, 2)
                && *version != "ff"
                && is_id(trace, 32)
                && is_id(parent, 16)
                && is_hexadecimal(flags, 2)
                && (rest.is_empty() || *version != "00")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_taken_if_they_are_plain() {
        let id = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, sent.parse().unwrap());
            request_id(&headers)
        };
        for plain in ["7", "0f1e-2d3c", "Root=1-67891233-abcdef012345678912345678", "a.b:c/d+e_f="] {
            assert_eq!(id(plain), plain);
        }
        for other in ["", "a b", "a\"b", "<a>", &"x".repeat(LONGEST_ID + 1)] {
            assert_eq!(id(other).len(), 16, "{other:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn traces_are_those_of_the_specification() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let valid = [format!("00-{trace}-{parent}-01"), format!("cc-{trace}-{parent}-01-what-the-future-holds")];
        assert!(valid.iter().all(|value| is_traceparent(value)));
        let invalid = [
            String::new(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{parent}-0x"),
        ];
        assert!(!invalid.iter().any(|value| is_traceparent(value)));
    }
}
