//! The protocol between a supervisor and a *hookd*, the daemon that runs [PEP 517] build hooks:
//! types, parsing and writing. No I/O and no runtime: bytes in, bytes out.
//!
//! # Theory
//!
//! Both directions are lines, each ended by `\n`, in UTF-8, except that paths may hold any other byte
//! (Python's *surrogateescape*). The worker writes **messages**: a kind in capitals, then a payload
//! ([`Message`]). The caller writes bare **values**, one a line; the first is an [`Action`].
//!
//! ```text
//! caller                    worker
//!                           READY
//! run
//! flit_core.buildapi        (backend; empty: setuptools, legacy)
//! backend                   (backend path, one folder a line)
//!                           (empty: the end of that list)
//! build_sdist
//! /out                      (sdist_directory)
//! {"--quiet": ""}           (config_settings; empty: None)
//!                           STDOUT /tmp/1.out      from here on the request is accepted
//!                           STDERR /tmp/1.err
//!                           OK "six-1.17.0.tar.gz"
//!                           READY
//! ```
//!
//! Before it reads a value, the worker writes `EXPECT` and the name of the value, for people who talk
//! to it. This crate writes whole requests ahead ([`HookCall::encode`]) and skips these messages.
//! `encode` refuses whatever would break the framing, such as a path with a newline, so that no
//! request can be mistaken for another.
//!
//! To read, [`LineDecoder`] cuts bytes into lines of a limited length, and [`Message::parse`] reads a
//! line. A kind that is not known is [`Message::Other`], which callers skip. A line that is not a
//! message, or a known kind with a payload that it cannot have, is a [`MalformedMessage`]: nothing
//! that the worker writes after it can be trusted. An end of input inside a line is an
//! [`UnfinishedLine`]; an end between lines is not an error here.
//!
//! # Example
//!
//! ```
//! use hookd_protocol::{Hook, HookCall, LineDecoder, Message};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let call = HookCall {
//!     build_backend: Some("flit_core.buildapi".into()),
//!     sdist_directory: Some("/out".into()),
//!     ..HookCall::new(Hook::BuildSdist)
//! };
//! assert_eq!(call.encode()?, b"run\nflit_core.buildapi\n\nbuild_sdist\n/out\n\n");
//!
//! let mut lines = LineDecoder::new();
//! lines.push(b"OK \"six-1.17.0.tar.gz\"\nREA");
//! let line = lines.next_line()?.expect("one line is complete");
//! assert_eq!(Message::parse(&line)?, Message::Ok("six-1.17.0.tar.gz".into()));
//! assert_eq!(lines.next_line()?, None);
//! assert!(lines.finish().is_err(), "the input ended inside a message");
//! # Ok(())
//! # }
//! ```
//!
//! [PEP 517]: https://peps.python.org/pep-0517/
#![forbid(unsafe_code)]

mod failure;
mod hook;
mod lines;
mod message;
mod request;

pub use failure::{Failure, HookErrorKind};
pub use hook::{Argument, Hook, UnknownHook};
pub use lines::{LineDecoder, LineTooLong, UnfinishedLine};
pub use message::{ImportedModule, MalformedMessage, Message, Observed, Reason, ShadowedModule};
pub use request::{Action, HookCall, MalformedHookArgument};
