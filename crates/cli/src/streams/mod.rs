//! Standard input and output, read and written without blocking the event loop.

pub mod input;
pub mod output;
mod own_pipe;
mod patient;
