//! What a worker says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expectation::Expectation;
use crate::failure::Failure;
use crate::form::{Form, read_json, write_json};
use crate::malformed::{MalformedMessage, Reason};
use crate::text::{lossy, push_plain};

/// A message of a worker.
///
/// In the order of one request: `READY`, `EXPECT`..., `STDOUT`, `STDERR`, `HOOK`, `SILENT`, then `OK`
/// or `ERROR` (and `TRACEBACK`), `IMPORTED`, `READY`. `DEBUG` and `PONG` may come anywhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `READY`: the worker can take a request.
    Ready,
    /// `EXPECT <name>`: the worker waits for this value, unless it was written ahead.
    Expect(Expectation),
    /// `DEBUG <message>`: for people.
    Debug(String),
    /// `STDOUT <path>`: where the hook's standard output goes; the caller deletes the file.
    Stdout(PathBuf),
    /// `STDERR <path>`: the same for standard error. With it the request is accepted.
    Stderr(PathBuf),
    /// `HOOK <pid>`: the hook runs, in this process (`--control`).
    HookStarted(u32),
    /// `SILENT`: the hook has ended and written nothing to its two files (`--reuse-captures`).
    Silent,
    /// `OK <data>`: what the hook returned.
    Ok(Value),
    /// `ERROR <kind> <message>`: the hook failed, the worker lives on.
    Error(Failure),
    /// `FATAL <kind> <message>`: the worker failed, and exits.
    Fatal(Failure<String>),
    /// `TRACEBACK <lines>`: of the `ERROR` or `FATAL` before it.
    Traceback(String),
    /// `IMPORTED <json>`: what the hook newly imported, in order (`--report-imports`).
    Imported(Vec<ImportedModule>),
    /// `SHADOWED <json>`: preloaded modules that the hook's own `sys.path` would have led elsewhere for
    /// (`--report-shadowed`).
    Shadowed(Vec<ShadowedModule>),
    /// `PONG <token>`: the answer to [`Action::Ping`](crate::Action::Ping) (`--control`).
    Pong(String),
    /// `SHUTDOWN`: the worker exits, as it was asked to.
    Shutdown,
    /// `KEEPING <count>`: before `SHUTDOWN`: so many processes that hooks detached still live, and
    /// the worker stays for them until the end of its input (`--control`).
    Keeping(u32),
    /// A kind that is not known here; callers skip it.
    Unknown {
        /// The first word.
        kind: String,
        /// What follows, without the space between.
        rest: String,
    },
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
}

/// A module that was loaded from elsewhere than the hook would have loaded it from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShadowedModule {
    /// The dotted name.
    pub name: String,
    /// The file that it was loaded from.
    pub loaded: String,
    /// The file that the hook would have loaded; empty if it would have found none.
    pub found: String,
}

impl Message {
    /// Reads a line, without its `\n`, of a worker started with `--json`.
    ///
    /// # Errors
    ///
    /// When the line does not begin with a word of capitals and underscores, and when a known kind
    /// has a payload that it cannot have. An `EXPECT` of something unknown is such a case: the
    /// worker would wait forever.
    pub fn parse(line: &[u8]) -> Result<Self, MalformedMessage> {
        Message::parse_as(Form::Json, line)
    }

    /// Reads a line, without its `\n`, of a worker that writes in this form.
    pub fn parse_as(form: Form, line: &[u8]) -> Result<Self, MalformedMessage> {
        read(form, line).map_err(|reason| MalformedMessage::new(line, reason))
    }

    /// The message as one line with its `\n`, as a worker started with `--json` writes it.
    ///
    /// Every message comes back from [`parse`](Message::parse) as it was, if its plain values
    /// (paths, tokens, `DEBUG`) are such as the protocol can carry: no newlines, and not empty
    /// where something is needed.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Form::Json)
    }

    /// The message as one line with its `\n`, as a worker of this form writes it.
    pub fn encode_as(&self, form: Form) -> Vec<u8> {
        let mut out = self.kind().as_bytes().to_vec();
        let kind_end = out.len();
        out.push(b' ');
        self.write_payload(form, &mut out);
        if out.len() == kind_end + 1 {
            out.truncate(kind_end);
        }
        out.push(b'\n');
        out
    }

    /// The first word of the message, such as `READY`.
    pub fn kind(&self) -> &str {
        match self {
            Message::Ready => "READY",
            Message::Expect(_) => "EXPECT",
            Message::Debug(_) => "DEBUG",
            Message::Stdout(_) => "STDOUT",
            Message::Stderr(_) => "STDERR",
            Message::HookStarted(_) => "HOOK",
            Message::Silent => "SILENT",
            Message::Ok(_) => "OK",
            Message::Error(_) => "ERROR",
            Message::Fatal(_) => "FATAL",
            Message::Traceback(_) => "TRACEBACK",
            Message::Imported(_) => "IMPORTED",
            Message::Shadowed(_) => "SHADOWED",
            Message::Pong(_) => "PONG",
            Message::Shutdown => "SHUTDOWN",
            Message::Keeping(_) => "KEEPING",
            Message::Unknown { kind, .. } => kind,
        }
    }

    fn write_payload(&self, form: Form, out: &mut Vec<u8>) {
        match self {
            Message::Ready | Message::Silent | Message::Shutdown => {}
            Message::Expect(expectation) => push_plain(out, expectation.name().as_bytes()),
            Message::Stdout(path) | Message::Stderr(path) => push_path(out, path),
            Message::HookStarted(number) | Message::Keeping(number) => push_plain(out, number.to_string().as_bytes()),
            Message::Ok(value) => form.write_result(out, value),
            Message::Error(failure) => form.write_error(out, failure),
            Message::Fatal(failure) => form.write_fatal(out, failure),
            Message::Traceback(text) => form.write_text(out, text),
            Message::Imported(modules) => write_json(out, modules),
            Message::Shadowed(modules) => write_json(out, modules),
            Message::Debug(text) | Message::Pong(text) | Message::Unknown { rest: text, .. } => {
                push_plain(out, text.as_bytes());
            }
        }
    }
}

fn push_path(out: &mut Vec<u8>, path: &Path) {
    push_plain(out, path.as_os_str().as_bytes());
}

fn read(form: Form, line: &[u8]) -> Result<Message, Reason> {
    let (kind, payload) = split(line).ok_or(Reason::NotAMessage)?;
    Ok(match kind {
        "READY" => nothing("READY", payload, Message::Ready)?,
        "EXPECT" => Message::Expect(read_expectation(payload)?),
        "DEBUG" => Message::Debug(lossy(payload)),
        "STDOUT" => Message::Stdout(read_path("STDOUT", payload)?),
        "STDERR" => Message::Stderr(read_path("STDERR", payload)?),
        "HOOK" => Message::HookStarted(read_positive("HOOK", "a positive process id", payload)?),
        "SILENT" => nothing("SILENT", payload, Message::Silent)?,
        "OK" => Message::Ok(form.read_result("OK", payload)?),
        "ERROR" => Message::Error(form.read_failure("ERROR", payload, |name| name.parse().ok())?),
        "FATAL" => Message::Fatal(form.read_failure("FATAL", payload, read_exception_name)?),
        "TRACEBACK" => Message::Traceback(form.read_text("TRACEBACK", payload)?),
        "IMPORTED" => Message::Imported(read_json("IMPORTED", "a JSON list of modules", payload)?),
        "SHADOWED" => Message::Shadowed(read_json("SHADOWED", "a JSON list of modules", payload)?),
        "PONG" if payload.is_empty() => {
            return Err(Reason::Payload { kind: "PONG", expected: "a token" });
        }
        "PONG" => Message::Pong(lossy(payload)),
        "KEEPING" => Message::Keeping(read_positive("KEEPING", "a positive number of processes", payload)?),
        "SHUTDOWN" => nothing("SHUTDOWN", payload, Message::Shutdown)?,
        _ => Message::Unknown { kind: kind.to_owned(), rest: lossy(payload) },
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

fn read_expectation(payload: &[u8]) -> Result<Expectation, Reason> {
    let expected = "the name of a value, such as action or config_settings";
    (lossy(payload).parse()).map_err(|_| Reason::Payload { kind: "EXPECT", expected })
}

fn read_path(kind: &'static str, payload: &[u8]) -> Result<PathBuf, Reason> {
    if payload.is_empty() || payload.contains(&b'\0') {
        return Err(Reason::Payload { kind, expected: "a path" });
    }
    Ok(PathBuf::from(OsStr::from_bytes(payload)))
}

/// Reads digits. Zero and what exceeds `pid_t` would name other processes when signalled.
fn read_positive(kind: &'static str, expected: &'static str, payload: &[u8]) -> Result<u32, Reason> {
    (str::from_utf8(payload).ok())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i32>().ok())
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|&pid| pid > 0)
        .ok_or(Reason::Payload { kind, expected })
}

fn read_exception_name(name: &str) -> Option<String> {
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}
