//! `hookpool`: runs Python build hooks through supervised pools of workers.
//!
//! The command line ([`arguments`]) is resolved to [`settings`], which a command
//! ([`commands`]) carries out. This file turns the outcome into an exit code.
#![forbid(unsafe_code)]

mod arguments;
mod building;
mod commands;
mod console;
mod event_readers;
mod exit;
mod flags;
mod folders;
mod format;
mod hooks;
mod lifecycle;
mod logging;
mod observer;
mod pool;
mod service;
mod settings;
mod signals;
mod streams;
mod timings;

use std::convert::Infallible;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

use crate::arguments::Arguments;
use crate::exit::Failure;

/// How long a reader of standard error that stalls may delay the exit.
const CONSOLE_GRACE: Duration = Duration::from_secs(1);

/// The stack size of the program, in bytes. The main thread may have too little: its
/// size follows `ulimit -s`.
const STACK: usize = 8 << 20;

fn main() {
    let_owner_open_own_files();
    let work = std::thread::Builder::new().name("hookpool".into()).stack_size(STACK).spawn(work);
    match work.map(std::thread::JoinHandle::join) {
        Ok(Ok(never)) => match never {},
        // The panic has printed its message.
        Ok(Err(_)) => std::process::exit(101),
        Err(error) => {
            let exit = Failure::pool(format!("cannot start a thread: {error}")).report();
            std::process::exit(exit.code());
        }
    }
}

/// With a umask such as 277, the program and the hooks could not open files that they
/// have just created. The part of the umask for groups and others stays.
fn let_owner_open_own_files() {
    let inherited = umask(Mode::empty());
    umask(inherited - Mode::S_IRWXU);
}

fn work() -> Infallible {
    let (arguments, given) = Arguments::from_environment();
    console::start();
    logging::start(&arguments.log);
    let exit = match commands::execute(arguments, &given) {
        Ok(exit) => exit,
        Err(failure) => failure.report(),
    };
    console::flush(CONSOLE_GRACE);
    // Returning would join the threads of standard input and output, which may be
    // blocked on a pipe.
    std::process::exit(exit.code());
}
