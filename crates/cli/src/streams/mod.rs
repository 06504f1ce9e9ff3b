//! Standard input and output, read and written without keeping anybody waiting.

pub mod output;
pub mod patient;
