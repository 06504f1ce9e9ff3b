//! Standard input and output, read and written without keeping anybody waiting.

pub mod input;
pub mod output;
mod own_pipe;
mod patient;
