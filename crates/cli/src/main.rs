//! `hookpool`: runs Python build hooks through supervised pools of workers.
//!
//! Raw arguments ([`arguments`]) become settings that are checked
//! ([`settings`]), and those become work ([`commands`]). This file only maps
//! the outcome to an exit code.
#![forbid(unsafe_code)]

mod arguments;
mod cache;
mod capture;
mod commands;
mod console;
mod exit;
mod flags;
mod jobserver;
mod logging;
mod milliseconds;
mod observer;
mod pool;
mod settings;
mod signals;
mod streams;
mod timings;

use std::convert::Infallible;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

use crate::arguments::Arguments;
use crate::exit::Failure;

/// How long a reader of standard error who stalls may take for the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The stack that the program has, in bytes: what `ulimit -s` leaves to the
/// main thread may be too little.
const STACK: usize = 8 << 20;

fn main() {
    leave_own_files_to_their_owner();
    let work = std::thread::Builder::new().name("hookpool".into()).stack_size(STACK).spawn(work);
    match work.map(std::thread::JoinHandle::join) {
        Ok(Ok(never)) => match never {},
        // It has told why.
        Ok(Err(_)) => std::process::exit(101),
        Err(error) => {
            let exit = Failure::pool(format!("no thread can be started: {error}")).report();
            std::process::exit(exit.code());
        }
    }
}

/// A umask that takes from the owner of a file (`umask 277`) would keep the
/// program, and the hooks, from files that they have just made. What it says of
/// others stays.
fn leave_own_files_to_their_owner() {
    let given = umask(Mode::empty());
    umask(given - Mode::S_IRWXU);
}

fn work() -> Infallible {
    let arguments = Arguments::from_environment();
    console::start();
    logging::start(&arguments.log);
    let exit = match commands::execute(arguments) {
        Ok(exit) => exit,
        Err(failure) => failure.report(),
    };
    console::flush(LAST_WORDS);
    // Not by returning: the threads that read standard input and write
    // standard output may be waiting for somebody else's end of a pipe.
    std::process::exit(exit.code());
}
