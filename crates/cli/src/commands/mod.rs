//! The commands.

mod cache;
mod check;
mod completions;
mod hookd;
mod run;

use crate::arguments::CommandArguments;
use crate::exit::{Exit, Failure};

/// Does what the command line asks for.
pub fn execute(command: CommandArguments) -> Result<Exit, Failure> {
    match command {
        CommandArguments::Run(arguments) => run::execute(*arguments),
        CommandArguments::Check(arguments) => check::execute(*arguments),
        CommandArguments::Hookd(arguments) => hookd::execute(arguments),
        CommandArguments::Cache(arguments) => cache::execute(arguments),
        CommandArguments::Completions(arguments) => completions::execute(&arguments),
    }
}
