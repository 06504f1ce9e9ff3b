//! Answers that machines share: a store on a server that speaks HTTP as bazel-remote
//! does.
//!
//! ```text
//! GET, PUT /ac/KEY              an entry, as it lies in the cache folder
//! GET, HEAD, PUT /cas/SHA256    the content of a file
//! ```
//!
//! The server is not trusted to answer at all, in time, or with what was stored. It is
//! trusted not to let others store: whoever can write to it decides what hooks return.

mod client;
mod portable;
mod settings;
#[cfg(test)]
mod tests;
mod uploads;

pub(super) use client::Remote;
pub use settings::{InvalidRemote, RemoteAnswers};
pub(super) use uploads::{Upload, Uploads};
