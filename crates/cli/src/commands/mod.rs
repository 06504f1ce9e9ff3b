//! The commands.

mod build;
mod cache;
mod check;
mod completions;
mod event_loop;
mod finish;
mod hookd;
mod run;

use self::build::Plan;
use crate::arguments::{Arguments, CommandArguments};
use crate::exit::{Exit, Failure};

/// Does what the command line asks for.
pub fn execute(arguments: Arguments) -> Result<Exit, Failure> {
    let log = arguments.log;
    match arguments.command {
        CommandArguments::Metadata(arguments) => build::execute(Plan::metadata(*arguments)?, &log),
        CommandArguments::Wheel(arguments) => build::execute(Plan::wheel(*arguments)?, &log),
        CommandArguments::Sdist(arguments) => build::execute(Plan::sdist(*arguments)?, &log),
        CommandArguments::Editable(arguments) => build::execute(Plan::editable(*arguments)?, &log),
        CommandArguments::Run(arguments) => run::execute(*arguments),
        CommandArguments::Check(arguments) => check::execute(*arguments),
        CommandArguments::Hookd(arguments) => hookd::execute(arguments),
        CommandArguments::Cache(arguments) => cache::execute(arguments),
        CommandArguments::Completions(arguments) => completions::execute(&arguments),
    }
}
