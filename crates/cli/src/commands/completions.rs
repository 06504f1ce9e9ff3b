//! `hookpool completions`: the completion script of a shell.

use std::io::{ErrorKind, Write};

use crate::arguments::{CompletionsArguments, command};
use crate::exit::{Exit, Failure};

/// Writes the script to standard output.
pub fn execute(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    // Not straight to standard output: clap panics where that is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "hookpool", &mut script);
    let mut output = std::io::stdout().lock();
    match output.write_all(&script).and_then(|()| output.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
        Err(error) => Err(Failure::pool(format!("cannot write to standard output: {error}"))),
    }
}
