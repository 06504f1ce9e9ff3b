//! Interpreters: found, asked who they are, and given their environment.

mod interpreter;
mod probe;

pub use interpreter::Interpreter;
pub use probe::InterpreterError;
pub(crate) use probe::Interpreters;
