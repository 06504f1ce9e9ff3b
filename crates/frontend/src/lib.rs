//! What a person wants from a source tree: its metadata, a wheel, a source
//! distribution. On top of [`hookpool_supervisor`], which runs single hooks.
#![forbid(unsafe_code)]

pub mod jobserver;
