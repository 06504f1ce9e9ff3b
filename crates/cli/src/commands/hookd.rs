//! `hookpool hookd`: the bare worker, in place of this process.

use std::os::unix::process::CommandExt;
use std::process::Command;

use hookpool_supervisor::WorkerProgram;

use crate::arguments::HookdArguments;
use crate::cache;
use crate::exit::{Exit, Failure};
use crate::signals;

/// Becomes the worker; returns only where that fails.
pub fn execute(arguments: HookdArguments) -> Result<Exit, Failure> {
    survive_file_size_limit().map_err(|error| Failure::pool(format!("cannot listen to signals: {error}")))?;
    let folder = cache::lasting(arguments.cache.cache_dir)?;
    let program = WorkerProgram::unpack(&folder).map_err(Failure::pool)?;
    let python = arguments.interpreter.python;
    let error = Command::new(&python).arg(program.path()).args(arguments.arguments).exec();
    Err(Failure::pool(format!("interpreter {} cannot be started: {error}", python.display())))
}

/// The program that is unpacked may be larger than files may be here.
fn survive_file_size_limit() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    signals::survive_file_size_limit()
}
