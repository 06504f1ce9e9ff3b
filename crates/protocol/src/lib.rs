//! The protocol between a supervisor and a *hookd*, the daemon that runs [PEP 517] build hooks:
//! types, parsing and writing. No I/O and no runtime: bytes in, bytes out.
//!
//! # Theory
//!
//! Both directions are lines, each ended by `\n`, of UTF-8 where paths may hold any other byte
//! (Python's *surrogateescape*). The worker sends **messages**: a kind in capitals, then what
//! belongs to it ([`Message`]). The caller sends bare **values**, one a line, each of which answers
//! an `EXPECT` ([`Expectation`]); the first is an [`Action`].
//!
//! ```text
//! worker                                caller
//! READY
//! EXPECT action                         run
//! EXPECT build_backend                  flit_core.buildapi      (empty: setuptools, legacy)
//! EXPECT backend_path                   backend                 (one a line)
//!                                                               (empty: the end of the list)
//! EXPECT hook_name                      build_sdist
//! EXPECT sdist_directory                /out
//! EXPECT config_settings                {"--quiet": ""}         (empty: None)
//! STDOUT /tmp/1.out
//! STDERR /tmp/1.err                     from here on the request is accepted
//! OK "six-1.17.0.tar.gz"
//! READY
//! ```
//!
//! A caller need not wait for each `EXPECT`: [`HookCall::encode`] gives a whole request as one
//! buffer, to be written ahead. It refuses whatever would break the framing, such as a path with a
//! newline, so that a request can never be read as something else than it was.
//!
//! What comes back goes through [`LineDecoder`], which cuts bytes into lines under a limit, and
//! [`Message::parse`]. A kind that is not known is [`Message::Unknown`], which callers skip; a line
//! that is no message at all, or a known kind with a payload that it cannot have, is a
//! [`MalformedMessage`]: after it nothing that the worker says can be trusted. End of input inside a
//! line is [`UnfinishedLine`], which is not the same as a worker that ended.
//!
//! Of the two [forms](Form), supervisors use [`Form::Json`] (a worker started with `--json`).
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

mod action;
mod call;
mod decode;
mod expectation;
mod failure;
mod form;
mod hook;
mod lines;
mod malformed;
mod message;
mod text;

pub use action::{Action, UnknownAction};
pub use call::{HookCall, MalformedHookArgument};
pub use decode::MalformedRequest;
pub use expectation::{Expectation, UnknownExpectation};
pub use failure::{Failure, HookErrorKind, UnknownErrorKind};
pub use form::Form;
pub use hook::{Argument, Hook, UnknownHook};
pub use lines::{LineDecoder, LineTooLong, UnfinishedLine};
pub use malformed::{MalformedMessage, Reason};
pub use message::{ImportedModule, Message, ShadowedModule};
