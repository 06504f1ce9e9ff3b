//! The token of clients that come over TCP, whose user the system does not tell.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use nix::fcntl::OFlag;
use subtle::ConstantTimeEq;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder, SecurityRequirement};

use super::problem::Refusal;

/// The fewest bytes of a token: 16 random ones cannot be guessed.
const SHORTEST: usize = 16;

/// The most bytes of the file.
const LONGEST: usize = 4096;

/// The paths that need no token. They tell nothing but the state, and probes of
/// containers have no secrets.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is no file.
    #[error("the token file {path} is not a regular file")]
    Kind { path: PathBuf },
    /// Others can read or change it.
    #[error("the token file {path} belongs to user {owner} and has mode {mode:03o}, expected user {user} and mode 600")]
    Foreign { path: PathBuf, owner: u32, mode: u32, user: u32 },
    /// Its content is not a token. The message must not tell what it is.
    #[error("the token file {path}: expected {SHORTEST} to {LONGEST} letters, digits or -._~+/=")]
    Content { path: PathBuf },
}

/// What a client has to know.
pub struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}

impl Token {
    /// Reads a file that only this user can read. White space around the token does
    /// not count.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        // Without O_NONBLOCK, a named pipe would wait for its writer.
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(TokenError::Kind { path: path.to_owned() });
        }
        let (owner, mode, user) = (metadata.uid(), metadata.mode() & 0o777, nix::unistd::geteuid().as_raw());
        if owner != user || mode & 0o077 != 0 {
            return Err(TokenError::Foreign { path: path.to_owned(), owner, mode, user });
        }
        let mut content = Vec::new();
        file.take(LONGEST as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
        Self::parse(&content).ok_or_else(|| TokenError::Content { path: path.to_owned() })
    }

    /// The form of a token is that of RFC 6750.
    fn parse(content: &[u8]) -> Option<Self> {
        let token = content.trim_ascii();
        let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        let is_token = (SHORTEST..=LONGEST).contains(&token.len()) && token.iter().all(is_valid);
        is_token.then(|| Self(token.into()))
    }

    /// Whether a client has sent it. Takes as long for any token of the same length.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else { return false };
        let Some((scheme, token)) = value.split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.0.ct_eq(token).into()
    }
}

/// The same routes, for clients that have the token.
pub fn with_token(router: Router, token: Token) -> Router {
    router.layer(from_fn_with_state(Arc::new(token), check))
}

async fn check(State(token): State<Arc<Token>>, mut request: Request, next: Next) -> Response {
    let is_allowed = OPEN_PATHS.contains(&request.uri().path()) || token.is_in(request.headers());
    if is_allowed {
        // Nobody behind this needs it.
        request.headers_mut().remove(AUTHORIZATION);
        return next.run(request).await;
    }
    let detail = "expected the token of the service: Authorization: Bearer TOKEN";
    let mut response = Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", detail).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Tells of the token in the document of the interface, which has all paths.
pub fn document(document: &mut OpenApi) {
    let refusal = ResponseBuilder::new()
        .description("The token is missing or wrong (over TCP only).")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    for (_, path) in document.paths.paths.iter_mut().filter(|(path, _)| !OPEN_PATHS.contains(&path.as_str())) {
        let operations = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("401".to_owned(), refusal.clone().into());
        }
    }
    let mut scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    scheme.description = Some("Needed over TCP (--listen), but for /healthz and /readyz.".into());
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    // Either nothing, on the Unix socket, or the token.
    let none = SecurityRequirement::default();
    document.security = Some(vec![none, SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for (content, expected) in [
            ("0123456789abcdef\n", true),
            (" 0123456789abcde-._~+/= ", true),
            ("0123456789abcde", false),
            ("0123456789 abcdef", false),
            ("0123456789äabcdef", false),
            ("", false),
        ] {
            assert_eq!(Token::parse(content.as_bytes()).is_some(), expected, "{content:?}");
        }
        assert!(Token::parse(&[b'x'; LONGEST + 1]).is_none());
        let token = Token::parse(b"0123456789abcdef").unwrap();
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn headers() {
        let token = Token::parse(b"0123456789abcdef").unwrap();
        for (value, expected) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer 0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer 0123456789abcde"), false),
            (Some("Bearer 0123456789abcdef0"), false),
            (Some("Basic  0123456789abcdef"), false),
            (Some("Bearer "), false),
            (Some("0123456789abcdef"), false),
            (Some(""), false),
            (None, false),
        ] {
            let headers = value.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            assert_eq!(token.is_in(&headers.into_iter().collect()), expected, "{value:?}");
        }
    }
}
