//! Where the remote store is, and how this user is known there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookpool_supervisor::files::{Links, read_regular_file};
use url::Url;

/// The largest file with credentials, in bytes.
const LARGEST: u64 = 1 << 20;

/// A remote store of answers.
#[derive(Clone, Debug)]
pub struct RemoteAnswers {
    pub(super) url: Url,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) authorization: Option<Authorization>,
}

/// Why a remote store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRemote {
    /// The address has a password, which every list of processes would show.
    #[error("the address of the remote store has credentials: expected them in a file or in netrc")]
    Credentials,
    /// It is no address of a server.
    #[error("{url:?} is not an address such as https://HOST/PATH: {reason}")]
    Address {
        /// The text. It has no credentials that could be recognised.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with credentials cannot be read.
    #[error("cannot read credentials from {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has no credentials.
    #[error("{path} has no credentials: expected one line, with USER:PASSWORD or with a bearer token", path = .path.display())]
    NoCredentials {
        /// The file.
        path: PathBuf,
    },
}

impl RemoteAnswers {
    /// The store at an address, which answers are read from, written to, or both. The
    /// credentials are in a file, which has `USER:PASSWORD` or a bearer token; without
    /// one, in the file that `NETRC` names, or `~/.netrc`, if there are any for this
    /// host. Blocks.
    ///
    /// # Errors
    /// [`InvalidRemote`]. None of its texts has credentials.
    pub fn new(url: &str, read: bool, write: bool, credentials: Option<&Path>) -> Result<Self, InvalidRemote> {
        let url = address(url)?;
        let authorization = match credentials {
            Some(file) => Some(from_file(file)?),
            None => from_netrc(&url)?,
        };
        Ok(Self { url, read, write, authorization })
    }
}

/// The value of the header of that name.
#[derive(Clone)]
pub(super) struct Authorization(pub String);

impl Authorization {
    fn basic(user_and_password: &str) -> Self {
        Self(format!("Basic {}", STANDARD.encode(user_and_password)))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The address, which ends with a slash.
fn address(text: &str) -> Result<Url, InvalidRemote> {
    let refused = |reason: String| {
        // Nobody knows what a text is that is no address.
        let url = if text.contains('@') { "(hidden)".to_owned() } else { text.to_owned() };
        Err(InvalidRemote::Address { url, reason })
    };
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return refused(error.to_string()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidRemote::Credentials);
    }
    if !["http", "https"].contains(&url.scheme()) {
        return refused(format!("expected http or https, and not {}", url.scheme()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("expected no ? and no #".to_owned());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn from_file(path: &Path) -> Result<Authorization, InvalidRemote> {
    let none = || InvalidRemote::NoCredentials { path: path.to_owned() };
    let text = read(path)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (line, None) = (lines.next().ok_or_else(none)?, lines.next()) else { return Err(none()) };
    if line.contains(|character: char| character.is_control()) {
        return Err(none());
    }
    let token = line.strip_prefix("Bearer ").unwrap_or(line).trim();
    // Tokens have no colon (RFC 6750).
    Ok(if token.contains(':') { Authorization::basic(line) } else { Authorization(format!("Bearer {token}")) })
}

fn read(path: &Path) -> Result<String, InvalidRemote> {
    let bytes = read_regular_file(path, Links::Follow, LARGEST);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8")));
    text.map_err(|source| InvalidRemote::Unreadable { path: path.to_owned(), source })
}

fn from_netrc(url: &Url) -> Result<Option<Authorization>, InvalidRemote> {
    let path = match std::env::var_os("NETRC").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => match std::env::home_dir() {
            Some(home) => home.join(".netrc"),
            None => return Ok(None),
        },
    };
    if !path.exists() {
        return Ok(None);
    }
    Ok(in_netrc(&read(&path)?, url.host_str().unwrap_or_default()))
}

/// What the text of a netrc file has for a host, or for all.
fn in_netrc(text: &str, host: &str) -> Option<Authorization> {
    let mut words = netrc_words(text);
    let (mut is_for_host, mut login, mut password) = (false, None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if is_for_host && password.is_some() {
                    break;
                }
                is_for_host = word == "default" || words.next()? == host;
                (login, password) = (None, None);
            }
            "login" => login = Some(words.next()?),
            "password" => password = Some(words.next()?),
            "account" => drop(words.next()),
            _ => {}
        }
    }
    let password = password.filter(|_| is_for_host)?;
    Some(Authorization::basic(&format!("{}:{password}", login.unwrap_or_default())))
}

/// The words of a netrc file, without comments and without macros, which end with an
/// empty line.
fn netrc_words(text: &str) -> impl Iterator<Item = &str> {
    let mut in_macro = false;
    let lines = text.lines().filter(move |line| {
        in_macro = (in_macro && !line.trim().is_empty()) || line.trim_start().starts_with("macdef");
        !in_macro && !line.trim_start().starts_with('#')
    });
    lines.flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_no_credentials() {
        let new = |text: &str| RemoteAnswers::new(text, true, true, Some(Path::new("/nowhere")));
        for (text, expected) in [
            ("", "relative URL"),
            ("cache:8080", "expected http or https, and not cache"),
            ("ftp://cache/", "expected http or https, and not ftp"),
            ("http://", "empty host"),
            ("http://cache/?key=1", "expected no ?"),
            ("http://cache/#1", "expected no ?"),
        ] {
            let error = new(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.starts_with(&format!("{text:?} is not")), "{error}");
        }
        for text in ["http://user:secret@cache/", "https://secret@cache", "http://:secret@cache/", "user:secret@cache"]
        {
            let error = new(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        for (text, expected) in [
            ("http://cache", "http://cache/"),
            ("https://[::1]:8443/a", "https://[::1]:8443/a/"),
            ("http://cache/a/", "http://cache/a/"),
        ] {
            assert_eq!(address(text).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_file_has_a_password_or_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            from_file(&file).map(|authorization| authorization.0).map_err(|error| error.to_string())
        };
        assert_eq!(read("user:pass:word\n").unwrap(), "Basic dXNlcjpwYXNzOndvcmQ=");
        assert_eq!(read("\n abc.def== \n\n").unwrap(), "Bearer abc.def==");
        assert_eq!(read("Bearer abc").unwrap(), "Bearer abc");
        for wrong in ["", "\n\n", "secret\nsecret", "user:sec\u{7}ret"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("has no credentials") && !error.contains("sec"), "{error}");
        }
        std::fs::write(&file, b"\xffsecret").unwrap();
        let error = from_file(&file).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read credentials from {}: it is not UTF-8", file.display()));
        assert!(matches!(from_file(folder.path()), Err(InvalidRemote::Unreadable { .. })));
        assert_eq!(format!("{:?}", from_file(&file).unwrap_or(Authorization("Bearer secret".into()))), "(hidden)");
    }

    #[test]
    fn netrc_has_passwords_by_host() {
        let text = "# machine cache login no password no\nmachine other login a password b\n\
                    macdef init\nmachine cache login macro password macro\n\n\
                    machine cache\n  login user\n  account x\n  password word\nmachine cache login second password second\n\
                    machine no-login password only\ndefault login anonymous password me";
        let found = |host: &str, text: &str| in_netrc(text, host).map(|authorization| authorization.0);
        let basic = |text: &str| Some(Authorization::basic(text).0);
        assert_eq!(found("cache", text), basic("user:word"));
        assert_eq!(found("other", text), basic("a:b"));
        assert_eq!(found("no-login", text), basic(":only"));
        assert_eq!(found("unknown", text), basic("anonymous:me"));
        for text in
            ["", "machine cache", "machine", "machine cache login a", "machine cache login a password", "cache a b"]
        {
            assert_eq!(found("cache", text), None, "{text}");
        }
    }
}
