//! The commands.

mod build;
mod cache;
mod check;
mod control;
mod run;
mod serve;
mod status;
mod top;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use hookpool_supervisor::WorkerProgram;

use crate::arguments::{self, Arguments, CommandArguments, CompletionsArguments, GivenFlag, HookdArguments};
use crate::exit::{Exit, Failure};
use crate::settings::BuildSettings;
use crate::{folders, lifecycle, signals};

/// Runs the command that the command line names.
pub fn execute(arguments: Arguments, given: &[GivenFlag]) -> Result<Exit, Failure> {
    let log = arguments.log;
    match arguments.command {
        CommandArguments::Metadata(arguments) => build::execute(BuildSettings::metadata(*arguments)?, given, &log),
        CommandArguments::Wheel(arguments) => build::execute(BuildSettings::wheel(*arguments)?, given, &log),
        CommandArguments::Sdist(arguments) => build::execute(BuildSettings::sdist(*arguments)?, given, &log),
        CommandArguments::Editable(arguments) => build::execute(BuildSettings::editable(*arguments)?, given, &log),
        CommandArguments::Run(arguments) => run::execute(*arguments),
        CommandArguments::Serve(arguments) => serve::execute(*arguments),
        CommandArguments::Status(arguments) => status::execute(arguments),
        CommandArguments::Top(arguments) => top::execute(arguments.place),
        CommandArguments::Ctl(arguments) => control::execute(arguments.command),
        CommandArguments::Check(arguments) => check::execute(*arguments),
        CommandArguments::Hookd(arguments) => hookd(arguments),
        CommandArguments::Cache(arguments) => cache::execute(arguments),
        CommandArguments::Completions(arguments) => completions(&arguments),
    }
}

/// `hookpool hookd`: replaces this process by the bare worker; returns only if
/// that fails.
fn hookd(arguments: HookdArguments) -> Result<Exit, Failure> {
    // The unpacked program may exceed the limit of file sizes.
    survive_file_size_limit().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    let folder = folders::lasting_cache(arguments.cache.cache_dir)?;
    let program = WorkerProgram::unpack(&folder).map_err(Failure::pool)?;
    let python = arguments.interpreter.python;
    let error = Command::new(&python).arg(program.path()).args(arguments.arguments).exec();
    Err(Failure::pool(format!("interpreter {} cannot be started: {error}", python.display())))
}

fn survive_file_size_limit() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    signals::survive_file_size_limit()
}

/// `hookpool completions`: writes the completion script of a shell.
fn completions(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    // clap panics if it writes to a closed standard output.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut arguments::command(), "hookpool", &mut script);
    print(&script)
}

/// Writes the whole output of a short command.
fn print(text: &[u8]) -> Result<Exit, Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => lifecycle::output_failed(error),
    }
}
