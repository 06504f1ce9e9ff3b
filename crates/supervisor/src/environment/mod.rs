//! Interpreters: found, asked who they are, and given their environment.

mod freshness;
mod interpreter;
mod offered;
mod probe;
mod stamp;

pub(crate) use freshness::Freshness;
pub use interpreter::Interpreter;
pub(crate) use offered::{is_folder, is_package, module_of_file};
pub(crate) use probe::Interpreters;
pub use probe::{InterpreterError, KnownInterpreter};
pub(crate) use stamp::{Stamp, Watched};
