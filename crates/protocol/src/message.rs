//! What a worker writes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::failure::{Details, Failure, HookErrorKind};
use crate::lines::excerpt;

/// A message of a worker that was started with `--json`.
///
/// In the order of one request: `READY`, `STDOUT`, `STDERR`, `SILENT`, `OBSERVED`, then `OK` or
/// `ERROR` (and `TRACEBACK`), `IMPORTED`, `SHADOWED`, `READY`. `DEBUG` and `PONG` may come anywhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `READY`: the worker can take a request.
    Ready,
    /// `DEBUG <message>`: text for people.
    Debug(String),
    /// `STDOUT <path>`: the file of the hook's standard output; the caller deletes it. The request is
    /// accepted with this message.
    Stdout(PathBuf),
    /// `STDERR <path>`: the file of the hook's standard error.
    Stderr(PathBuf),
    /// `SILENT`: the hook has ended and written nothing to its two files (`--reuse-captures`).
    Silent,
    /// `OBSERVED <json>`: what the hook used beside its tree and its environment (`--observe`).
    Observed(Observed),
    /// `OK <data>`: the hook's result.
    Ok(Value),
    /// `ERROR <kind> <message>`: the hook failed; the worker goes on.
    Error(Failure),
    /// `FATAL <kind> <message>`: the worker failed, and exits.
    Fatal(Failure<String>),
    /// `TRACEBACK <lines>`: of the `ERROR` or `FATAL` before it.
    Traceback(String),
    /// `IMPORTED <json>`: the modules that the hook imported, in order (`--report-imports`).
    Imported(Vec<ImportedModule>),
    /// `SHADOWED <json>`: preloaded modules that the hook would have found elsewhere on its own
    /// `sys.path` (`--report-shadowed`).
    Shadowed(Vec<ShadowedModule>),
    /// `PONG <token>`: the answer to [`Action::Ping`](crate::Action::Ping) (`--control`).
    Pong(String),
    /// `SHUTDOWN`: the worker exits, as it was told to.
    Shutdown,
    /// `KEEPING <count>`, before `SHUTDOWN`: the number of processes that hooks detached and that
    /// still run. The worker stays for them until the end of its input (`--control`).
    Keeping(u32),
    /// A message that no caller of this crate needs: `EXPECT`, or a kind that is not known here.
    Other,
}

/// What a hook process was seen to use beside its tree and its environment, from the start of its
/// template or worker on. Lists are sorted.
///
/// It can be a reason not to rely on the hook's result, and is never a proof that one may: Python
/// reports neither that the state of a file was asked for, nor what code in C does by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The environment variables of the patterns given to `--observe` that were read.
    pub variables: Vec<String>,
    /// All environment variables were read: `os.environ` was copied, or looked through.
    pub environment_taken: bool,
    /// The programs that were started, by the names that they were called by; `a process` for one
    /// that was forked.
    pub programs: Vec<String>,
    /// What was done with the network, such as `connect` and `getaddrinfo`.
    pub network: Vec<String>,
    /// Paths that were opened or changed outside of all known folders, whether or not there was
    /// something, and that the hook had not made itself. With a slash at its end: a folder that was
    /// listed.
    pub outside: Vec<String>,
    /// What was made, changed, renamed or removed inside the tree, relative to it. With a slash at its
    /// end: a folder and all that is in it. `None` if that is not known. What other processes wrote is
    /// not in it; see `programs`.
    pub written: Option<Vec<String>>,
    /// `programs`, `network` or `outside` had more than is listed.
    pub truncated: bool,
}

impl Observed {
    /// The largest JSON of an `OBSERVED` message, in bytes.
    pub const LIMIT: usize = 1 << 20;
}

/// A module that a hook imported, and the state of its file at that time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImportedModule {
    /// The dotted name.
    pub name: String,
    /// Where it was loaded from; none for modules without a file. Undecodable bytes are replaced,
    /// so such a path leads nowhere.
    pub file: Option<String>,
    /// When the file was last modified, in nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
    /// Size of the file in bytes.
    pub size: Option<u64>,
    /// Whether a template may import it ahead of hooks: it belongs to the standard library, or to a
    /// distribution that hookd knows.
    #[serde(default)]
    pub preloadable: bool,
}

/// A preloaded module that the hook would have loaded from another file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShadowedModule {
    /// The dotted name.
    pub name: String,
    /// The file that it was loaded from.
    pub loaded: String,
    /// The file that the hook would have loaded; empty if it would have found none.
    pub found: String,
}

/// A violation of the protocol: nothing that the worker writes after it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("malformed message {line:?}: {reason}")]
pub struct MalformedMessage {
    /// The start of the line, at most 200 characters, undecodable bytes replaced.
    pub line: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why a line is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// It is not a message, but the output of another program, for example.
    #[error("expected a kind in capitals, such as READY, then a space or the end of the line")]
    NotAMessage,
    /// A message of a known kind, with a payload that this kind cannot have.
    #[error("expected {expected} after {kind}")]
    Payload {
        /// The kind of the message.
        kind: &'static str,
        /// The payload that was expected.
        expected: &'static str,
    },
    /// The payload is not valid JSON, or not the expected JSON.
    #[error("expected {expected} after {kind}, {error}")]
    Json {
        /// The kind of the message.
        kind: &'static str,
        /// The payload that was expected.
        expected: &'static str,
        /// The JSON parser's message, with line and column in the payload.
        error: String,
    },
}

impl Message {
    /// Reads a line, without its `\n`.
    ///
    /// # Errors
    ///
    /// The line does not begin with a word of capitals and underscores, or a known kind has a
    /// payload that it cannot have.
    pub fn parse(line: &[u8]) -> Result<Self, MalformedMessage> {
        read(line).map_err(|reason| MalformedMessage { line: excerpt(line), reason })
    }
}

fn read(line: &[u8]) -> Result<Message, Reason> {
    let (kind, payload) = split(line).ok_or(Reason::NotAMessage)?;
    Ok(match kind {
        "READY" => nothing("READY", payload, Message::Ready)?,
        "DEBUG" => Message::Debug(lossy(payload)),
        "STDOUT" => Message::Stdout(read_path("STDOUT", payload)?),
        "STDERR" => Message::Stderr(read_path("STDERR", payload)?),
        "SILENT" => nothing("SILENT", payload, Message::Silent)?,
        "OBSERVED" if payload.len() > Observed::LIMIT => {
            return Err(Reason::Payload { kind: "OBSERVED", expected: "at most 1 MiB" });
        }
        "OBSERVED" => Message::Observed(read_json("OBSERVED", "a JSON object of what was observed", payload)?),
        "OK" => Message::Ok(read_json("OK", "JSON", payload)?),
        "ERROR" => Message::Error(read_failure("ERROR", payload, HookErrorKind::from_name)?),
        "FATAL" => Message::Fatal(read_failure("FATAL", payload, exception_name)?),
        "TRACEBACK" => Message::Traceback(read_json("TRACEBACK", "a JSON string", payload)?),
        "IMPORTED" => Message::Imported(read_json("IMPORTED", "a JSON list of modules", payload)?),
        "SHADOWED" => Message::Shadowed(read_json("SHADOWED", "a JSON list of modules", payload)?),
        "PONG" if payload.is_empty() => {
            return Err(Reason::Payload { kind: "PONG", expected: "a token" });
        }
        "PONG" => Message::Pong(lossy(payload)),
        "KEEPING" => Message::Keeping(read_positive("KEEPING", "a positive number of processes", payload)?),
        "SHUTDOWN" => nothing("SHUTDOWN", payload, Message::Shutdown)?,
        _ => Message::Other,
    })
}

/// Splits a line into its kind, `[A-Z][A-Z_]*`, and what follows the space after it.
fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    let (kind, rest) = line.split_at(end);
    let capitals = kind.first().is_some_and(u8::is_ascii_uppercase)
        && kind.iter().all(|&byte| byte.is_ascii_uppercase() || byte == b'_');
    let kind = str::from_utf8(kind).ok().filter(|_| capitals)?;
    Some((kind, rest.strip_prefix(b" ").unwrap_or(rest)))
}

fn nothing(kind: &'static str, payload: &[u8], message: Message) -> Result<Message, Reason> {
    match payload {
        b"" => Ok(message),
        _ => Err(Reason::Payload { kind, expected: "nothing" }),
    }
}

fn read_path(kind: &'static str, payload: &[u8]) -> Result<PathBuf, Reason> {
    if payload.is_empty() || payload.contains(&b'\0') {
        return Err(Reason::Payload { kind, expected: "a path" });
    }
    Ok(PathBuf::from(OsStr::from_bytes(payload)))
}

/// Reads digits. Zero, and what exceeds `pid_t`, would name other processes in a call of kill(2).
fn read_positive(kind: &'static str, expected: &'static str, payload: &[u8]) -> Result<u32, Reason> {
    (str::from_utf8(payload).ok())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i32>().ok())
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|&pid| pid > 0)
        .ok_or(Reason::Payload { kind, expected })
}

/// Reads `<kind of failure> <JSON object>`.
fn read_failure<K>(
    kind: &'static str,
    payload: &[u8],
    read_kind: impl FnOnce(&str) -> Option<K>,
) -> Result<Failure<K>, Reason> {
    let end = payload.iter().position(|&byte| byte == b' ').unwrap_or(payload.len());
    let (name, details) = payload.split_at(end);
    let failure_kind =
        read_kind(&lossy(name)).ok_or(Reason::Payload { kind, expected: "one of the kinds of failure" })?;
    let details = details.strip_prefix(b" ").unwrap_or(details);
    let expected = "a JSON object after the kind of failure";
    // serde would also take an array, as the fields in their order.
    if !details.starts_with(b"{") {
        return Err(Reason::Payload { kind, expected });
    }
    read_json(kind, expected, details).map(|details: Details| details.into_failure(failure_kind))
}

fn exception_name(name: &str) -> Option<String> {
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

fn read_json<T: DeserializeOwned>(kind: &'static str, expected: &'static str, payload: &[u8]) -> Result<T, Reason> {
    serde_json::from_str(&String::from_utf8_lossy(payload)).map_err(|error| Reason::Json {
        kind,
        expected,
        error: error.to_string(),
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
