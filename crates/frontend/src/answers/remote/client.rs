//! Requests to the remote store, which cost a warning at most.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sha2::Sha256;
use tempfile::TempPath;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use url::Url;

use super::settings::RemoteAnswers;
use crate::answers::answer::{Entry, KeptFile};
use crate::answers::digest::Digest;
use crate::answers::files::FileStore;
use crate::answers::records::{Damaged, LARGEST, Records};

/// A server further away is not worth its answers.
const CONNECT: Duration = Duration::from_secs(2);

/// Of a whole request.
const REQUEST: Duration = Duration::from_secs(30);

/// After so many failures in a row the store is left alone.
const PATIENCE: u32 = 3;

/// A store behind a gateway may send on once or twice.
const REDIRECTS: usize = 3;

/// A remote store.
#[derive(Debug)]
pub(crate) struct Remote {
    agent: Agent,
    settings: RemoteAnswers,
    failures: AtomicU32,
    is_left_alone: AtomicBool,
}

/// What lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// `/ac/KEY`
    Entry(Digest),
    /// `/cas/SHA256`
    File(Digest),
}

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is nothing.
    Missing,
    /// The server cannot be reached, or does not do what it is asked. Whether another
    /// attempt makes sense.
    Failed { why: String, try_again: bool },
    /// What it sent is not what was stored.
    Wrong(&'static str),
    /// This machine fails.
    Local(io::Error),
}

impl Trouble {
    fn failed(why: impl ToString) -> Self {
        Self::Failed { why: why.to_string(), try_again: true }
    }
}

impl From<ureq::Error> for Trouble {
    fn from(error: ureq::Error) -> Self {
        match error {
            // Each would take half a minute.
            ureq::Error::Timeout(_) => Self::Failed { why: "it does not answer in time".to_owned(), try_again: false },
            ureq::Error::Io(error) => Self::failed(error),
            error => Self::failed(error),
        }
    }
}

impl Remote {
    pub fn new(settings: RemoteAnswers) -> Self {
        Self::with_limit(settings, REQUEST)
    }

    pub(super) fn with_limit(settings: RemoteAnswers, request: Duration) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(request))
            // They are followed here.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(proxy(settings.url.scheme()))
            .tls_config(tls)
            .user_agent(concat!("hookpool/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), settings, failures: AtomicU32::new(0), is_left_alone: AtomicBool::new(false) }
    }

    pub fn reads(&self) -> bool {
        self.settings.read && !self.is_left_alone()
    }

    pub fn writes(&self) -> bool {
        self.settings.write && !self.is_left_alone()
    }

    fn is_left_alone(&self) -> bool {
        self.is_left_alone.load(Ordering::Relaxed)
    }

    /// Gets something of at most `limit` bytes. Blocks.
    fn get<T>(&self, item: Item, limit: u64, read: impl FnOnce(&mut dyn Read) -> Result<T, Trouble>) -> Option<T> {
        self.ask(item, || {
            let mut response = self.follow(item, |url| self.signed(self.agent.get(url.as_str())).call())?;
            expect_success(&response)?;
            if response.body().content_length().is_some_and(|length| length > limit) {
                return Err(Trouble::Wrong("is too large"));
            }
            read(&mut response.body_mut().as_reader().take(limit + 1))
        })
    }

    /// Gets an entry. Blocks.
    pub fn entry(&self, entries: &Records, key: Digest) -> Option<Entry> {
        self.get(Item::Entry(key), LARGEST, |body| {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes).map_err(ureq::Error::from)?;
            entries.parse(key, &bytes).map_err(|Damaged| Trouble::Wrong("is damaged"))
        })
    }

    /// Gets the content of a file, and checks it. Blocks.
    pub fn file(&self, files: &FileStore, wanted: &KeptFile) -> Option<TempPath> {
        self.get(Item::File(wanted.sha256), wanted.size, |body| {
            let mut draft = files.draft().map_err(Trouble::Local)?;
            let mut hasher = <Sha256 as sha2::Digest>::new();
            let mut part = vec![0; 64 << 10];
            loop {
                let length = body.read(&mut part).map_err(ureq::Error::from)?;
                if length == 0 {
                    break;
                }
                sha2::Digest::update(&mut hasher, &part[..length]);
                draft.write_all(&part[..length]).map_err(Trouble::Local)?;
            }
            match Digest::from(<[u8; 32]>::from(sha2::Digest::finalize(hasher))) == wanted.sha256 {
                true => Ok(draft.into_temp_path()),
                false => Err(Trouble::Wrong("has another content than its name says")),
            }
        })
    }

    /// Whether something is there; false if that cannot be known. Blocks.
    pub fn has(&self, item: Item) -> bool {
        let there = self.ask(item, || {
            let response = self.follow(item, |url| self.signed(self.agent.head(url.as_str())).call())?;
            expect_success(&response)
        });
        there.is_some()
    }

    /// Stores an entry. Whether it is there now. Blocks.
    pub fn put_entry(&self, key: Digest, content: &[u8]) -> bool {
        self.put(Item::Entry(key), || content)
    }

    /// Stores a file. Whether it is there now. Blocks.
    pub fn put_file(&self, sha256: Digest, file: &File) -> bool {
        self.put(Item::File(sha256), || file)
    }

    fn put<B: ureq::AsSendBody>(&self, item: Item, body: impl FnOnce() -> B) -> bool {
        let stored = self.ask(item, || {
            let request = self.agent.put(self.url(item).as_str()).content_type("application/octet-stream");
            let response = self.signed(request).send(body())?;
            // bazel-remote says 200, WebDAV says 201 or 204.
            expect_success(&response)
        });
        stored.is_some()
    }

    fn url(&self, item: Item) -> Url {
        let (kind, digest) = match item {
            Item::Entry(key) => ("ac", key),
            Item::File(sha256) => ("cas", sha256),
        };
        let mut url = self.settings.url.clone();
        url.set_path(&format!("{}{kind}/{digest}", url.path()));
        url
    }

    fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.settings.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, &authorization.0),
            None => request,
        }
    }

    /// Follows redirects on the same server: others must not get the credentials.
    fn follow(
        &self,
        item: Item,
        send: impl Fn(&Url) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let mut url = self.url(item);
        for _ in 0..=REDIRECTS {
            let response = send(&url)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            url = target.ok_or_else(|| Trouble::failed("it redirects to no address"))?;
            if url.origin() != self.settings.url.origin() {
                return Err(Trouble::failed("it redirects to another server"));
            }
        }
        Err(Trouble::failed("it redirects again and again"))
    }

    /// Does something with the store, unless it is left alone.
    fn ask<T>(&self, item: Item, request: impl FnOnce() -> Result<T, Trouble>) -> Option<T> {
        if self.is_left_alone() {
            return None;
        }
        let url = &self.settings.url;
        let (why, try_again) = match request() {
            Ok(done) => {
                self.failures.store(0, Ordering::Relaxed);
                return Some(done);
            }
            Err(Trouble::Missing) => {
                self.failures.store(0, Ordering::Relaxed);
                return None;
            }
            Err(Trouble::Local(error)) => {
                tracing::debug!("{item:?} of {url} is not used: {error}");
                return None;
            }
            Err(Trouble::Wrong(words)) => {
                tracing::warn!("{} {words}: it is not used", self.url(item));
                ("what it sends is not what was stored".to_owned(), true)
            }
            Err(Trouble::Failed { why, try_again }) => (why, try_again),
        };
        tracing::debug!("{item:?} of {url}: {why}");
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if (failures >= PATIENCE || !try_again) && !self.is_left_alone.swap(true, Ordering::Relaxed) {
            tracing::warn!("the remote store {url} is left alone for the rest of this run: {why}");
        }
        None
    }
}

fn expect_success(response: &Response<Body>) -> Result<(), Trouble> {
    let why = match response.status() {
        status if status.is_success() => return Ok(()),
        StatusCode::NOT_FOUND => return Err(Trouble::Missing),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
            let why = format!("it answers {status}; credentials come from a file or from netrc");
            return Err(Trouble::Failed { why, try_again: false });
        }
        status => status,
    };
    Err(Trouble::failed(format!("it answers {why}")))
}

/// The proxy that the usual variables name for addresses like this. ureq takes the first
/// that there is, for all addresses.
fn proxy(scheme: &str) -> Option<Proxy> {
    let names = if scheme == "https" { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["ALL_PROXY", "all_proxy"].iter().chain(&names).any(is_set).then(Proxy::try_from_env).flatten()
}
